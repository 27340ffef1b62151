"""What the soak calls wrong, slow and grown, on records made by hand (times in milliseconds)."""

from __future__ import annotations

from typing import Any

import numpy as np
from bench.soak import DTYPE, Diary, during, judged, verdict, wrong
from bench.soak_load import FAILED

MS = 1_000_000


def records(*rows: tuple[int, int, int]) -> np.ndarray:
    """(sent, received, minor version)."""
    return np.array([(sent * MS, sent * MS, received * MS, minor, 1) for sent, received, minor in rows], DTYPE)


def diary() -> Diary:
    """Version 0 from 0 on, 1 from 100 (acknowledged at 120), 0 again from 200 (at 220)."""
    routed = [(0, 0, 5 * MS), (1, 100 * MS, 120 * MS), (0, 200 * MS, 220 * MS)]
    return Diary(routed, [(90 * MS, 130 * MS), (190 * MS, 230 * MS)], [100.0, 101.0])


def test_a_version_may_answer_while_it_was_routed_at_any_moment_of_the_request() -> None:
    fine = records((10, 20, 0), (90, 101, 1), (119, 140, 0), (130, 150, 1), (150, 201, 0), (219, 240, 1), (230, 240, 0))
    assert wrong(fine, diary()) == 0


def test_a_version_that_was_not_routed_is_wrong_and_a_failure_is_not_counted_twice() -> None:
    early, late, old, unknown = (10, 99, 1), (221, 230, 1), (121, 199, 0), (10, 20, 7)
    assert wrong(records(early, late, old, unknown, (10, 20, FAILED)), diary()) == 4


def test_only_what_was_due_within_a_swap_counts_as_during() -> None:
    found = during(records((89, 95, 0), (90, 95, 0), (130, 140, 1), (131, 140, 1), (200, 210, 0)), diary().swaps)
    assert (found["due"] // MS).tolist() == [90, 130, 200]


def test_every_missed_bar_is_named() -> None:
    rows = [(n, n + 10, 0) for n in range(50)] + [(100 + n, 140 + n, 1) for n in range(10)] + [(121, 130, FAILED)]
    result: dict[str, Any] = judged(diary(), records(*rows, (125, 190, 0)), [(0, 60 * MS)])
    assert (result["failed"], result["wrong_version"], result["rss_growth"]) == (1, 1, 0.01)
    assert len(verdict(result | {"workers_replaced": True, "rss_growth": 0.06, "p99_ratio": 2.1})) == 5
    good = {"failed": 0, "wrong_version": 0, "p99_ratio": 2.0, "rss_growth": 0.05, "workers_replaced": False}
    assert verdict(good) == []
