"""Everything of a worker that callers meet: HTTP and gRPC doors, TLS, the gate before them, and their counts.

Contract. Both doors answer from the same desk and ask the same gate. Stopping closes both in the
order that each door's own contract states; what was accepted is answered.
"""

from __future__ import annotations

import asyncio
import socket
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from interlock.adapters.explainer.client import ExplainClient
from interlock.apps.scorer import tls
from interlock.apps.scorer.calls import Call
from interlock.apps.scorer.content import priority_of
from interlock.apps.scorer.desk import Desk, House
from interlock.apps.scorer.doors import Doors
from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.gate import Denied, Gate
from interlock.apps.scorer.grpc import GrpcDoor
from interlock.apps.scorer.http import Server
from interlock.apps.scorer.ports import Caller
from interlock.apps.scorer.tracing import Tracing
from interlock.base.clock import NS_PER_S, Clock, EdgeClock
from interlock.base.ids import Ids
from interlock.features.definition import FeatureSet
from interlock.serving import metrics
from interlock.serving.wire.grpc import Code
from interlock.settings import Settings
from interlock.wiring import scorer as rows

_FAULTS = (Code.INTERNAL, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED)
"""Codes that OpenTelemetry's conventions for gRPC servers call an error of the server."""


class Front:
    """One worker's doors.

    Args:
        house: the worker behind them.
        settings: of the installation.
        features: whose velocities the online store keeps.
        clocks: the machine's, and the edge's.
        ids: of decisions.
        denied: gets what was denied at the gate.
        tracing: of scoring requests; None: none is traced.
    """

    def __init__(  # long: the worker's parts
        self,
        house: House,
        settings: Settings,
        features: FeatureSet,
        clocks: tuple[Clock, EdgeClock],
        ids: Ids,
        denied: Denied,
        tracing: Tracing | None = None,
    ) -> None:
        self._clock, edge = clocks
        options = settings.scoring
        desk = Desk(house, (rows.tokeniser(settings), features), self._clock, edge, ids, options)
        self._options = options
        self._gate = Gate.from_home(settings, self._clock, denied)
        explains = ExplainClient(settings.places.explain_socket, settings.explain.patience_s)
        self._tracing = tracing
        self._doors = Doors(house, desk, self._gate, options, explains, tracing)
        self.server = Server(self._doors.handle, self._note, options, self._clock)
        self._grpc = GrpcDoor(desk, self._identify, options, self._clock, self._note_call, tracing)
        self._tls = tls.Tls(options, settings.home)
        self._grpc_tls = tls.Tls(options, settings.home, tls.GRPC)
        self._watching: asyncio.Task[None] | None = None
        self.responses: Counter[str] = Counter()
        self.latency: dict[str, list[int]] = {}
        self.latency_sum: dict[str, float] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server.connections) + self._grpc.connections

    @property
    def inflight(self) -> int:
        """Requests to score that are not answered yet; counted when asked, not when they come."""
        pipelines = [each.pipeline for each in self.server.connections if each.pipeline]
        asked = [each for pipeline in pipelines for each in pipeline if each.head.method == "POST"]
        return sum([each.response is None for each in asked]) + self._grpc.under_way

    @property
    def denials(self) -> int:
        """Requests that the gate turned away."""
        return self._gate.denials

    async def serve(self, listener: socket.socket, grpc: socket.socket | None, estate: socket.socket | None) -> None:
        """Begin to accept, and take over a predecessor's idle connections."""
        self._watching = asyncio.create_task(self._gate.watch())
        await self.server.serve(listener, lambda: self._tls.context)
        if estate is not None:
            self.server.inherit(estate)
        if grpc is not None:
            await self._grpc.start(grpc, lambda: self._grpc_tls.context)

    async def hand_over(self, line: socket.socket) -> int:
        """Give idle HTTP connections to the successor; how many it took. gRPC's are told by GOAWAY."""
        return await self.server.hand_over(line)

    async def stop(self, last: bool) -> None:
        """See the contract; `last`: nobody else serves the listeners."""
        await asyncio.gather(self.server.stop(last), self._grpc.stop(self._options.drain_s, last))
        if self._watching is not None:
            self._watching.cancel()

    def sweep(self) -> None:
        """Close what is slow, take over changed certificates; twice a second."""
        self.server.sweep()
        self._tls.refresh()
        self._grpc_tls.refresh()

    def _identify(self, metadata: Mapping[str, str], certificate: Mapping[str, Any] | None) -> Caller:
        principal = self._gate.identify_call(metadata, certificate)
        priority = metadata.get("x-interlock-priority")
        return Caller(
            principal.name,
            principal.roles,
            priority_of(None if priority is None else priority.encode()),
            may=partial(self._gate.check, principal),
            sees=partial(self._gate.sees, principal),
        )

    def _note(self, exchange: Exchange, status: int) -> None:
        self.responses[str(status)] += 1
        if exchange.label:
            self._time(exchange.label, exchange.started_ns)
        if exchange.trace is not None and self._tracing is not None:
            self._tracing.end(exchange.trace, {"http.response.status_code": status}, status >= 500)

    def _note_call(self, call: Call, code: Code) -> None:
        self.responses[f"grpc-{code.name}"] += 1
        if call.label and code is Code.OK:
            self._time(call.label, call.started_ns)
        if call.trace is not None and self._tracing is not None:
            self._tracing.end(call.trace, {"rpc.grpc.status_code": int(code)}, code in _FAULTS)

    def _time(self, label: str, started_ns: int) -> None:
        seconds = (self._clock.monotonic_ns() - started_ns) / NS_PER_S
        filled = self.latency.get(label)
        if filled is None:
            filled = self.latency[label] = [0] * (len(metrics.BUCKETS) + 1)
            self.latency_sum[label] = 0.0
        filled[bisect_left(metrics.BUCKETS, seconds)] += 1
        self.latency_sum[label] += seconds
