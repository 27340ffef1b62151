"""The metrics page: readable by Prometheus, and never falling."""

from __future__ import annotations

import re

import pytest

from interlock.decision import counts
from interlock.decision.counts import ArmCounts
from interlock.serving import metrics
from interlock.serving.messages import Totals
from interlock.serving.metrics import Sums

SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)'
)
LATENCY = [1] * (len(metrics.BUCKETS) + 1)


def arm(requests: int, flagged: int = 0, times_ns: tuple[int, ...] = ()) -> Sums:
    grown = ArmCounts()
    grown.add(counts.REQUESTS, 0, 7, requests)
    grown.add(counts.FLAGGED, 0, 7, flagged)
    for number, ns in enumerate(times_ns):
        grown.time(number % len(counts.BATCH_BINS), ns)
    found = Sums()
    found.add(grown)
    return found


def samples(page: str) -> dict[str, float]:
    """Every sample by name and labels; fails on a line that the text format does not know."""
    assert page.endswith("\n")
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("#"):
            mark, word, name, rest = line.split(" ", 3)
            assert (mark, word in ("HELP", "TYPE")) == ("#", True)
            if word == "TYPE":
                assert name not in kinds, f"{name} is announced twice"
                assert rest in ("counter", "gauge", "histogram")
                kinds[name] = rest
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name, labels, value = match.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name) if name not in kinds else name
        assert family in kinds, line
        key = f"{name}{{{labels or ''}}}"
        assert key not in found, f"{key} stands twice"
        found[key] = float(value)
    return found


ARMS = {
    ("fraud", "champion", "1.0.0"): arm(70, 7),
    ("fraud", "candidate", "1.1.0"): arm(30, 9),
    ("card-risk", "champion", "3.0.0"): arm(5),
    ("3ds", "champion", "1.0.0"): arm(2),
}
TOTALS = Totals({"200": 12_345_678, "429": 3}, {"fraud|1.0.0": LATENCY}, {"fraud|1.0.0": 1.5}, repeated=1_234_567_891)


def test_the_page_is_in_the_text_format_with_each_series_once() -> None:
    found = samples(metrics.render(ARMS, TOTALS, {"workers": 2.0, "store_degraded": 0.0}))
    assert found['fraud_prediction_requests_total{service="fraud",model_version="1.0.0",arm="champion"}'] == 70
    assert found['fraud_flagged_total{service="fraud",model_version="1.1.0",arm="candidate"}'] == 9
    assert found['card_risk_prediction_requests_total{service="card-risk",model_version="3.0.0",arm="champion"}'] == 5
    assert found["interlock_workers{}"] == 2


def test_counters_are_written_whole() -> None:
    found = samples(metrics.render(ARMS, TOTALS, {}))
    assert found['interlock_http_responses_total{status="200"}'] == 12_345_678
    assert found["interlock_repeated_total{}"] == 1_234_567_891


def test_a_histogram_is_cumulative_and_ends_with_its_count() -> None:
    found = samples(metrics.render(ARMS, TOTALS, {}))
    buckets = [value for key, value in found.items() if key.startswith("fraud_prediction_latency_seconds_bucket")]
    assert buckets == list(range(1, len(LATENCY) + 1))
    (total,) = [value for key, value in found.items() if key.startswith("fraud_prediction_latency_seconds_count")]
    assert total == buckets[-1]


def test_a_version_with_odd_characters_breaks_no_line() -> None:
    samples(metrics.render({("fraud", "champion", 'a"b\\c\nd'): arm(1)}, Totals(), {}))


def test_a_scorer_that_has_answered_nothing_has_a_page() -> None:
    assert samples(metrics.render({}, Totals(), {"workers": 0.0}))["interlock_held_total{}"] == 0


def test_the_sum_of_workers_is_the_sum_of_each_counter() -> None:
    one = Totals({"200": 2, "503": 1}, {"fraud|1": [1, 2]}, {"fraud|1": 0.5}, 1, 2, 3, 4)
    two = Totals({"200": 3}, {"fraud|1": [1, 0], "fraud|2": [0, 1]}, {"fraud|1": 0.25, "fraud|2": 1.0}, 10, 20, 30, 40)
    both = metrics.plus([one, two])
    assert both.responses == {"200": 5, "503": 1}
    assert both.latency == {"fraud|1": [2, 2], "fraud|2": [0, 1]}
    assert both.latency_sum == {"fraud|1": pytest.approx(0.75), "fraud|2": pytest.approx(1.0)}
    assert (both.held, both.repeated, both.unrecorded, both.store_failures) == (11, 22, 33, 44)
    assert metrics.plus([Totals(cpu_seconds=0.25), Totals(cpu_seconds=0.5)]).cpu_seconds == 0.75
    assert metrics.plus([]) == Totals()


MISSION = {
    "fraud_prediction_requests_total": "counter",
    "fraud_prediction_latency_seconds": "histogram",
    "fraud_flagged_total": "counter",
}


@pytest.mark.parametrize("arms", [{}, ARMS])
def test_the_missions_names_stand_as_the_mission_writes_them(arms: metrics.Arms) -> None:
    totals = TOTALS if arms else Totals()
    page = metrics.render(arms, totals, {})
    kinds = dict(re.findall(r"^# TYPE (fraud_\S+) (\w+)$", page, re.MULTILINE))
    assert kinds == MISSION
    for line in page.splitlines():
        if line.startswith("fraud_"):
            assert 'model_version="' in line
    assert {0.01, 0.02, 0.05, 0.1, 0.2, 0.5} <= set(metrics.BUCKETS), "the mission's buckets are ours too"


def test_services_whose_metrics_share_a_name_are_announced_once() -> None:
    arms = {("card-risk", "champion", "1.0.0"): arm(3), ("card_risk", "champion", "1.0.0"): arm(4)}
    found = samples(metrics.render(arms, Totals(latency={"card_risk|1.0.0": LATENCY}), {}))
    requests = {key: value for key, value in found.items() if key.startswith("card_risk_prediction_requests_total")}
    assert sorted(requests.values()) == [3, 4]


def test_every_metric_of_a_page_is_in_the_list_and_every_gauge_is_known() -> None:
    page = metrics.render(ARMS, TOTALS, dict.fromkeys(("workers", "inflight", "cost_per_1000_decisions"), 1.0))
    listed = {
        family.name.replace("{service}", service): family
        for family in metrics.FAMILIES
        for service in ("fraud", "card_risk", "_3ds")
    }
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", page, re.MULTILINE):
        assert listed[name].kind == kind
    for key in samples(page):
        name, _, labels = key.partition("{")
        family = listed.get(name) or listed[re.sub(r"_(bucket|sum|count)$", "", name)]
        assert set(re.findall(r'(\w+)="', labels)) - {"le"} == set(family.labels), key
    with pytest.raises(KeyError):
        metrics.render({}, Totals(), {"unheard_of": 1.0})


def test_model_time_is_merged_into_few_buckets_without_moving_a_call_over_an_edge() -> None:
    edges_ns = [round(edge * 1e9) for edge in metrics.MODEL_BUCKETS]
    times = (*(ns for edge in edges_ns for ns in (edge - 1, edge)), 20_000_000_000)
    found = samples(metrics.render({("fraud", "champion", "1.0.0"): arm(1, times_ns=times)}, Totals(), {}))
    series = {key: value for key, value in found.items() if key.startswith("interlock_model_seconds")}
    buckets = [value for key, value in series.items() if "_bucket" in key]
    assert len(buckets) <= 14
    assert buckets == [*range(1, 2 * len(edges_ns), 2), len(times)]
    labels = '{service="fraud",model_version="1.0.0",arm="champion"}'
    assert series[f"interlock_model_seconds_count{labels}"] == len(times)


@pytest.mark.parametrize("ns", [1_000, 7_300, 21_000, 88_123, 1_000_000, 50_000_001, 3_000_000_000])
def test_the_estimated_sum_of_model_time_is_within_what_the_page_says(ns: int) -> None:
    assert arm(1, times_ns=(ns,) * 100).seconds == pytest.approx(100 * ns / 1e9, rel=0.045)


def test_sums_of_a_version_grow_with_every_report_and_never_fall() -> None:
    found = arm(2, times_ns=(10_000,))
    before = list(found.times), found.seconds
    found.add(ArmCounts())
    assert (found.times, found.seconds) == before
    grown = ArmCounts()
    grown.time(0, 10_000)
    found.add(grown)
    assert sum(found.times) == 2
    assert found.seconds == pytest.approx(2 * before[1])
