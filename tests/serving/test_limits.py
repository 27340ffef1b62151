"""Token buckets: exact, per principal, and bounded in number."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.clock import NS_PER_S
from interlock.serving.limits import Cells, Limits, private_cells, shared_cells
from interlock.trust.principal import Rate, Rates


def limits(per_second: int = 10, burst: int = 5, cells: Cells | None = None) -> Limits:
    return Limits(Rates(Rate(per_second, burst), {"free": Rate(1_000_000, 1_000_000)}), cells)


def test_a_burst_is_admitted_and_then_the_rate() -> None:
    buckets = limits()
    assert [buckets.admit("a", 1, 0) for _ in range(6)] == [0, 0, 0, 0, 0, 0.1]
    assert buckets.admit("a", 1, NS_PER_S // 10 - 1) > 0
    assert buckets.admit("a", 1, NS_PER_S // 10) == 0


def test_principals_do_not_share_a_bucket() -> None:
    buckets = limits(burst=1)
    assert buckets.admit("a", 1, 0) == 0
    assert buckets.admit("b", 1, 0) == 0
    assert buckets.admit("a", 1, 0) > 0


def test_nobody_is_limited_without_a_rate() -> None:
    buckets = Limits(Rates(None, {"a": Rate(1, 1)}))
    assert all(buckets.admit("b", 1_000, 0) == 0 for _ in range(1_000))


def test_what_a_bucket_cannot_hold_never_gets_in() -> None:
    assert limits(burst=5).admit("a", 6, 0) == math.inf


@given(
    st.integers(1, 2_000),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 2 * NS_PER_S), st.integers(1, 60)), max_size=60),
)
def test_no_window_admits_more_than_burst_and_rate(rate: int, burst: int, steps: list[tuple[int, int]]) -> None:
    buckets, now, admitted = limits(rate, burst), 0, []
    for pause, cost in steps:
        now += pause
        if buckets.admit("a", cost, now) == 0:
            admitted.append((now, cost))
    for first, (start, _) in enumerate(admitted):
        taken = 0
        for end, cost in admitted[first:]:
            taken += cost
            assert taken * NS_PER_S <= burst * NS_PER_S + rate * (end - start)


@given(st.integers(1, 2_000), st.integers(1, 50), st.lists(st.integers(0, NS_PER_S), min_size=1, max_size=40))
def test_whoever_waits_as_long_as_told_gets_in_and_not_before(rate: int, burst: int, pauses: list[int]) -> None:
    buckets, now = limits(rate, burst), 0
    for pause in pauses:
        now += pause
        wait = buckets.admit("a", 1, now)
        if wait:
            wait_ns = round(wait * NS_PER_S)
            assert buckets.admit("a", 1, now + wait_ns - 1) > 0
            assert buckets.admit("a", 1, now + wait_ns) == 0
            now += wait_ns


@pytest.mark.parametrize("rate", [3, 7, 999, 700_001])
def test_a_rate_that_does_not_divide_a_second_is_not_exceeded_however_long_it_lasts(rate: int) -> None:
    buckets, now = limits(rate, 1), 0
    for admitted in range(1, 3_000):
        assert buckets.admit("a", 1, now) == 0
        assert admitted * NS_PER_S <= NS_PER_S + rate * now
        now += round(buckets.admit("a", 1, now) * NS_PER_S)


def test_a_newcomer_waits_until_a_bucket_is_full_again() -> None:
    buckets = limits(per_second=10, burst=5, cells=private_cells(1))
    for _ in range(5):
        buckets.admit("a", 1, NS_PER_S)
    assert buckets.admit("b", 1, NS_PER_S) == pytest.approx(0.5)
    assert buckets.admit("b", 1, NS_PER_S + NS_PER_S // 2) == 0


def test_time_that_stands_still_or_goes_back_gives_nothing() -> None:
    buckets = limits(burst=1)
    buckets.admit("a", 1, NS_PER_S)
    assert buckets.admit("a", 1, 0) > 0
    assert buckets.admit("a", 1, NS_PER_S) > 0


def test_a_bucket_in_use_is_not_forgotten_for_a_newcomer_and_a_full_one_is() -> None:
    buckets = limits(per_second=1, burst=1, cells=private_cells(3))
    assert [buckets.admit(name, 1, NS_PER_S) for name in "abc"] == [0, 0, 0]
    assert buckets.admit("d", 1, NS_PER_S) == pytest.approx(1)
    assert buckets.admit("a", 1, NS_PER_S) > 0  # forgotten, it would have begun anew
    assert buckets.admit("d", 1, 2 * NS_PER_S) == 0
    assert sum(buckets.admit(name, 1, 2 * NS_PER_S) == 0 for name in "abc") == 2  # there is room for three


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, NS_PER_S)), max_size=60))
def test_a_table_that_is_too_small_admits_nobody_too_often(steps: list[tuple[str, int]]) -> None:
    buckets, now = limits(per_second=2, burst=2, cells=private_cells(3)), NS_PER_S
    admitted: dict[str, list[int]] = {}
    for name, pause in steps:
        now += pause
        if buckets.admit(name, 1, now) == 0:
            admitted.setdefault(name, []).append(now)
    for times in admitted.values():
        for first, start in enumerate(times):
            for count, end in enumerate(times[first:], start=1):
                assert count * NS_PER_S <= 2 * NS_PER_S + 2 * (end - start)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, NS_PER_S // 5)), max_size=60))
def test_workers_that_share_a_table_admit_together_what_one_would(steps: list[tuple[int, str, int]]) -> None:
    cells, now, alone = private_cells(), NS_PER_S, limits()
    workers = [limits(cells=cells) for _ in range(3)]
    for worker, name, pause in steps:
        now += pause
        assert workers[worker].admit(name, 1, now) == alone.admit(name, 1, now)


def test_a_table_in_a_file_is_one_table(tmp_path: Path) -> None:
    path = tmp_path / "run" / "limits"
    one, other = limits(burst=2, cells=shared_cells(path)), limits(burst=2, cells=shared_cells(path))
    assert [each.admit("a", 1, NS_PER_S) == 0 for each in (one, other, one, other)] == [True, True, False, False]
    assert path.stat().st_mode & 0o077 == 0


def test_a_table_from_before_a_reboot_locks_nobody_out() -> None:
    cells = private_cells()
    before = limits(cells=cells)
    while before.admit("a", 1, 10**16) == 0:
        pass
    after = limits(cells=cells)
    assert after.admit("a", 1, NS_PER_S) <= 0.1
    assert after.admit("a", 1, NS_PER_S + NS_PER_S // 10) == 0


def test_a_new_file_changes_the_rate_of_a_bucket_in_use() -> None:
    buckets = limits(per_second=1, burst=100)
    buckets.rates = Rates(Rate(1, 2), {})
    assert [buckets.admit("a", 1, 0) == 0 for _ in range(3)] == [True, True, False]
    buckets.rates = Rates(None, {})
    assert buckets.admit("a", 1, 0) == 0
