"""Kill the controller before and after every call that changes something: the end is the same.

Or let it fall asleep there, so long that another takes over, and wake again: the end is the same as
well, what it then tries is refused, and no commit is inverted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.world import Behaviour, Crash, Killer, World

from interlock.rollout.states import State

BAD = Behaviour(error_rate=0.5)
QUICK = "{shadow: 1s}, {weight: 50, for: 1s}"


@dataclass(frozen=True)
class Case:
    """A release, what people ask for in which state, and what serves in the end."""

    serves: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    policy: dict[str, Any] = field(default_factory=dict)
    asks: tuple[tuple[State, str, dict[str, Any]], ...] = ()
    beside: str = ""
    """The standing shadow in the end: the version before is kept as one. Empty: none ever is."""


CASES = {
    "good": Case("1.1.0", policy={"steps": QUICK}),
    "bad": Case("1.0.0", BAD, {"steps": "{weight: 50, for: 30s}"}),
    "unloadable": Case("1.0.0", Behaviour(loads=False), {"steps": QUICK}),
    "blue-green": Case("1.1.0", policy={"strategy": "blue-green", "steps": "{shadow: 1s}", "holdback": 0.0}),
    "shadow": Case(
        "1.1.0",
        policy={"strategy": "shadow", "steps": "{shadow: 1s}"},
        asks=((State.HELD, "resume", {"advance": True}),),
    ),
    "parity": Case("1.1.0", policy={"strategy": "parity", "steps": QUICK}),
    "ab": Case(
        "1.0.0", policy={"strategy": "ab", "steps": "", "more": "  experiment: {split: 30, for: 2s, then: champion}\n"}
    ),
    "aborted": Case("1.0.0", policy={"steps": "{weight: 10, for: 90s}"}, asks=((State.CANARY, "abort", {}),)),
    "paused": Case(
        "1.1.0",
        policy={"steps": "{weight: 10, for: 3s}"},
        asks=((State.CANARY, "pause", {}), (State.HELD, "resume", {})),
    ),
    "good, with shadows": Case("1.1.0", policy={"steps": QUICK}, beside="1.0.0"),
    "bad, with shadows": Case("1.0.0", BAD, {"steps": "{weight: 50, for: 30s}"}, beside="0.9.0"),
    "returned": Case("1.0.0", policy={"steps": QUICK}, asks=((State.SETTLED, "rollback", {"version": "1.0.0"}),)),
}


def end(case: Case, killer: Killer, sleeps: bool = False) -> tuple[object, ...]:
    """How a rollout ends under a controller that is struck where `killer` says."""
    world = World(seed=3)
    _released(world, case)
    world.restart(killer)
    if sleeps:
        killer.asleep = _taken_over(world, killer)
    before = [_row(world)] if case.beside else []
    world.release("1.1.0", case.behaviour, **{"watch": 1, "deadline": 600, "shadows": before, **case.policy})
    _live(world, list(case.asks))
    assert world.serving() == case.serves
    assert [arm.version for arm in world.table.shadows] == [each for each in (case.beside,) if each]
    # A load that was asked for before its controller slept may arrive late: it costs memory and no traffic.
    world.settled(strays=sleeps)
    last = world.rollouts()[-1]
    return (
        [each.state for each in world.rollouts()],
        last.reason,
        last.actor,
        len(world.git.commits),
        world.git.tree(world.git.head()),
        [event.body["folder"] for event in world.store.after(0, ("release.quarantined",))],
    )


def _released(world: World, case: Case) -> None:
    """1.0.0, with the version before it as its shadow where the case has shadows."""
    shadows = []
    if case.beside:
        world.release("0.9.0", watch=1)
        world.finish()
        shadows = [_row(world)]
    world.release("1.0.0", watch=1, shadows=shadows)
    world.finish()


def _row(world: World) -> dict[str, str]:
    live = world.rollouts()[-1].candidate
    assert live is not None
    return {"version": live.version, "bundle": live.bundle, "folder": live.folder}


def _taken_over(world: World, killer: Killer) -> Callable[[], None]:
    def asleep() -> None:
        killer.at = None
        world.clock.advance(world.control.lease_s + 1)
        world.beside()
        for _ in range(40):
            world.controller.turn()
            world.check()
            world.clock.advance(0.5)
            world.scorers.tick(200)

    return asleep


def _live(world: World, asks: list[tuple[State, str, dict[str, Any]]]) -> None:
    quiet = 0
    for _ in range(600):
        newest = world.rollouts()[-1]
        if asks and newest.version == "1.1.0" and newest.state is asks[0][0]:
            _, what, more = asks.pop(0)
            world.ask(what, **more)
        try:
            world.turn()
        except Crash:
            world.check()
            world.restart()
        quiet = 0 if asks or world.controller.busy() else quiet + 1
        if quiet > 6:
            return
    raise AssertionError("the rollout did not come to an end")


@pytest.mark.process  # hundreds of whole rollouts
@pytest.mark.parametrize("name", CASES)
def test_a_kill_around_any_effect_changes_nothing_about_the_end(name: str) -> None:
    watcher = Killer()
    undisturbed = end(CASES[name], watcher)
    assert len(watcher.calls) >= 10
    for number in range(len(watcher.calls)):
        for after in (False, True):
            killed = end(CASES[name], Killer(number, after))
            assert killed == undisturbed, f"{watcher.calls[number]} {number} {after}"


@pytest.mark.process  # hundreds of whole rollouts
@pytest.mark.parametrize("name", ["good", "bad", "returned", "good, with shadows"])
def test_a_leader_that_slept_around_any_effect_and_woke_changes_nothing_about_the_end(name: str) -> None:
    watcher = Killer()
    undisturbed = end(CASES[name], watcher)
    for number in range(len(watcher.calls)):
        for after in (False, True):
            slept = end(CASES[name], Killer(number, after), sleeps=True)
            assert slept == undisturbed, f"{watcher.calls[number]} {number} {after}"


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_rollout_ends_where_it_should_undisturbed(name: str) -> None:
    end(CASES[name], Killer())
