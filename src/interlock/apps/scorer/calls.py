"""One unary gRPC call, from its headers to its status, and what all connections of a worker share.

Contract. A call is handed on when its whole message is there, and answered once, by `answer` or
`refuse`, now or later; what comes after the client has left, its deadline or its refusal is dropped.
A client that leaves cancels nothing but its answer: a decision under way is finished and recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, cast

from grpclib.protocol import Stream

from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions
from interlock.serving.trace import Trace
from interlock.serving.wire import grpc as wire
from interlock.serving.wire.grpc import Code, Refusal

if TYPE_CHECKING:
    from interlock.apps.scorer.http2 import Connection

UNFINISHED = 4
"""Largest messages that a connection may have under way at once, in bytes."""


class Shared:
    """What the connections of one worker have in common.

    Args:
        methods: paths that exist.
        receive: takes a call whose message is complete.
        note: is told every call's end.
        options: bounds.
        clock: monotonic.
    """

    def __init__(
        self,
        methods: Container[str],
        receive: Callable[[Call], None],
        note: Callable[[Call, Code], None],
        options: ServingOptions,
        clock: Clock,
    ) -> None:
        self.methods = methods
        self.receive = receive
        self.note = note
        self.options = options
        self.now_ns = clock.monotonic_ns
        self.connections: set[Connection] = set()
        self.gone: Callable[[Connection], None] = lambda connection: None
        self.leaving = False


class Call:
    """One unary call. It stands in for grpclib's buffer and cancellation of its stream.

    Attributes:
        path: `/package.Service/Method`.
        headers: as received, lower-case names, repeated ones joined by commas.
        started_ns: monotonic.
        deadline_ns: monotonic; 0: none.
        label: `<service>|<model version>` for metrics, set by whoever answers.
        trace: what it goes through, where that is sampled.
    """

    __slots__ = (
        "_connection",
        "_parts",
        "_release",
        "_size",
        "_timer",
        "deadline_ns",
        "done",
        "headers",
        "label",
        "path",
        "started_ns",
        "stream",
        "task",
        "trace",
        "waits_ns",
    )

    def __init__(
        self, connection: Connection, stream: Stream, headers: Mapping[str, str], release: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._release = release
        self._parts: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.stream = stream
        self.headers = headers
        self.path = headers.get(":path", "")
        self.label = ""
        self.trace: Trace | None = None
        self.done = False
        self.task: asyncio.Task[None] | None = None
        self.started_ns = connection.shared.now_ns()
        self.waits_ns = self.started_ns
        """Since when the client is waited for; 0: it is not."""
        self.deadline_ns = 0

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The client's verified certificate, as `ssl.SSLSocket.getpeercert` gives it."""
        return self._connection.certificate

    def begin(self) -> None:
        """Refuse what can be refused before the message is there; else wait for it, until the deadline."""
        if self.headers.get(":method") != "POST":
            self._connection.turn_away(self, 405)
            return
        if self.headers.get("content-type") not in ("application/grpc", "application/grpc+proto"):
            self._connection.turn_away(self, 415)
            return
        try:
            if self.path not in self._connection.shared.methods:
                raise Refusal(Code.UNIMPLEMENTED, "no such method")
            timeout = self.headers.get("grpc-timeout")
            if timeout is not None:
                self._limit(wire.timeout_ns(timeout))
        except UsageError as error:
            self.refuse(Refusal(Code.INVALID_ARGUMENT, str(error)))
        except Refusal as why:
            self.refuse(why)

    def message(self) -> bytes:
        """The request's message; raises UsageError or Refusal."""
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        coding = self.headers.get("grpc-encoding", "identity")
        return wire.unframed(whole, coding, self._connection.shared.options.max_body_bytes)

    def answer(self, message: bytes) -> None:
        """Send the response's message and OK."""
        if not self.done:
            self._connection.send(self, wire.framed(message))

    def refuse(self, why: Refusal) -> None:
        """Send a status instead of a message."""
        if not self.done:
            self._connection.send_status(self, why)

    def finish(self) -> None:
        """Nothing more happens in this call."""
        self.done = True
        self._connection.unfinished -= self._size
        self._parts, self._size, self.waits_ns = [], 0, 0
        if self._timer is not None:
            self._timer.cancel()
        if self.task is not None:
            self.task.cancel()

    def release(self) -> None:
        """Let go of the stream."""
        self._release()

    # What grpclib calls on a stream's buffer and wrapper.

    def add(self, data: bytes, ack_size: int) -> None:
        """Bytes of the message have come."""
        self._connection.connection.ack(cast(int, self.stream.id), ack_size)
        if self.done:
            return
        self._parts.append(data)
        self._size += len(data)
        self._connection.unfinished += len(data)
        most = self._connection.shared.options.max_body_bytes
        first = self._parts[0]
        if self._size > most + wire.PREFIX or (len(first) >= wire.PREFIX and wire.declared(first) > most):
            self.refuse(wire.too_large(most))
        elif self._connection.unfinished > UNFINISHED * (most + wire.PREFIX):
            self.refuse(Refusal(Code.RESOURCE_EXHAUSTED, "too many large messages at once on this connection", 1))

    def eof(self) -> None:
        """The message is complete."""
        if not self.done:
            self.waits_ns = 0
            self._connection.shared.receive(self)

    def unacked_size(self) -> int:
        """Flow control is acknowledged as data comes: nothing is left."""
        return 0

    def cancel(self, error: Exception) -> None:
        """The client reset the stream, or the connection is gone."""
        del error
        if not self.done:
            self.finish()

    def _limit(self, timeout_ns: int) -> None:
        self.deadline_ns = self.started_ns + timeout_ns
        if not timeout_ns:
            raise Refusal(Code.DEADLINE_EXCEEDED, "the deadline had passed when the call came")
        late = Refusal(Code.DEADLINE_EXCEEDED, "the deadline has passed")
        self._timer = asyncio.get_running_loop().call_later(timeout_ns / NS_PER_S, self.refuse, late)
