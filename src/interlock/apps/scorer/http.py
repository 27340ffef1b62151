"""HTTP/1.1 for the scoring API: one asyncio.Protocol on httptools.

Contract. Requests of one connection are answered in their order, pipelined or not. Bounded: header
bytes and fields (431), body (413), unanswered requests of a connection (it is not read further),
time to the end of headers and body (408), idle time (closed). Content-Length together with
Transfer-Encoding is refused (RFC 9112 section 6.1). While leaving, every reply says
`Connection: close`; then the sending side is shut down, and what still arrives is read until the
peer closes or `linger_s` has passed, so that no reset overtakes the last reply.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools

from interlock.base.clock import NS_PER_S, Clock
from interlock.serving.options import ServingOptions
from interlock.serving.wire import v1

JSON = b"application/json"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """One request and the place of its response.

    Attributes:
        method: such as `POST`.
        path: without the query.
        headers: lower-case names; the last of a repeated one.
        body: whole.
    """

    __slots__ = ("_connection", "body", "closes", "headers", "method", "path", "response", "started_ns")

    def __init__(self, connection: Connection, started_ns: int) -> None:
        self._connection = connection
        self.method = ""
        self.path = ""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.closes = False
        self.started_ns = started_ns
        self.response: bytes | None = None

    def respond(self, status: int, body: bytes, kind: bytes = JSON, extra: bytes = b"") -> None:
        """Answer; it goes out when everything before it has."""
        if self.response is not None:
            return
        self._connection.server.note(self, status)
        closes = self.closes or self._connection.server.leaving
        self.closes = closes
        self.response = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
            status,
            _REASONS.get(status, b"Unknown"),
            kind,
            len(body),
            extra,
            b"connection: close\r\n" if closes else b"",
        )
        if self.method != "HEAD":
            self.response += body
        self._connection.flush()

    def refuse(self, status: int, message: str, retry_s: int = 0) -> None:
        """Answer with the protocol's error object."""
        self.respond(status, v1.error(message), extra=b"retry-after: %d\r\n" % retry_s if retry_s else b"")


Handler = Callable[[Exchange], None]
Note = Callable[[Exchange, int], None]


class Server:
    """All connections of one worker, and the order in which it stops."""

    def __init__(self, handler: Handler, note: Note, options: ServingOptions, clock: Clock) -> None:
        self.handler = handler
        self.note = note
        self.options = options
        self.clock = clock
        self.leaving = False
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()

    async def serve(self, sock: Any) -> None:
        """Begin to accept on the inherited listener."""
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=sock)

    def sweep(self) -> None:
        """Close what has been slow or idle for too long; called twice a second."""
        now = self.clock.monotonic_ns()
        for connection in list(self.connections):
            connection.check(now)

    async def stop(self) -> None:
        """Stop accepting, answer what is under way with `Connection: close`, then close the rest."""
        if self._server is not None:
            self._server.close()
        await asyncio.sleep(0)  # one turn: what was accepted already becomes a connection
        self.leaving = True
        await self._emptied(self.options.drain_s)
        for connection in list(self.connections):
            if not connection.pipeline:
                connection.finish()
        await self._emptied(self.options.linger_s + self.options.held_s)
        for connection in list(self.connections):
            connection.abort()

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def _emptied(self, patience_s: float) -> None:
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)


class Connection(asyncio.Protocol):
    """One connection; callbacks of httptools have their fixed names."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pipeline: deque[Exchange] = deque()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._current: Exchange | None = None
        self._url = b""
        self._body: list[bytes] = []
        self._body_size = 0
        self._header_size = 0
        self._fields = 0
        self._in_headers = True
        self._deaf = False
        self._finishing = False
        self._paused = False
        self._deadline_ns = 0

    # --- asyncio ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        self.server.connections.add(self)
        self._wait(self.server.options.idle_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; decisions under way are finished and recorded all the same."""
        self.server.gone(self)
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._deaf:
            return
        if self._current is None:
            self._wait(self.server.options.header_timeout_s)
        if self._in_headers:
            self._header_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reject(400, "upgrades are not served here")
        except httptools.HttpParserError:
            self._reject(400, "not an HTTP/1.1 request")
        if self._in_headers and self._header_size > self.server.options.max_header_bytes:
            self._reject(431, "the headers are too long")

    def eof_received(self) -> bool:
        """The client has sent everything: what is under way is still answered."""
        if not self.pipeline:
            return False
        self._deaf = True
        self.pipeline[-1].closes = True
        return True

    # --- httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._current = Exchange(self, self.server.clock.monotonic_ns())
        self._url = b""
        self._body, self._body_size = [], 0
        self._fields, self._in_headers = 0, True

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._fields += 1
        if self._current is not None:
            key = name.lower()
            if key == b"content-length" and self._current.headers.get(key, value) != value:
                self._reject(400, "two different lengths")
            self._current.headers[key] = value

    def on_headers_complete(self) -> None:
        """The head is whole: judge it before the body comes."""
        exchange, options = self._current, self.server.options
        if exchange is None or self._deaf:
            return
        self._in_headers = False
        self._header_size = 0
        self._wait(options.body_timeout_s)
        headers = exchange.headers
        if self._fields > options.max_headers:
            self._reject(431, "too many header fields")
        elif b"content-length" in headers and b"transfer-encoding" in headers:
            self._reject(400, "Content-Length and Transfer-Encoding exclude each other")
        elif headers.get(b"content-length", b"0").isdigit() and int(headers.get(b"content-length", b"0")) > (
            options.max_body_bytes
        ):
            self._reject(413, "the body is too long")
        elif headers.get(b"expect", b"").lower() == b"100-continue" and not self.pipeline:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(body)
        if self._body_size > self.server.options.max_body_bytes:
            self._reject(413, "the body is too long")
        elif not self._deaf:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        exchange, self._current = self._current, None
        self._in_headers, self._header_size = True, 0
        if exchange is None or self._deaf:
            return
        exchange.method = self._parser.get_method().decode("ascii", "replace")
        exchange.path = self._url.split(b"?", 1)[0].decode("ascii", "replace")
        exchange.body = b"".join(self._body)
        exchange.closes = not self._parser.should_keep_alive()
        self._body = []
        self._wait(self.server.options.idle_timeout_s)
        self.pipeline.append(exchange)
        if exchange.closes:
            self._deaf = True
        if len(self.pipeline) >= self.server.options.max_pipeline and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self.server.handler(exchange)

    # --- answering ----------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what is ready, in order."""
        if self._transport.is_closing():
            return
        out: list[bytes] = []
        last = False
        while self.pipeline and self.pipeline[0].response is not None and not last:
            exchange = self.pipeline.popleft()
            # Pipelined requests behind this one are answered first: only the last may close.
            last = exchange.closes and not self.pipeline
            out.append(exchange.response or b"")
        if out:
            self._transport.write(b"".join(out))
            self._wait(self.server.options.idle_timeout_s)
        if self._paused and len(self.pipeline) < self.server.options.max_pipeline // 2:
            self._paused = False
            self._transport.resume_reading()
        if last:
            self.finish()

    def finish(self) -> None:
        """Shut the sending side down and read until the peer closes."""
        if self._finishing or self._transport.is_closing():
            return
        self._finishing = self._deaf = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._wait(self.server.options.linger_s)

    def abort(self) -> None:
        """Close without waiting for anybody."""
        self._transport.abort()

    def check(self, now_ns: int) -> None:
        """Enforce the time limit that is running."""
        if now_ns < self._deadline_ns or (self.pipeline and not self._finishing):
            return
        if self._finishing:
            self.abort()
        elif self._current is not None:
            self._reject(408, "the request did not arrive in time")
        elif self._header_size:
            self.abort()
        else:
            self.finish()

    def _wait(self, seconds: float) -> None:
        self._deadline_ns = self.server.clock.monotonic_ns() + int(seconds * NS_PER_S)

    def _reject(self, status: int, message: str) -> None:
        """Answer what cannot be read further, and close."""
        if self._deaf:
            return
        self._deaf = True
        exchange = self._current or Exchange(self, self.server.clock.monotonic_ns())
        self._current = None
        exchange.closes = True
        self.pipeline.append(exchange)
        exchange.refuse(status, message)
