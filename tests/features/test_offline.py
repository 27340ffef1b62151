"""SQL and the bulk loader equal the reducer: integers and bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.sets import TINY

from interlock.adapters.duckdb.engine import DuckDbEngine
from interlock.base.errors import IntegrityError, UsageError
from interlock.features import reducer
from interlock.features.definition import Velocity, Window, feature_set
from interlock.features.offline import Events, build_states, compute, compute_one, pieces, recent

pytestmark = pytest.mark.process  # DuckDB starts threads and takes its time

START = 1_790_000_000_000


def history(seed: int, size: int, late: float) -> Events:
    rng = np.random.default_rng(seed)
    at = START + np.cumsum(rng.integers(0, 40_000, size))
    at[rng.random(size) < 0.2] //= 1000
    at = np.where(at < START, at * 1000, at)
    at = at - np.where(rng.random(size) < late, rng.integers(0, 900_000, size), 0)
    return Events(
        {"card": rng.integers(0, 9, size).astype("U4"), "terminal": rng.integers(0, 5, size)},
        at,
        rng.integers(-100, 10_000, size),
    )


@pytest.mark.parametrize("late", [0.0, 0.2])
def test_duckdb_equals_the_reducer_on_ordered_and_on_late_events(late: float) -> None:
    events = history(1, 600, late)
    assert np.array_equal(compute(TINY, events, DuckDbEngine()), compute(TINY, events))


class NoEngine:
    """Must not be asked."""

    def query(self, text: str, events: object, columns: object) -> list[np.ndarray]:
        raise AssertionError


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 150), st.sampled_from([1, 900, 40_000, 4_000_000]))
def test_entities_whose_time_never_goes_back_need_no_engine(seed: int, size: int, pace: int) -> None:
    rng = np.random.default_rng(seed)
    events = Events(
        {"card": rng.integers(0, 9, size) * 10**12, "terminal": rng.integers(0, 3, size).astype("U4")},
        START + np.cumsum(rng.integers(0, pace, size)),
        rng.integers(-100, 10_000, size),
    )
    assert np.array_equal(compute(TINY, events, NoEngine()), compute(TINY, events))


@pytest.mark.parametrize("size", [1, 37, 10_000])
def test_entities_may_be_computed_by_the_piece(size: int) -> None:
    events = history(6, 300, 0.1)
    whole = compute(TINY, events)
    start = 0
    for velocity in TINY.velocities:
        codes = np.unique(events.entities[velocity.entity], return_inverse=True)[1].astype(np.int64)
        width = 2 * len(velocity.windows)
        seen = np.full((300, width), -1)
        for rows in pieces(codes, size):
            seen[rows] = compute_one(velocity, codes[rows], events.event_ms[rows], events.amount[rows], DuckDbEngine())
        assert np.array_equal(seen, whole[:, start : start + width])
        start += width
    assert list(pieces(np.empty(0, np.int64), size)) == []


def test_what_no_later_event_can_see_may_be_left_out() -> None:
    events = history(4, 400, 0.1)
    whole = compute(TINY, events)
    first = 250
    since = int(events.event_ms[first:].min())
    kept = recent(TINY, events, since)
    kept[first:] = True
    assert not kept.all()
    shorter = Events(
        {kind: tokens[kept] for kind, tokens in events.entities.items()}, events.event_ms[kept], events.amount[kept]
    )
    assert np.array_equal(compute(TINY, shorter)[-(400 - first) :], whole[first:])


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 120), st.sampled_from([0.0, 0.3]))
def test_bulk_built_states_equal_the_reducers_byte_for_byte(seed: int, size: int, late: float) -> None:
    events = history(seed, size, late)
    built = {(kind, token): data for kind, token, data in build_states(TINY, events, epoch=7)}
    for velocity in TINY.velocities:
        tokens = events.entities[velocity.entity]
        for token in np.unique(tokens):
            mine = tokens == token
            rows = zip(events.event_ms[mine].tolist(), events.amount[mine].tolist(), strict=True)
            assert built.pop((velocity.entity, str(token))) == reducer.fold(velocity, rows, epoch=7)
    assert not built


def test_a_feature_set_of_one_entity_needs_that_entity_alone() -> None:
    events = history(2, 50, 0.0)
    card_only = feature_set("card", 1, ("card",))
    assert compute(card_only, events).shape == (50, 10)
    with pytest.raises(UsageError):
        compute(feature_set("ip", 1, ("ip",)), events)


class LossyEngine:
    """Loses the last row, as a broken join would."""

    def query(self, text: str, events: object, columns: object) -> list[np.ndarray]:
        rows = DuckDbEngine(1).query(text, events, columns)  # type: ignore[arg-type]
        return [column[:-1] for column in rows]


def test_an_engine_that_loses_a_row_is_caught() -> None:
    with pytest.raises(IntegrityError):
        compute(TINY, history(3, 40, 0.3), LossyEngine())


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(UsageError):
        Events({"card": np.array(["a"])}, np.array([1, 2]), np.array([1, 2]))


def test_windows_may_differ_between_entities() -> None:
    assert TINY.velocities[0].windows != TINY.velocities[1].windows
    assert isinstance(TINY.velocities[0], Velocity)
    assert Window(40, 10) in TINY.velocities[0].windows
