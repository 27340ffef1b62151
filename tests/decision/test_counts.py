import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError
from interlock.decision.counts import (
    COUNTS,
    DELTA_EDGES,
    FLAGGED,
    GROUPS,
    NULLS,
    REQUESTS,
    SCORE_EDGES,
    TIME_EDGES,
    ArmCounts,
    ShadowCounts,
    WorkerCounts,
    batch_bin,
    delta,
    group_of,
    key,
    parse_key,
)

cells = st.tuples(st.integers(0, len(COUNTS) - 1), st.integers(0, 3), st.integers(0, GROUPS - 1), st.integers(1, 9))
events = st.lists(cells, max_size=30)
times = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**40)), max_size=30)


def counted(adds: list[tuple[int, int, int, int]], spent: list[tuple[int, int]]) -> ArmCounts:
    counts = ArmCounts()
    for cell in adds:
        counts.add(*cell)
    for batch, ns in spent:
        counts.time(batch, ns)
    return counts


@given(events, times)
def test_packed_counts_survive(adds: list[tuple[int, int, int, int]], spent: list[tuple[int, int]]) -> None:
    counts = counted(adds, spent)
    back = ArmCounts.unpack(counts.pack())
    assert np.array_equal(back.values, counts.values)
    assert np.array_equal(back.times, counts.times)
    back.add(REQUESTS, 0, 0)
    assert back.total(REQUESTS) == counts.total(REQUESTS) + 1


@given(events, events, times)
def test_a_delta_is_what_came_after(
    first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]], spent: list[tuple[int, int]]
) -> None:
    old = WorkerCounts("w0", "r1", {"fraud/1/champion": counted(first, spent[:3]).pack()})
    new = WorkerCounts("w0", "r1", {"fraud/1/champion": counted(first + second, spent[:3] + spent).pack()})
    found = delta(old, new)
    assert not found.reset
    assert np.array_equal(found.arms["fraud/1/champion"].values, counted(second, []).values)
    assert found.arms["fraud/1/champion"].times.sum() == len(spent)


def test_a_cell_is_where_its_name_says() -> None:
    counts = counted([(FLAGGED, 2, 99, 3)], [(1, TIME_EDGES[5]), (1, TIME_EDGES[5] - 1), (3, 2**60)])
    assert counts.values[2, 99, FLAGGED] == 3
    assert counts.values.sum() == 3
    assert counts.times[1, 6] == 1
    assert counts.times[1, 5] == 1
    assert counts.times[3, -1] == 1


def test_a_changed_reset_id_is_a_reset_and_starts_from_zero() -> None:
    old = WorkerCounts("w0", "r1", {"k": counted([(REQUESTS, 0, 0, 5)], []).pack()})
    new = WorkerCounts("w0", "r2", {"k": counted([(REQUESTS, 0, 0, 7)], []).pack()})
    found = delta(old, new)
    assert found.reset
    assert found.arms["k"].total(REQUESTS) == 7


def test_a_shrunken_count_is_a_reset_even_under_the_same_id() -> None:
    old = WorkerCounts("w0", "r1", {"k": counted([(REQUESTS, 0, 0, 5)], []).pack()})
    new = WorkerCounts("w0", "r1", {"k": counted([(REQUESTS, 0, 0, 4)], []).pack()})
    assert delta(old, new).reset


def test_the_first_reading_and_a_drained_generation_are_no_reset() -> None:
    packed = counted([(REQUESTS, 0, 0, 5)], []).pack()
    assert delta(None, WorkerCounts("w0", "r1", {"k": packed})).arms["k"].total(REQUESTS) == 5
    assert not delta(None, WorkerCounts("w0", "r1", {"k": packed})).reset
    gone = delta(WorkerCounts("w0", "r1", {"k": packed}), WorkerCounts("w0", "r1"))
    assert gone.arms == {}
    assert not gone.reset


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b"\x09" + b[1:], lambda b: b + b"\0"])
def test_packed_counts_of_another_version_are_refused(change: object) -> None:
    with pytest.raises(IntegrityError):
        ArmCounts.unpack(change(ArmCounts().pack()))  # type: ignore[operator]
    with pytest.raises(IntegrityError):
        ShadowCounts.unpack(change(ShadowCounts().pack()))  # type: ignore[operator]


def test_shadow_pairs_count_flips_both_ways_and_the_largest_difference() -> None:
    counts = ShadowCounts()
    counts.add(0.5, 0.5, 0, 0)
    counts.add(0.5, 0.8, 1, 2)
    counts.add(0.05, 0.0, 2, 0)
    counts.add(0.75, 0.75, 2, 2)
    back = ShadowCounts.unpack(counts.pack())
    assert (back.pairs, back.up, back.down, back.kept) == (4, 1, 1, 1)
    assert back.largest == pytest.approx(0.3)
    assert back.deltas.sum() == back.scores.sum() == 4
    assert back.deltas[DELTA_EDGES.index(0.05) + 1] == 1
    later = ShadowCounts.unpack(counts.pack())
    later.add(0.5, 0.1, 3, 2)
    change = later.since(back)
    assert change is not None
    assert (change.pairs, change.up, change.down, change.largest) == (1, 1, 0, 0.4)
    assert change.scores.sum() == 1
    assert back.since(later) is None
    assert back.plus(later).pairs == 9
    assert back.plus(later).scores.sum() == 9


def test_scores_of_two_workers_add_up_and_a_shrunken_histogram_is_a_reset() -> None:
    one, two = ArmCounts(), ArmCounts()
    for score in (0.0, 0.001, 0.5, 0.999, 1.0):
        one.score(score)
    two.score(0.5)
    both = ArmCounts.unpack(one.plus(two).pack())
    assert both.scores.sum() == 6
    assert both.scores[SCORE_EDGES.index(0.5) + 1] == 2
    change = both.since(one)
    assert change is not None
    assert np.array_equal(change.scores, two.scores)
    assert two.since(one) is None


def test_a_score_stands_at_or_above_the_edge_before_its_bin_and_below_the_next() -> None:
    for score in (SCORE_EDGES[0], SCORE_EDGES[100], SCORE_EDGES[100] * 0.999_999, SCORE_EDGES[-1]):
        counts = ArmCounts()
        counts.score(score)
        (place,) = np.flatnonzero(counts.scores)
        edges = (-np.inf, *SCORE_EDGES, np.inf)
        assert edges[place] <= score < edges[place + 1]


def test_edges_of_scores_ascend_and_are_dense_in_the_upper_tail() -> None:
    assert list(SCORE_EDGES) == sorted(set(SCORE_EDGES))
    assert len(SCORE_EDGES) <= 300
    assert 0.5 in SCORE_EDGES
    assert sum(edge > 0.95 for edge in SCORE_EDGES) >= 48
    assert SCORE_EDGES[-1] > 0.9996


def test_the_names_of_the_counts_are_their_columns() -> None:
    assert COUNTS == ("requests", "errors", "misses", "degraded", "slow", "flagged", "nulls")
    assert COUNTS[NULLS] == "nulls"


def test_bins_and_groups_follow_the_fixed_names() -> None:
    assert [batch_bin(n) for n in (1, 2, 4, 5, 16, 17, 64)] == [0, 1, 1, 2, 2, 3, 3]
    assert [group_of(n) for n in (0, 99, 100, 9_999)] == [0, 0, 1, 99]
    assert parse_key(key("fraud", 12, "candidate")) == ("fraud", 12, "candidate")


def test_time_edges_ascend_in_eighths_of_an_octave() -> None:
    assert list(TIME_EDGES) == sorted(set(TIME_EDGES))
    assert TIME_EDGES[0] == 1_000
    assert TIME_EDGES[8] == 2_000
    assert TIME_EDGES[-1] > 16_000_000_000
