"""A supervisor that lost its disk gets back what it routed by, through its own checks."""

from __future__ import annotations

from tests.rollout.test_world import rollouts, settled
from tests.world import Behaviour

from interlock.rollout.states import State


def test_a_settled_table_that_was_lost_is_installed_again() -> None:
    world = settled()
    before = world.table
    world.scorers.restart(disk=False)
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
    world.scorers.restart(disk=False)
    world.run(2)
    assert {arm.version for arm in world.table.arms} == {"1.0.0", "1.1.0"}
    world.finish()
    assert world.serving() == "1.1.0"


def test_what_the_scorers_own_checks_refuse_stays_out() -> None:
    world = settled()
    world.scorers.restart(disk=False)
    world.scorers.admitted.clear()
    world.run(5)
    assert world.scorers.table is None
    assert not world.store.after(0, ("scorer.restored",))


def test_a_table_lost_while_going_back_is_restored_though_the_branch_does_not_answer() -> None:
    world = settled()
    world.release("1.1.0", Behaviour(error_rate=0.5), steps="{weight: 50, for: 60s}")
    world.until(State.CANARY)
    world.git.down = True
    world.run(10)
    assert rollouts(world)[-1].state is State.ROLLING_BACK
    world.scorers.restart(disk=False)
    world.run(3)
    assert world.serving() == "1.0.0"
    world.git.down = False
    world.finish()
    world.settled()


def test_a_candidate_lost_before_its_table_is_loaded_again() -> None:
    world = settled()
    world.release("1.1.0", steps="{shadow: 60s}")
    world.until(State.LOADING)
    assert len(world.scorers.loaded) == 2
    world.scorers.restart()
    assert len(world.scorers.loaded) == 1
    world.until(State.SHADOW)
    world.run(2)
    assert len(world.scorers.loaded) == 2
    assert [arm.version for arm in world.table.shadows] == ["1.1.0"]
