"""A release that was merged to two environments at once waits in checking for the first of them."""

from __future__ import annotations

from tests.rollout.test_world import rollouts, settled
from tests.world import MemoryGate, World

from interlock.apps.control.wishes import Wish
from interlock.rollout.environments import NotYetError
from interlock.rollout.manifest import Manifests
from interlock.rollout.states import State
from interlock.rollout.values import Target


class WaitingGate(MemoryGate):
    """Staging has not settled until somebody says so."""

    staged = False

    def check(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        if not self.staged:
            raise NotYetError("fraud has not settled in staging yet", "it is tried again")
        return super().check(wish, manifests, champion)


def waiting() -> tuple[World, WaitingGate]:
    world = settled()
    world.gate = gate = WaitingGate(world)
    world.restart()
    world.release("1.1.0")
    world.run(5)
    assert rollouts(world)[-1].state is State.CHECKING
    return world, gate


def test_it_goes_on_by_itself_once_staging_has_settled() -> None:
    world, gate = waiting()
    gate.staged = True
    world.finish()
    assert world.serving() == "1.1.0"
    assert world.store.after(0, ("release.refused",)) == []


def test_it_is_refused_when_staging_takes_longer_than_a_hold_may_last() -> None:
    world, _ = waiting()
    world.clock.advance(86_400)
    world.run(2)
    last = rollouts(world)[-1]
    assert (last.state, "staging" in last.reason) == (State.REFUSED, True)
    assert world.serving() == "1.0.0"


def test_a_newer_commit_takes_its_place() -> None:
    world, gate = waiting()
    world.release("1.2.0")
    gate.staged = True
    world.finish()
    assert [each.state for each in rollouts(world)[1:]] == [State.SUPERSEDED, State.SETTLED]
    assert world.serving() == "1.2.0"
