"""The supervisor's sums: named by version, complete over generations and ended workers, bounded."""

from __future__ import annotations

import msgspec

from interlock.apps.scorer.tally import GENERATIONS, Tally
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, ShadowCounts, WorkerCounts
from interlock.decision.table import BUCKETS, Arm, RouteTable
from interlock.serving.messages import Report, Totals

DIGEST = "sha256:" + "1" * 64


def table(generation: int, version: str) -> RouteTable:
    arm = Arm("champion", DIGEST, DIGEST, version, ((0, BUCKETS),))
    return RouteTable(service="fraud", epoch=1, generation=generation, arms=(arm,), salt="ab" * 32)


def report(generation: int, requests: int, status: int = 0) -> Report:
    numbers = ArmCounts()
    numbers.add(counts.REQUESTS, 1, 0, by=requests)
    arms = {counts.key("fraud", generation, "champion"): numbers.pack()}
    return Report(WorkerCounts("w", "w", arms), {}, Totals({"200": status} if status else {}))


def answered(page: str) -> dict[str, int]:
    """Requests by version."""
    lines = [line for line in page.splitlines() if line.startswith("fraud_prediction_requests_total{")]
    return {line.split('model_version="')[1].split('"')[0]: int(line.rsplit(" ", 1)[1]) for line in lines}


def test_generations_of_one_version_add_up_and_ended_workers_stay() -> None:
    tally = Tally()
    for generation, version in ((1, "1.0.0"), (2, "1.1.0"), (3, "1.0.0")):
        tally.remember(table(generation, version))
    first = report(1, 3, status=7)
    tally.add(None, first, 1)
    tally.add(first, report(1, 5), 1)
    tally.add(None, report(2, 2), 1)
    tally.add(None, report(3, 1), 1)
    tally.retire(first)
    page = tally.page([report(1, 0, status=4)], {})
    assert answered(page) == {"1.0.0": 6, "1.1.0": 2}
    assert 'interlock_http_responses_total{status="200"} 11' in page


def test_a_shadow_is_told_by_its_version_with_pairs_flips_and_the_largest_difference() -> None:
    tally, numbers = Tally(), ShadowCounts()
    shadows = (Arm("shadow-1", DIGEST, DIGEST, "0.9.0"),)
    tally.remember(msgspec.structs.replace(table(1, "1.0.0"), shadows=shadows))
    numbers.add(0.9, 0.1, 3, 0)
    numbers.add(0.1, 0.2, 0, 0)
    key = counts.key("fraud", 1, "shadow-1")
    first = Report(WorkerCounts("w", "w", {}, {key: numbers.pack()}), {}, Totals())
    tally.add(None, first, 1)
    tally.add(first, first, 2)
    page = tally.page([], {})
    labels = '{service="fraud",model_version="0.9.0",arm="shadow-1"}'
    for name, value in (("pairs_total", 2), ("up_total", 1), ("down_total", 0), ("score_difference_max", 0.8)):
        assert f"interlock_shadow_{name}{labels} {value}" in page


def test_a_thousand_generations_leave_a_bounded_memory_and_the_newest_names() -> None:
    tally = Tally()
    for generation in range(1, GENERATIONS * 3):
        tally.remember(table(generation, f"1.{generation % 2}.0"))
    tally.add(None, report(GENERATIONS * 3 - 1, 4), 1)
    assert answered(tally.page([], {})) == {f"1.{(GENERATIONS * 3 - 1) % 2}.0": 4}
    assert len(tally._versions) == GENERATIONS
