"""The gRPC door: `inference.GRPCInferenceService` (OIP) and `grpc.health.v1.Health`.

Contract. Liveness, readiness and health answer anyone, since probes carry no credentials; every
other method first asks who calls. Errors are gRPC codes with a sentence: what a caller did wrong,
INVALID_ARGUMENT before anything is recorded; what nobody foresaw, INTERNAL and a line in our log,
never a stack trace. The client's deadline goes on to scoring; when it passes, the client hears
DEADLINE_EXCEEDED and the decision is made and recorded all the same. Health's `Watch` is not
there: clients take its absence (UNIMPLEMENTED) for serving, and a drain tells them by GOAWAY.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec

from interlock.apps.scorer.calls import Call, Shared
from interlock.apps.scorer.http2 import Connection
from interlock.apps.scorer.listening import Listening
from interlock.apps.scorer.ports import Caller, Scoring
from interlock.apps.scorer.tracing import Tracing
from interlock.base.clock import Clock
from interlock.base.errors import UsageError
from interlock.serving.call import Unanswered
from interlock.serving.options import ServingOptions
from interlock.serving.trace import parse
from interlock.serving.wire import grpc as wire
from interlock.serving.wire import oip
from interlock.serving.wire.grpc import Code, Refusal

Identify = Callable[[Mapping[str, str], Mapping[str, Any] | None], Caller]
"""Who calls, by metadata and verified certificate; raises Unanswered (401, 403)."""
Note = Callable[[Call, Code], None]

EXTENSIONS = ("binary_tensor_data", "model_repository")
_SERVICES = ("", "inference.GRPCInferenceService")
_SCORES = wire.INFERENCE.rpcs["ModelInfer"].path
_SERVING, _NOT_SERVING = 1, 2
_SWEEP_S = 0.5
_ANYONE = Caller("")
_log = logging.getLogger(__name__)

_Method = Callable[["GrpcDoor", Call, Any, Caller], None]


@dataclass(frozen=True)
class _Route:
    """What answers a path, the class of its request, and whether anyone may ask."""

    method: _Method
    request: Any
    open: bool


class GrpcDoor:
    """One worker's gRPC side.

    Args:
        scoring: answers.
        identify: tells callers apart.
        options: bounds and times, those of HTTP where they mean the same.
        clock: for deadlines.
        note: is told every call's end, for metrics.
        tracing: begins the traces of calls that score, or None: none is traced.
    """

    def __init__(
        self,
        scoring: Scoring,
        identify: Identify,
        options: ServingOptions,
        clock: Clock,
        note: Note | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._scoring = scoring
        self._identify = identify
        self._tracing = tracing
        self._shared = Shared(_ROUTES, self._receive, note or (lambda call, code: None), options, clock)
        self._shared.gone = self._gone
        self._listening: Listening | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def start(self, listener: socket.socket, tls: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        """Begin to accept on the inherited listener, which must not block; `tls` gives the context of now."""
        shared = self._shared
        self._listening = Listening(
            listener,
            lambda: Connection(shared),
            lambda: len(shared.connections),
            shared.options.max_connections,
            tls,
        )
        self._listening.watch()
        self._sweep()

    async def stop(self, drain_s: float, last: bool = False) -> None:
        """Stop accepting, let clients go, answer what is under way, then close the rest.

        Args:
            drain_s: how long calls under way may take.
            last: nobody else serves the listener: what the kernel has queued is accepted first.
        """
        connections, options = self._shared.connections, self._shared.options
        if self._listening is not None:
            await self._listening.end(last, options.linger_s)
        self._shared.leaving = True
        for connection in list(connections):
            connection.leave()
        await self._emptied(drain_s)
        for connection in list(connections):
            connection.give_up()
        await self._emptied(options.linger_s)
        for connection in list(connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._shared.connections)

    @property
    def under_way(self) -> int:
        """Calls that are not answered yet."""
        return sum([each.under_way for each in self._shared.connections])

    def _sweep(self) -> None:
        now = self._shared.now_ns()
        for connection in list(self._shared.connections):
            connection.check(now)
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _gone(self, connection: Connection) -> None:
        self._shared.connections.discard(connection)
        if not self._shared.connections:
            self._empty.set()
        if self._listening is not None:
            self._listening.watch()

    async def _emptied(self, patience_s: float) -> None:
        self._empty.clear()
        if self._shared.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)

    def _receive(self, call: Call) -> None:
        """Answer a call whose message is complete."""
        route = _ROUTES[call.path]
        try:
            caller = _ANYONE if route.open else self._caller(call)
            body = call.message()
            route.method(self, call, body if route.request is None else wire.parse(route.request, body), caller)
        except Exception as error:
            call.refuse(_refusal(error))

    def _caller(self, call: Call) -> Caller:
        parent = parse(call.headers.get("traceparent", ""))
        trace_id = parent.trace_id if parent is not None else ""
        if self._tracing is not None and call.path == _SCORES:
            call.trace = self._tracing.begin(_SCORES[1:], parent, call.started_ns)
            trace_id = trace_id or (call.trace.trace_id if call.trace else "")
        caller = self._identify(call.headers, call.certificate)
        if not trace_id and not call.deadline_ns:
            return caller
        return msgspec.structs.replace(caller, trace_id=trace_id, deadline_ns=call.deadline_ns, trace=call.trace)

    def _infer(self, call: Call, body: bytes, caller: Caller) -> None:
        request, raw = wire.decode(body)
        caller.may("infer", request.model, 1)

        def done(outcome: oip.InferResponse | Unanswered) -> None:
            try:
                if isinstance(outcome, Unanswered):
                    raise outcome
                call.label = f"{outcome.model}|{outcome.version}"
                call.answer(wire.encode(outcome, raw))
            except Exception as error:
                call.refuse(_refusal(error))

        self._scoring.infer(request, caller, done)

    def _live(self, call: Call, message: Any, caller: Caller) -> None:
        _reply(call, "ServerLive", live=True)

    def _ready(self, call: Call, message: Any, caller: Caller) -> None:
        _reply(call, "ServerReady", ready=self._scoring.ready())

    def _model_ready(self, call: Call, message: Any, caller: Caller) -> None:
        caller.may("models", message.name, 1)
        _reply(call, "ModelReady", ready=self._scoring.model_ready(message.name, message.version))

    def _server(self, call: Call, message: Any, caller: Caller) -> None:
        _reply(call, "ServerMetadata", name="interlock", version=_VERSION, extensions=EXTENSIONS)

    def _model(self, call: Call, message: Any, caller: Caller) -> None:
        caller.may("models", message.name, 1)
        call.answer(wire.model_metadata(self._scoring.describe(message.name, message.version)))

    def _index(self, call: Call, message: Any, caller: Caller) -> None:
        caller.may("repository.index", "", 1)
        seen = [each for each in self._scoring.repository_index() if caller.sees(each["name"])]
        call.answer(wire.repository_index(seen, message.ready))

    def _load(self, call: Call, message: Any, caller: Caller) -> None:
        name = wire.named(message)
        caller.may("repository.load", name, 1)
        done = _changed(call, "RepositoryModelLoad", name, "isLoaded")
        self._scoring.repository_load(name, caller, done, wire.version_of(message))

    def _unload(self, call: Call, message: Any, caller: Caller) -> None:
        name = wire.named(message)
        caller.may("repository.unload", name, 1)
        done = _changed(call, "RepositoryModelUnload", name, "isUnloaded")
        self._scoring.repository_unload(name, caller, done, wire.version_of(message))

    def _health(self, call: Call, message: Any, caller: Caller) -> None:
        if message.service not in _SERVICES:
            raise Refusal(Code.NOT_FOUND, "no such service")
        status = _SERVING if self._scoring.ready() else _NOT_SERVING
        call.answer(wire.HEALTH.rpcs["Check"].response(status=status).SerializeToString())


def _changed(call: Call, rpc: str, name: str, flag: str) -> Callable[[Unanswered | None], None]:
    def done(outcome: Unanswered | None) -> None:
        if outcome is None:
            _reply(call, rpc, model_name=name, **{flag: True})
        else:
            call.refuse(_refusal(outcome))

    return done


def _reply(call: Call, rpc: str, **fields: Any) -> None:
    call.answer(wire.INFERENCE.rpcs[rpc].response(**fields).SerializeToString())


def _refusal(error: Exception) -> Refusal:
    """What the caller is told about an error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UsageError):
        return Refusal(Code.INVALID_ARGUMENT, str(error))
    if isinstance(error, Unanswered):
        return Refusal(wire.code_of(error.status), error.message, error.retry_s)
    _log.error("a call failed", exc_info=error)
    return Refusal(Code.INTERNAL, "an internal error: the call was not answered")


_VERSION = version("interlock")
_METHODS: Mapping[str, tuple[_Method, bool]] = {
    "ServerLive": (GrpcDoor._live, True),
    "ServerReady": (GrpcDoor._ready, True),
    "ModelReady": (GrpcDoor._model_ready, False),
    "ServerMetadata": (GrpcDoor._server, False),
    "ModelMetadata": (GrpcDoor._model, False),
    "ModelInfer": (GrpcDoor._infer, False),
    "RepositoryIndex": (GrpcDoor._index, False),
    "RepositoryModelLoad": (GrpcDoor._load, False),
    "RepositoryModelUnload": (GrpcDoor._unload, False),
}
"""Method, and whether anyone may ask."""
_ROUTES: Mapping[str, _Route] = {
    rpc.path: _Route(
        _METHODS[name][0],
        None if name == "ModelInfer" else rpc.request,  # decoded and checked in the wire module
        _METHODS[name][1],
    )
    for name, rpc in wire.INFERENCE.rpcs.items()
} | {wire.HEALTH.rpcs["Check"].path: _Route(GrpcDoor._health, wire.HEALTH.rpcs["Check"].request, True)}
