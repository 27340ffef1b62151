"""Spans as an OTLP ExportTraceServiceRequest in JSON.

The rules are those of the OTLP specification 1.x, "JSON Protobuf Encoding": lowerCamelCase names,
trace and span ids in hexadecimal, 64-bit numbers as decimal text, enums as their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from interlock.serving.trace import Attribute, Span

SCOPE = "interlock"
_ERROR = 2
"""STATUS_CODE_ERROR of opentelemetry/proto/trace/v1/trace.proto."""
_encoder = msgspec.json.Encoder()


def request(spans: Sequence[Span], resource: Mapping[str, Attribute]) -> bytes:
    """The body of one export: all spans are of one resource and one scope."""
    scoped = {"scope": {"name": SCOPE}, "spans": [_span(each) for each in spans]}
    return _encoder.encode({"resourceSpans": [{"resource": {"attributes": _pairs(resource)}, "scopeSpans": [scoped]}]})


def rejected(body: bytes) -> int:
    """How many spans a collector's answer (ExportTraceServiceResponse) says it did not take; 0 if it does not say."""
    try:
        said = msgspec.json.decode(body)["partialSuccess"]["rejectedSpans"]
        return max(0, int(said))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0


def _span(span: Span) -> dict[str, Any]:
    made: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.started_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _pairs(span.attributes),
        "status": {"code": _ERROR} if span.failed else {},
    }
    if span.parent_id:
        made["parentSpanId"] = span.parent_id
    return made


def _pairs(attributes: Mapping[str, Attribute]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Attribute) -> dict[str, Any]:
    if isinstance(value, bool):  # before int, which it is too
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": value}
