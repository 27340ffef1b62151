from __future__ import annotations

import numpy as np
import pytest
from tests.features.sets import TINY

from interlock.features.offline import Events, compute
from interlock.features.replay import Gap, History, Logged, recompute

START = 1_790_000_000_000
BASE = [(START + i * 1000, 100 + i) for i in range(5)]
LOGGED = [Logged(1, 6 + i, START + 5000 + i * 700, 7 * i) for i in range(6)]


def expected(seq: int) -> list[int]:
    rows = BASE + [(e.event_ms, e.amount) for e in LOGGED]
    events = Events(
        {"card": np.zeros(len(rows), np.int64), "terminal": np.zeros(len(rows), np.int64)},
        np.array([t for t, _ in rows]),
        np.array([a for _, a in rows]),
    )
    return compute(TINY, events)[seq - 1].tolist()


def both(history: History) -> dict[str, History]:
    return {"card": history, "terminal": history}


def replay(history: History, seq: int, epoch: int = 1) -> list[int]:
    at = LOGGED[seq - 6].event_ms
    return recompute(TINY, both(history), {"card": (epoch, seq), "terminal": (epoch, seq)}, at).tolist()


def test_a_decision_is_recomputed_from_base_and_log_in_any_order() -> None:
    for seq in (6, 9, 11):
        assert replay(History(BASE, LOGGED[::-1]), seq) == expected(seq)


def test_a_repeated_log_entry_counts_once() -> None:
    assert replay(History(BASE, LOGGED + LOGGED), 9) == expected(9)


def test_a_hole_is_a_gap_that_names_the_number() -> None:
    with pytest.raises(Gap) as found:
        replay(History(BASE, LOGGED[:1] + LOGGED[2:]), 9)
    assert (found.value.entity, found.value.epoch, found.value.seq) == ("card", 1, 7)


def test_a_missing_base_is_a_gap() -> None:
    with pytest.raises(Gap):
        replay(History((), LOGGED), 9)


def test_two_events_with_one_number_are_a_gap() -> None:
    with pytest.raises(Gap):
        replay(History(BASE, [*LOGGED, LOGGED[0]._replace(amount=1)]), 9)


def test_an_entity_first_seen_online_starts_empty_in_its_own_epoch() -> None:
    history = History(BASE, [*LOGGED, Logged(99, 1, START + 5000, 40)])
    found = recompute(TINY, both(history), {"card": (99, 2), "terminal": (99, 2)}, START + 5500)
    assert found.tolist()[:2] == [1, 40]


def test_a_position_inside_the_base_was_never_a_decision() -> None:
    with pytest.raises(Gap):
        recompute(TINY, both(History(BASE, LOGGED)), {"card": (1, 3), "terminal": (1, 3)}, START)


def test_events_beyond_the_horizon_change_nothing() -> None:
    old = [(START - 10**9 + i, 5) for i in range(3)]
    shifted = [e._replace(seq=e.seq + 3) for e in LOGGED]
    found = recompute(
        TINY, both(History(old + BASE, shifted)), {"card": (1, 12), "terminal": (1, 12)}, LOGGED[3].event_ms
    )
    assert found.tolist() == expected(9)
