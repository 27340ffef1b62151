"""Random lives of a deployment in the seeded world: what must hold, holds at every instant.

`World.check` runs after every turn: ranges cover everything once, whoever answers is loaded and
admitted, a champion leaves nobody without an answer. Here the schedule is drawn: releases of every
kind, aborts, latches, crashes, worker restarts, outages of Git, the fleet and the database. Once
the faults end, every rollout ends, and the journal folded through `step` is the state.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.world import Behaviour, Crash, Killer, World

from interlock.apps.views import rollout as view
from interlock.rollout import journal
from interlock.rollout.states import FINAL, State
from interlock.rollout.step import step
from interlock.trust.event import NewEvent

BEHAVIOURS = {
    "same": Behaviour(),
    "flags": Behaviour(flag_rate=0.3),
    "errors": Behaviour(error_rate=0.5),
    "crashes": Behaviour(loads=False),
}
RELEASES = st.tuples(st.just("release"), st.sampled_from(sorted(BEHAVIOURS)), st.booleans())
FAULTS = st.sampled_from(["abort", "latch", "restart", "worker", "git", "fleet", "database", "takeover"])
KILLS = st.tuples(st.just("kill"), st.integers(0, 12), st.booleans())
ACTIONS = st.lists(st.tuples(st.one_of(RELEASES, FAULTS, KILLS), st.integers(0, 8)), min_size=1, max_size=8)


def act(world: World, action: object, number: int) -> None:
    if isinstance(action, tuple) and action[0] == "release":
        world.release(f"1.{number}.0", BEHAVIOURS[action[1]], approve=action[2], watch=2)
    elif isinstance(action, tuple):
        world.restart(Killer(action[1], action[2]))
    elif action == "abort":
        world.store.append(
            NewEvent(
                time_ns=world.clock.now_ns(),
                type="rollout.abort.requested",
                actor="ada",
                origin="test",
                object="service/fraud",
                outcome="success",
                body={"service": "fraud", "reason": "complaints"},
            )
        )
    elif action == "latch" and world.scorers.table is not None:
        world.scorers.retreat("fraud", f"latch-{number}", "by hand", "ada", world.clock.now_ns())
    elif action in ("restart", "takeover"):
        world.restart(lapse=action == "takeover")
    elif action == "worker":
        world.scorers.replace_worker(number % 2)
    elif action in ("git", "fleet", "database"):
        _outage(world, str(action), True)


def _outage(world: World, what: str, down: bool) -> None:
    if what == "git":
        world.git.down = down
    elif what == "fleet":
        world.scorers.down = down
    else:
        world.store_down = down


def live(world: World, seconds: float) -> None:
    try:
        world.run(seconds)
    except Crash:
        world.check()
        world.restart(lapse=False)


@settings(max_examples=12)
@given(ACTIONS, st.integers(0, 1000))
def test_whatever_happens_the_promises_hold(actions: list[tuple[object, int]], seed: int) -> None:
    world = World(seed, tps=200, lease_s=30)
    world.release("1.0.0", watch=1)
    world.finish()
    for number, (action, seconds) in enumerate(actions, start=1):
        act(world, action, number)
        live(world, seconds)
        for what in ("git", "fleet", "database"):
            _outage(world, what, False)
    world.restart()
    live(world, 20)
    world.finish(900)
    found = list(journal.rollouts(view.read(world.store)).values())
    assert all(each.state in FINAL and not each.pending for each in found)
    assert [each for each in found if each.state is State.SETTLED][-1].version == world.serving()
    assert world.scorers.latch is None
    assert world.table.settled
    assert len(world.scorers.loaded) == 1
    folded(world)


def folded(world: World) -> None:
    """Replaying each rollout's observations through `step` gives what the journal says."""
    states = {}
    for event in view.read(world.store):
        if event.type not in journal.ENTRIES:
            continue
        entry = journal.parse(event)
        if entry.seen is None:
            states[entry.rollout.id] = entry.rollout
        else:
            states[entry.rollout.id] = step(states[entry.rollout.id], entry.seen, entry.at_ns)[0]
        assert states[entry.rollout.id] == entry.rollout
