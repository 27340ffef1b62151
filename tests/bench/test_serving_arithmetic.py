"""The serving benchmark's arithmetic: what a run reports must follow from what happened."""

from __future__ import annotations

import math

import pytest
from bench.serving import arithmetic, report
from bench.serving.cpu import spent_ns
from bench.serving.grpcload import frame, message
from bench.serving.payloads import KINDS
from bench.serving.tally import Tally


def test_a_percentile_is_the_nearest_rank() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [arithmetic.percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert arithmetic.percentile([7.0], 0.5) == 7.0
    assert arithmetic.percentile([], 0.5) == 0.0


def test_latencies_are_told_in_milliseconds_whatever_their_order() -> None:
    assert arithmetic.latencies([3_000_000, 1_000_000, 2_000_000]) == {"p50_ms": 2.0, "p95_ms": 3.0, "p99_ms": 3.0}


@pytest.mark.parametrize("rate", [1.0, 3.0, 7.7, 1_000.0, 8_500.0])
def test_a_constant_rate_has_scheduled_each_request_at_its_own_time(rate: float) -> None:
    for number in range(2_000):
        at_ns = arithmetic.scheduled_ns(rate, number)
        assert arithmetic.due(rate, at_ns) == number + 1
        assert arithmetic.due(rate, at_ns - 1) == number


def test_nothing_is_due_before_the_start() -> None:
    assert arithmetic.due(100.0, -1) == 0
    assert arithmetic.due(100.0, 0) == 1


def walk(limit: float, start: float = 7_000, step: float = 1_500, grain: float = 300) -> tuple[float, list[float]]:
    """What the search finds on a server that holds up to `limit`, and the rates it tried."""
    state, tried = arithmetic.Search(start, step, grain), []
    while (rate := state.next()) is not None and len(tried) < 50:
        tried.append(rate)
        state = state.told(rate, rate <= limit)
    return state.good, tried


@pytest.mark.parametrize("limit", [500, 5_600, 7_000, 9_100, 12_345])
def test_the_search_ends_within_a_grain_below_the_limit(limit: float) -> None:
    good, tried = walk(limit)
    assert good <= limit
    assert limit - good <= 300 or good == 0
    assert len(tried) < 20
    assert all(rate > 0 for rate in tried)


def test_the_search_ends_when_nothing_holds() -> None:
    good, tried = walk(0)
    assert good == 0
    assert min(tried) > 0
    assert len(tried) < 20


def run(**changes: float) -> dict[str, float]:
    return {"failed": 0, "answered": 100, "scheduled": 100, "p95_ms": 35.0, **changes}


def test_a_rate_holds_when_all_is_answered_well_and_in_time() -> None:
    assert arithmetic.held(run())
    assert not arithmetic.held(run(failed=1))
    assert not arithmetic.held(run(answered=99))
    assert not arithmetic.held(run(p95_ms=35.001))


def test_ratios_are_of_server_cpu_and_unknown_where_a_contestant_failed() -> None:
    rows = {
        "interlock-full": {"cpu_us": 50.0},
        "floor-granian": {"cpu_us": 40.0},
        "kserve-feast": {"cpu_us": 2_000.0},
        "kserve": {"cpu_us": 900.0},
        "interlock-tensor": {"cpu_us": None, "error": "refused"},
    }
    assert arithmetic.ratios(rows) == {
        "full_cpu_vs_empty_granian": 1.25,
        "kserve_feast_cpu_vs_full": 40.0,
        "kserve_cpu_vs_tensor": None,
    }


def test_cpu_of_a_child_that_ended_is_counted_once() -> None:
    # Process 2 had used 30 at the first reading and 50 when it ended; its parent has collected those 50.
    assert spent_ns({1: 100, 2: 30}, {1: 100 + 5 + 50}) == 5 + 20
    assert spent_ns({1: 100}, {1: 110, 3: 7}) == 17


def test_only_replies_to_measured_requests_are_measured() -> None:
    tally = Tally()
    tally.took(10, 20)
    tally.since_ns = 100
    tally.took(99, 120)
    tally.took(100, 130)
    assert tally.found_ns == [30]


def test_a_run_without_replies_has_figures_all_the_same() -> None:
    tally = Tally()
    tally.fail("no reply", 3)
    found = tally.result({"elapsed_s": 2.0})
    assert (found["rps"], found["p99_ms"], found["errors"]) == (0.0, 0.0, 3)
    assert not math.isnan(found["rps"])


def result() -> dict[str, object]:
    row = {"rps": 1_234.5, "p50_ms": 1, "p95_ms": 2, "p99_ms": 3, "cpu_us": 50, "store_cpu_us": 0, "rss_mb": 90}
    return {
        "contestants": {"interlock-full": {**row, "errors": 0}, "kserve": {"error": "not | here", "cpu_us": None}},
        "ratios": {"kserve_cpu_vs_tensor": None},
        "ratios_of_variants": {"x": 2.0},
        "open_loop": {"rate": 0, "error": "no store"},
    }


def test_the_table_has_a_row_for_every_contestant_also_for_one_that_failed() -> None:
    text = report.table(result())
    assert "| interlock-full | 1,234 | 1.00 |" in text
    assert "| kserve | not / here |" in text
    assert "no rate held (no store)" in text


def test_the_plot_shows_who_has_a_figure() -> None:
    text = report.plot(result())
    assert "interlock-full" in text
    assert "50 µs" in text
    assert "kserve" not in text


def test_every_kind_of_request_is_whole_http() -> None:
    for kind, make in KINDS.items():
        request = make("/target", "run-")(3)
        head, _, body = request.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head, kind


def test_a_grpc_message_says_its_own_length() -> None:
    found = message(0)
    assert int.from_bytes(found[1:5], "big") == len(found) - 5
    assert frame(4, 1, 0) == b"\0\0\0\x04\x01\0\0\0\0"
