"""Spans on the wire as OTLP says, a collector that takes them, and collectors that do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from tests.collecting import Collector, collector

from interlock.adapters.otlp import encoding, exporter
from interlock.adapters.otlp.exporter import OtlpExporter
from interlock.base.errors import UsageError
from interlock.serving.trace import INTERNAL, SERVER, Span

pytestmark = pytest.mark.process  # a real HTTP server at the other end

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SERVER_SPAN = Span(
    TRACE,
    "00f067aa0ba902b7",
    "b7ad6b7169203331",
    "POST /x",
    SERVER,
    1_790_000_000_123_456_789,
    1_790_000_000_123_999_999,
    {"s": "text", "i": 9_007_199_254_740_993, "b": True, "l": ("a", "b")},
    True,
)
ROOT_SPAN = Span(TRACE, "53995c3f42cd8ad8", "", "model", INTERNAL, 1, 2, {})


def test_spans_are_encoded_by_the_rules_of_otlp_json() -> None:
    found = json.loads(encoding.request([SERVER_SPAN, ROOT_SPAN], {"service.name": "interlock-scorer"}))
    (resource,) = found["resourceSpans"]
    assert resource["resource"] == {
        "attributes": [{"key": "service.name", "value": {"stringValue": "interlock-scorer"}}]
    }
    (scoped,) = resource["scopeSpans"]
    assert scoped["scope"] == {"name": "interlock"}
    first, second = scoped["spans"]
    assert first == {
        "traceId": TRACE,
        "spanId": "00f067aa0ba902b7",
        "parentSpanId": "b7ad6b7169203331",
        "name": "POST /x",
        "kind": 2,
        "startTimeUnixNano": "1790000000123456789",
        "endTimeUnixNano": "1790000000123999999",
        "attributes": [
            {"key": "s", "value": {"stringValue": "text"}},
            {"key": "i", "value": {"intValue": "9007199254740993"}},
            {"key": "b", "value": {"boolValue": True}},
            {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}},
        ],
        "status": {"code": 2},
    }
    assert (second["kind"], second["status"]) == (1, {})
    assert "parentSpanId" not in second


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"{}", 0),
        (b"", 0),
        (b"<html>", 0),
        (b"[]", 0),
        (b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "x"}}', 3),
        (b'{"partialSuccess": {"rejectedSpans": 3}}', 3),
        (b'{"partialSuccess": {"rejectedSpans": "-3"}}', 0),
        (b'{"partialSuccess": {"rejectedSpans": "many"}}', 0),
        (b'{"partialSuccess": null}', 0),
    ],
)
def test_a_collector_says_what_it_did_not_take(body: bytes, wanted: int) -> None:
    assert encoding.rejected(body) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "collector:4318",
        "ftp://collector",
        "http://",
        "http://u:p@collector",
        "http://c:0",
        "http://c:x",
        "http://c?a=b",
    ],
)
def test_what_is_no_collectors_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="http://collector:4318"):
        OtlpExporter(url, {}, 10)


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as made:
        yield made


def spans(number: int) -> list[Span]:
    return [ROOT_SPAN] * number


def test_a_collector_receives_every_span_in_batches(collecting: Collector) -> None:
    sent = OtlpExporter(collecting.url, {"service.name": "x"}, 10_000)
    for _ in range(100):
        sent.offer(spans(5))
    assert len(collecting.wait_for(500)) == 500
    assert {path for path, _, _ in collecting.requests} == {"/v1/traces"}
    assert {kind for _, kind, _ in collecting.requests} == {"application/json"}
    assert max(len(encoded) for _, _, encoded in collecting.requests) <= exporter.BATCH
    sent.close()
    assert sent.dropped == 0


def test_a_path_of_its_own_is_kept(collecting: Collector) -> None:
    sent = OtlpExporter(f"{collecting.url}/prefix/v1/traces", {}, 10)
    sent.offer(spans(1))
    collecting.wait_for(1)
    assert collecting.requests[0][0] == "/prefix/v1/traces"
    sent.close()


def test_closing_sends_what_waits(collecting: Collector) -> None:
    sent = OtlpExporter(collecting.url, {}, 1_000)
    sent.offer(spans(300))
    sent.close(20)
    assert len(collecting.spans) == 300
    sent.offer(spans(2))
    assert sent.dropped == 2, "whoever comes later has come too late"


def test_what_a_collector_refuses_is_counted_and_the_next_batch_is_sent(collecting: Collector) -> None:
    collecting.status = 503
    sent = OtlpExporter(collecting.url, {}, 1_000)
    sent.offer(spans(7))
    collecting.asked.wait(20)
    collecting.status = 200
    sent.offer(spans(2))
    assert len(collecting.wait_for(2)) == 2
    sent.close()
    assert sent.dropped == 7


def test_what_a_collector_takes_in_part_is_counted(collecting: Collector) -> None:
    collecting.answer = b'{"partialSuccess": {"rejectedSpans": "2"}}'
    sent = OtlpExporter(collecting.url, {}, 1_000)
    sent.offer(spans(5))
    collecting.wait_for(5)
    sent.close(20)
    assert sent.dropped == 2


def test_nobody_at_the_address_costs_the_spans_and_nothing_else() -> None:
    with collector() as made:
        url = made.url
    sent = OtlpExporter(url, {}, 10)
    for _ in range(3):
        sent.offer(spans(4))
    assert sent.dropped == 4, "the third does not fit: two of four wait"
    sent.close(20)
    assert sent.dropped == 12


def test_a_collector_that_never_answers_holds_back_neither_requests_nor_the_end(collecting: Collector) -> None:
    collecting.held = threading.Event()
    sent = OtlpExporter(collecting.url, {}, 100)
    try:
        sent.offer(spans(50))
        collecting.asked.wait(20)
        for _ in range(40):
            sent.offer(spans(5))
        assert sent.dropped == 100, "what does not fit is dropped at once"
        sent.close(0.0)
        assert sent.dropped == 200, "and at the end what waits, since nobody waits for it"
    finally:
        collecting.held.set()
