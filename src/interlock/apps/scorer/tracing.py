"""Which requests of a worker are traced, and where their spans go.

Contract. The caller's `traceparent` decides; without one a share of the requests begins a trace of
its own. Nothing here waits: the sink takes the spans or drops and counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from interlock.base.clock import Clock
from interlock.base.ids import Ids
from interlock.serving import trace
from interlock.serving.trace import Attribute, Parent, Span, Trace


class Sink(Protocol):
    """Takes finished spans; `adapters.otlp.exporter.OtlpExporter`."""

    @property
    def dropped(self) -> int:
        """Spans that reached nobody."""
        ...

    def offer(self, spans: Sequence[Span]) -> None:
        """Take them or drop them; MUST NOT wait and MUST NOT raise."""
        ...

    def close(self, patience_s: float) -> None:
        """Send what is left; may wait so long."""
        ...


class Tracing:
    """The traces of one worker.

    Args:
        sink: takes what is finished.
        ratio: share of the requests without a parent that are sampled.
        ids: of traces and spans.
        clock: wall and monotonic.
    """

    def __init__(self, sink: Sink, ratio: float, ids: Ids, clock: Clock) -> None:
        self._ratio = ratio
        self._ids = ids
        self._clock = clock
        self.sink = sink

    def begin(self, name: str, parent: Parent | None, started_ns: int) -> Trace | None:
        """The trace of a request that came at a monotonic time; None: it is not sampled."""
        if parent is not None:
            if not parent.sampled:
                return None
            trace_id, parent_id = parent.trace_id, parent.span_id
        elif self._ratio:
            trace_id, parent_id = self._ids.random(16).hex(), ""
            if not trace.sampled(trace_id, self._ratio):
                return None
        else:
            return None
        return Trace(name, trace_id, parent_id, started_ns, self._clock.now_ns() - self._clock.monotonic_ns())

    def end(self, ended: Trace, outcome: Mapping[str, Attribute], failed: bool) -> None:
        """Its reply is ready."""
        ended.end(self._clock.monotonic_ns(), outcome, failed)
        self.sink.offer(ended.spans(self._ids.random(trace.ID_BYTES * ended.size)))
