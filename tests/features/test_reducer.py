"""The reducer against the predicate itself, written out over all events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError, UsageError
from interlock.features import reducer
from interlock.features.definition import MAX_AMOUNT, Velocity, Window

SMALL = Velocity("v", "card", windows=(Window(6, 1), Window(40, 10)), lateness_s=3)
START = 1_790_000_000_000

Event = tuple[int, int]
EVENTS = st.lists(st.tuples(st.integers(0, 90_000), st.integers(-500, 5_000)), max_size=40)


def predicate(velocity: Velocity, before: list[Event], at: int) -> tuple[int, ...]:
    high = max((t for t, _ in before), default=0)
    values: list[int] = []
    for window in velocity.windows:
        hop, length = window.hop_seconds * 1000, window.seconds * 1000
        inside = [
            amount
            for t, amount in before
            if (at - length) // hop <= t // hop <= at // hop
            and t // hop >= (high - length - velocity.lateness_s * 1000) // hop
        ]
        values += [len(inside), sum(inside)]
    return tuple(values)


@given(EVENTS)
def test_every_read_equals_the_predicate_over_late_tied_and_unordered_events(offsets: list[Event]) -> None:
    state: bytes | None = None
    seen: list[Event] = []
    for offset, amount in offsets:
        at = START + offset
        assert reducer.read(SMALL, state, at) == predicate(SMALL, seen, at)
        state = reducer.record(SMALL, state, at, amount)
        seen.append((at, amount))


@given(EVENTS)
def test_a_state_is_parsed_and_serialised_to_the_same_bytes(offsets: list[Event]) -> None:
    state = reducer.fold(SMALL, [(START + t, a) for t, a in offsets], epoch=3)
    if state is not None:
        assert reducer.serialise(reducer.parse(SMALL, state)) == state
        assert reducer.position(state) == (3, len(offsets))


def test_two_events_at_one_instant_see_what_was_applied_before_them() -> None:
    one = reducer.record(SMALL, None, START, 10)
    assert reducer.read(SMALL, None, START)[:2] == (0, 0)
    assert reducer.read(SMALL, one, START)[:2] == (1, 10)


@pytest.mark.parametrize(("behind_s", "counted"), [(8, 1), (9, 1), (10, 0)])
def test_an_event_later_than_window_and_lateness_is_not_counted(behind_s: int, counted: int) -> None:
    narrow = Velocity("v", "card", windows=(Window(6, 1),), lateness_s=3)
    state = reducer.fold(narrow, [(START, 1), (START - behind_s * 1000, 1)])
    assert state is not None
    assert reducer.read(narrow, state, START - behind_s * 1000)[0] == counted
    assert reducer.position(state) == (1, 2)


def test_a_full_state_stays_under_four_kilobytes() -> None:
    full = Velocity("v", "terminal")
    # One event per second for an hour, then sparser ones: every tile of every window is in use at the end.
    times = [START - 7 * 86_400_000 + i * 600_000 for i in range(1008)]
    times += [START - 3_600_000 + i * 10_000 for i in range(360)] + [START - 90_000 + i * 1000 for i in range(90)]
    state = reducer.fold(full, [(t, 100) for t in times])
    assert state is not None
    assert 3_500 < len(state) <= 4_096


def test_amounts_beyond_the_exact_range_are_refused() -> None:
    with pytest.raises(UsageError):
        reducer.record(SMALL, None, START, MAX_AMOUNT + 1)
    with pytest.raises(UsageError):
        reducer.fold(SMALL, [(START, MAX_AMOUNT)] * 200)


@pytest.mark.parametrize("spoil", [lambda s: b"", lambda s: b"\x02" + s[1:], lambda s: s[:-1], lambda s: s + b"x"])
def test_bytes_that_are_no_state_are_an_integrity_error(spoil: object) -> None:
    state = reducer.fold(SMALL, [(START, 1), (START + 2000, 1)])
    with pytest.raises(IntegrityError):
        reducer.read(SMALL, spoil(state), START)  # type: ignore[operator]
