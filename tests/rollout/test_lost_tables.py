"""A supervisor that lost its disk gets back what it routed by, through its own checks."""

from __future__ import annotations

from tests.rollout.test_world import rollouts, settled
from tests.world import World

from interlock.rollout.states import State


def lose_the_disk(world: World) -> None:
    world.scorers.table = None
    world.scorers.latch = None
    world.scorers.loaded.clear()


def test_a_settled_table_that_was_lost_is_installed_again() -> None:
    world = settled()
    before = world.table
    lose_the_disk(world)
    world.run(3)
    assert world.serving() == "1.0.0"
    assert world.table.arms == before.arms
    assert [event.body["service"] for event in world.store.after(0, ("scorer.restored",))] == ["fraud"]
    world.run(5)
    assert len(world.store.after(0, ("scorer.restored",))) == 1


def test_a_rollout_goes_on_after_its_table_was_lost() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 10, for: 30s}")
    world.run(10)
    assert rollouts(world)[-1].state is State.CANARY
    lose_the_disk(world)
    world.run(2)
    assert {arm.version for arm in world.table.arms} == {"1.0.0", "1.1.0"}
    world.finish()
    assert world.serving() == "1.1.0"


def test_what_the_scorers_own_checks_refuse_stays_out() -> None:
    world = settled()
    lose_the_disk(world)
    world.scorers.admitted.clear()
    world.run(5)
    assert world.scorers.table is None
    assert not world.store.after(0, ("scorer.restored",))
