"""What a sampled request went through, as spans of the W3C trace that its caller began. Pure values.

Contract. A span holds names and numbers that this scorer made itself: service, version, arm, batch
size, decision ids, how the answer was degraded; never an input, a token of one, or anything else
that a caller sent, save the ids of its trace. A request that is not sampled has no `Trace`, and the
hot path asks nothing but that. Steps are noted on the loop that serves the request; times are
monotonic, and become wall time once, by the difference of the two clocks when the request came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from interlock.decision.record import DecisionRecord

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Span kinds, by their numbers in opentelemetry/proto/trace/v1/trace.proto."""
NAMED = 32
"""Decisions of one request whose ids its span names; the count is always whole."""
STORE, MODEL, RECORD = "store", "model", "record"
"""Steps of a request: the trip to the online store, a model call, what is written before the reply."""
ID_BYTES = 8
"""Random bytes per span."""

Attribute = str | int | bool | tuple[str, ...]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


class Parent(msgspec.Struct, frozen=True):
    """The caller's span: trace id (32 hexadecimal digits), span id (16), and whether the caller samples it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse(traceparent: str) -> Parent | None:
    """The caller's span by its `traceparent`; None for none, or one that W3C Trace Context calls invalid.

    A version beyond 00 may carry more fields, which are ignored (section 3.2.2 and 4 of the recommendation).
    """
    found = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1))


def sampled(trace_id: str, ratio: float) -> bool:
    """Whether a trace is one of the `ratio` that are sampled: everybody decides the same by its last 56 bits."""
    return int(trace_id[18:], 16) < ratio * (1 << 56)


class Span(msgspec.Struct, frozen=True):
    """One finished span.

    Attributes:
        trace_id: 32 hexadecimal digits; span_id and parent_id 16, parent_id empty for a root.
        kind: SERVER for the request, CLIENT for what it asked of another process, else INTERNAL.
        started_ns: wall clock, like ended_ns.
        failed: it did not do what it was for.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    failed: bool = False


class _Step(msgspec.Struct):
    name: str
    kind: int
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    failed: bool


class Trace:
    """One sampled request on its way.

    Args:
        name: of its server span.
        trace_id: 32 hexadecimal digits.
        parent_id: the caller's span; empty where the trace begins here.
        started_ns: monotonic.
        offset_ns: wall clock minus monotonic.
    """

    __slots__ = ("_attributes", "_decisions", "_offset_ns", "_parent_id", "_steps", "trace_id")

    def __init__(self, name: str, trace_id: str, parent_id: str, started_ns: int, offset_ns: int) -> None:
        self.trace_id = trace_id
        self._parent_id = parent_id
        self._offset_ns = offset_ns
        self._attributes: dict[str, Attribute] = {}
        self._decisions: list[str] = []
        self._steps = [_Step(name, SERVER, started_ns, started_ns, self._attributes, False)]

    def step(
        self, name: str, times: tuple[int, int], attributes: Mapping[str, Attribute], failed: bool = False
    ) -> None:
        """Something happened from one monotonic time to another."""
        kind = CLIENT if name == STORE else INTERNAL
        self._steps.append(_Step(name, kind, *times, attributes, failed))

    def decided(self, record: DecisionRecord) -> None:
        """A decision of this request stands; the last one names service, arm and version."""
        self._decisions.append(record.decision_id)
        known = self._attributes
        known["interlock.service"] = record.service
        known["interlock.arm"] = record.arm
        known["interlock.model_version"] = record.version
        known["interlock.degraded"] = int(known.get("interlock.degraded", 0)) | record.degraded  # type: ignore[arg-type]

    def end(self, ended_ns: int, outcome: Mapping[str, Attribute], failed: bool) -> None:
        """The reply is ready: at a monotonic time, with what the protocol says; `failed` is this server's fault."""
        recorded = [step.ended_ns for step in self._steps if step.name == RECORD]
        if recorded:
            self.step("reply", (max(recorded), ended_ns), {})
        whole = self._steps[0]
        whole.ended_ns, whole.failed = ended_ns, failed
        self._attributes.update(outcome)
        if self._decisions:
            self._attributes["interlock.decisions"] = len(self._decisions)
            self._attributes["interlock.decision_ids"] = tuple(self._decisions[:NAMED])

    @property
    def size(self) -> int:
        """How many spans it is."""
        return len(self._steps)

    def spans(self, chance: bytes) -> tuple[Span, ...]:
        """The ended request as spans, its server span first, with ids from `ID_BYTES * size` random bytes."""
        steps = self._steps
        ids = [chance[at : at + ID_BYTES].hex() for at in range(0, ID_BYTES * len(steps), ID_BYTES)]
        offset = self._offset_ns
        return tuple(
            Span(
                self.trace_id,
                ids[place],
                ids[0] if place else self._parent_id,
                step.name,
                step.kind,
                step.started_ns + offset,
                step.ended_ns + offset,
                step.attributes,
                step.failed,
            )
            for place, step in enumerate(steps)
        )


class Traced(Protocol):
    """What a row's call offers: its trace, or None."""

    trace: Trace | None


def decided(made: Iterable[tuple[Traced, DecisionRecord]]) -> None:
    """Decisions stand: tell the traced ones of their requests."""
    for call, record in made:
        if call.trace is not None:
            call.trace.decided(record)


def step(
    calls: Iterable[Traced],
    name: str,
    times: tuple[int, int],
    attributes: Mapping[str, Attribute],
    failed: bool = False,
) -> None:
    """Note a step that several rows took together, once per request of theirs."""
    for trace in {id(call.trace): call.trace for call in calls if call.trace is not None}.values():
        trace.step(name, times, attributes, failed)
