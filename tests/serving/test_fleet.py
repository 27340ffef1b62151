from __future__ import annotations

import itertools

import pytest

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError
from interlock.serving import fleet
from interlock.serving.fleet import LEAVING, RETIRING, SERVING, STARTING, TRANSITIONS, Worker

STATES = (STARTING, SERVING, RETIRING, LEAVING)
EVENTS = ("ready", "late", "unfit", "silent", "hung", "replace", "relieved", "ended", "stop", "nonsense")


def worker(state: str) -> Worker:
    return Worker("1-1", state, 5, 7)


@pytest.mark.parametrize(("state", "event"), sorted(set(itertools.product(STATES, EVENTS)) - set(TRANSITIONS)))
def test_an_unlisted_event_raises_and_changes_nothing(state: str, event: str) -> None:
    given = worker(state)
    with pytest.raises(UsageError, match=event):
        fleet.apply(given, event, 9)
    assert given == worker(state)


@pytest.mark.parametrize(("state", "event"), sorted(TRANSITIONS))
def test_a_listed_event_gives_the_state_of_the_table(state: str, event: str) -> None:
    wanted, actions = TRANSITIONS[state, event]
    after, found = fleet.apply(worker(state), event, 9)
    assert found == actions
    assert (None if after is None else (after.state, after.since_ns, after.heard_ns)) == (wanted and (wanted, 9, 7))


def paths(state: str | None, left: int) -> list[tuple[str, ...]]:
    """Every sequence of events from a state to the end, at most `left` long."""
    if state is None:
        return [()]
    if not left:
        return []
    steps = [(event, after) for (before, event), (after, _) in TRANSITIONS.items() if before == state]
    return [(event, *rest) for event, after in steps for rest in paths(after, left - 1)]


def test_a_worker_that_was_not_stopped_is_replaced_exactly_once_however_it_ends() -> None:
    for path in paths(STARTING, 5):
        state: str | None = STARTING
        spawned = 0
        for event in path:
            assert state is not None
            state, actions = TRANSITIONS[state, event]
            spawned += actions.count("spawn")
        stopped_first = "stop" in path and not {"late", "unfit", "silent", "hung", "replace"} & set(
            path[: path.index("stop")]
        )
        assert spawned == (0 if stopped_first else 1), path


def test_silence_and_lateness_are_events_of_their_states_alone() -> None:
    late = 10 * NS_PER_S + 8
    assert fleet.overdue(worker(STARTING), late, 10, 1) == "late"
    assert fleet.overdue(worker(STARTING), late - 4, 10, 1) is None
    assert fleet.overdue(worker(SERVING), NS_PER_S + 8, 10, 1) == "silent"
    assert fleet.overdue(worker(SERVING), NS_PER_S + 7, 10, 1) is None
    assert fleet.overdue(worker(LEAVING), 100 * NS_PER_S, 10, 1) is None
