"""What workers spend, what a decision costs, and what an autoscaler reads: complete with many workers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from interlock.apps.scorer.tally import Spent, Tally
from interlock.base.clock import NS_PER_S
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, WorkerCounts
from interlock.serving.messages import Report, Totals


def report(worker: str, requests: int, cpu_s: float = 0.0, **more: Any) -> Report:
    made = ArmCounts()
    made.add(counts.REQUESTS, 0, 0, requests)
    for _ in range(requests):
        made.time(0, 20_000)
    totals = Totals(cpu_seconds=cpu_s, score_cache_hits=requests, spans_dropped=1, pinned=more.pop("pinned", 0))
    return Report(WorkerCounts(worker, worker, {"fraud/1/champion": made.pack()}), {}, totals, **more)


def value(page: str, name: str) -> float | None:
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    return float(found[0]) if found else None


def test_counters_of_all_workers_add_up_and_stay_when_one_ends() -> None:
    tally = Tally()
    first, second = report("w1", 10, 1.5), report("w2", 5, 0.25)
    tally.add(None, first, 1)
    tally.add(None, second, 2)
    names = {
        "interlock_cpu_seconds_total": 1.75,
        "interlock_score_cache_hits_total": 15,
        "interlock_spans_dropped_total": 2,
        "fraud_prediction_requests_total": 15,
        "interlock_model_seconds_count": 15,
    }
    page = tally.page([first, second], {})
    assert {name: value(page, name) for name in names} == names
    tally.retire(first)
    anew = report("w3", 0, 0.125)
    tally.add(None, anew, 3)
    page = tally.page([second, anew], {})
    assert value(page, "interlock_cpu_seconds_total") == 1.875
    assert value(page, "interlock_score_cache_hits_total") == 15
    assert value(page, "interlock_model_seconds_count") == 15


def test_what_an_autoscaler_reads_is_of_all_workers() -> None:
    reports = [
        report("w1", 0, inflight=3, queued=7, queue_age_s=0.25),
        report("w2", 0, inflight=4, queued=1, queue_age_s=0.75),
    ]
    page = Tally().page(reports, {})
    assert value(page, "interlock_inflight") == 7
    assert value(page, "interlock_queue_length") == 8
    assert value(page, "interlock_queue_age_seconds") == 0.75, "the oldest of all"


def test_a_thousand_decisions_cost_the_cpu_time_that_they_took() -> None:
    tally = Tally(cpu_hour_price=0.36)
    before = None
    for number in range(1, 4):
        now = report("w1", 1_000 * number, 10.0 * number)
        tally.add(before, now, number)
        before = now
    # 30 CPU seconds at 0.36 an hour are 0.003, for 3,000 decisions.
    assert value(tally.page([now], {}), "interlock_cost_per_1000_decisions") == pytest.approx(0.001)


def test_decisions_that_a_caller_pinned_cost_too() -> None:
    tally = Tally(cpu_hour_price=3_600.0)
    tally.add(None, report("w1", 0, 1.0, pinned=10), 1)
    assert value(tally.page([], {}), "interlock_cost_per_1000_decisions") == pytest.approx(100.0)


def test_a_worker_that_begins_again_makes_no_negative_cost() -> None:
    tally = Tally(cpu_hour_price=3_600.0)
    tally.add(None, report("w1", 100, 50.0), 1)
    tally.add(None, report("w2", 10, 5.0), 2)
    assert value(tally.page([], {}), "interlock_cost_per_1000_decisions") == pytest.approx(500.0)


def test_there_is_no_cost_without_a_price_or_without_a_decision() -> None:
    told = report("w1", 0, 1.0)
    for tally in (Tally(), Tally(cpu_hour_price=1.0)):
        tally.add(None, told, 1)
        assert value(tally.page([told], {}), "interlock_cost_per_1000_decisions") is None


def test_cost_is_of_the_last_minutes_and_not_of_all_time() -> None:
    spent = Spent()
    spent.add(60 * NS_PER_S, 100.0, 10)
    spent.add(120 * NS_PER_S, 1.0, 10)
    assert spent.per_1000(3_600.0) == pytest.approx(101.0 / 20 * 1_000)
    spent.add(180 * NS_PER_S, 1.0, 10)
    assert spent.per_1000(3_600.0) == pytest.approx(100.0)
    spent.add(600 * NS_PER_S, 0.0, 0)
    assert spent.per_1000(3_600.0) is None
