"""HTTP/1.1 for the scoring API: one asyncio.Protocol on httptools.

Contract. Requests of one connection are answered in their order, pipelined or not. Bounded: header
bytes and fields (431), body (413), unanswered requests and unread replies of a connection (it is
not read further), time to the end of headers and body (408), idle time (closed), connections per
worker (further ones stay in the kernel's queue). Framing that two parties could read differently
is refused (RFC 9112 sections 3.2 and 6.1). While leaving, the last reply of each connection says
`Connection: close`; then the sending side is shut down, and what still arrives is read until the
peer closes or `linger_s` has passed, so that no reset overtakes that reply. The listener is
shared with other processes: it is closed, never shut down. A connection of which nothing is in
this process can be lent to another one (`handover`), and goes on there.

A head that httptools has read before, byte for byte, is not read again: a payment application sends
the same one with every request. Only plain heads are remembered (see `exchange.plain`), and only whole
requests are taken this way, so that both ways cut the stream at the same places.
"""

# long: a connection and its server know each other's state

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, cast

import httptools

from interlock.apps.scorer.exchange import JSON, Exchange, Head, path_of, plain
from interlock.apps.scorer.handover import Giving, Taking
from interlock.apps.scorer.listening import Listening
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BITE = 4_096
_HEADS = 1_024
_BLANK = b"\r\n\r\n"
_NEVER = 1 << 63
_log = logging.getLogger(__name__)


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
        self.date = self.usual = b""
        self.now_ns = 0
        """Monotonic, as of the last sweep: exact enough for limits of seconds."""
        self.heads: dict[bytes, Head] = {}
        self.connections: set[Connection] = set()
        self.giving: Giving | None = None
        self._listening: Listening | None = None
        self._empty = asyncio.Event()
        self._tell_time()

    async def serve(self, listener: socket.socket, tls: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        """Begin to accept on the inherited listener, which must not block; `tls` gives the context of now."""
        most = self.options.max_connections
        self._listening = Listening(listener, lambda: Connection(self), lambda: len(self.connections), most, tls)
        self._listening.watch()

    def inherit(self, estate: socket.socket) -> None:
        """Take over the connections that a predecessor gives away; call it when this server serves."""
        if self._listening is None:
            raise UsageError("an estate before there is a listener", "this is a defect: report it")
        Taking(estate, self._listening.room, self._listening.adopt)

    async def hand_over(self, line: socket.socket) -> int:
        """Stop accepting and give each connection to the successor when it is quiet; how many were taken.

        Ends when there is none left, the successor takes no more, or `drain_s` has passed; `stop` is next.
        """
        if self._listening is None or self._listening.encrypted:
            return 0  # the state of TLS is in this process alone
        await self._listening.end(False, self.options.linger_s)
        self.giving = giving = Giving(line)
        for connection in self.connections:
            giving.offer(connection)
        ended = asyncio.create_task(giving.ended.wait())
        emptied = asyncio.create_task(self._emptied(self.options.drain_s))
        await asyncio.wait((ended, emptied), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        emptied.cancel()
        self.giving = None
        giving.end()
        return giving.given

    def sweep(self) -> None:
        """Close what has been slow or idle for too long; called twice a second."""
        self._tell_time()
        for connection in list(self.connections):
            connection.check(self.now_ns)

    async def stop(self, last: bool = False) -> None:
        """Stop accepting, answer what is under way with `Connection: close`, then close the rest.

        Args:
            last: nobody else serves the listener: what the kernel has queued is accepted first.
        """
        if self._listening is not None:
            await self._listening.end(last, self.options.linger_s)
        self.leaving = True
        await self._emptied(self.options.drain_s)
        for connection in list(self.connections):
            if connection.quiet:
                connection.finish()
        await self._emptied(self.options.linger_s + self.options.held_s)
        for connection in list(self.connections):
            connection.abort()

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()
        if self._listening is not None:
            self._listening.watch()

    async def _emptied(self, patience_s: float) -> None:
        self._empty.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)

    def _tell_time(self) -> None:
        self.now_ns = self.clock.monotonic_ns()
        self.date = formatdate(self.clock.now_ns() / NS_PER_S, usegmt=True).encode()
        self.usual = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-type: %b\r\ncontent-length: " % (self.date, JSON)

    def remember(self, raw: bytes, head: Head) -> None:
        """Keep a head, so that the next one like it need not be read."""
        if len(self.heads) >= _HEADS:
            self.heads.clear()
        self.heads[raw] = head


class Connection(asyncio.Protocol):
    """One connection; callbacks of httptools have their fixed names."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pipeline: deque[Exchange] = deque()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._current: Exchange | None = None
        self._raw = b""
        self._url = b""
        self._body: list[bytes] = []
        self._body_size = 0
        self._arrived = 0
        self._head_size = 0
        self._fields = 0
        self._hosts = 0
        self._in_headers = True
        self._deaf = False
        self._finishing = False
        self._ended = False
        self._full = False
        self._unread = False
        self._held = b""
        self._deadline_ns = 0
        self.certificate: Mapping[str, Any] | None = None
        """The client's, once TLS has verified it."""

    @property
    def quiet(self) -> bool:
        """Whether no request is being received or answered."""
        return not self.pipeline and self._current is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        self.certificate = tls.getpeercert() if tls is not None else None
        self.server.connections.add(self)
        self._wait(self.server.options.idle_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; decisions under way are finished and recorded all the same."""
        self.server.gone(self)
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Bytes came; a long piece is read bit by bit, since it may hold thousands of requests."""
        if self._current is None and not self._deaf:
            data = self._known(data)
        for start in range(0, len(data), _BITE):
            if self._full or self._unread:
                self._held = data[start:]
                return
            self._read(data[start : start + _BITE])

    def _known(self, data: bytes) -> bytes:
        """Take whole requests with remembered heads off the front; the rest."""
        heads, start, end = self.server.heads, 0, len(data)
        while start < end and not (self._full or self._unread or self._deaf):
            blank = data.find(_BLANK, start) + 4
            head = heads.get(data[start:blank]) if blank > 3 else None
            if head is None or (stop := blank + head.length) > end:
                break
            exchange = Exchange(self, head, self.server.clock.monotonic_ns())
            exchange.body = data[blank:stop]
            start = stop
            self._take(exchange)
        return data[start:] if start else data

    def _read(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._in_headers:
            self._arrived += len(data)
        self._raw = data[: data.find(_BLANK) + 4] if self._current is None else b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # answered as any request, on a connection that ends with it
        except httptools.HttpParserError:
            self._reject(400, "not an HTTP/1.1 request")
        if self._in_headers and self._arrived > self.server.options.max_header_bytes:
            self._reject(431, "the headers are too long")

    def eof_received(self) -> bool:
        """The client has sent everything: what is under way is still answered."""
        self._ended = True
        if not self.pipeline:
            return False
        self._deaf = True
        self.pipeline[-1].closes = True
        return True

    def pause_writing(self) -> None:
        """The client does not read its replies: stop reading its requests."""
        self._unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._unread = False
        self._read_on()

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._deaf:
            return
        self._current = Exchange(self, Head(), self.server.clock.monotonic_ns())
        self._url = b""
        self._body, self._body_size = [], 0
        self._head_size = self._fields = self._hosts = 0
        self._in_headers = True
        self._wait(self.server.options.header_timeout_s)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        self._fields += 1
        self._head_size += len(name) + len(value) + 4
        if self._current is not None:
            key = name.lower()
            self._hosts += key == b"host"
            headers = self._current.head.headers
            # RFC 9110 section 5.3. Of two credentials neither counts: who checked before us may have read the other.
            headers[key] = headers[key] + b", " + value if key in headers else value

    def on_headers_complete(self) -> None:
        """The head is whole: judge it before the body comes."""
        exchange, options = self._current, self.server.options
        if exchange is None or self._deaf:
            return
        self._in_headers = False
        self._arrived = 0
        self._wait(options.body_timeout_s)
        headers = exchange.head.headers
        length = headers.get(b"content-length", b"0")
        if self._fields > options.max_headers or self._head_size + len(self._url) > options.max_header_bytes:
            self._reject(431, "the headers are too long, or too many")
        elif b"content-length" in headers and b"transfer-encoding" in headers:
            self._reject(400, "Content-Length and Transfer-Encoding exclude each other")
        elif (version := self._parser.get_http_version()) not in ("1.0", "1.1"):
            self._reject(505, "this door speaks HTTP/1.1")
        elif self._hosts > 1 or (not self._hosts and version == "1.1"):
            self._reject(400, "a request has exactly one Host")
        elif length.isdigit() and int(length) > options.max_body_bytes:
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
        self._in_headers, self._arrived = True, 0
        raw, self._raw = self._raw, b""
        if exchange is None or self._deaf:
            return
        head = exchange.head
        head.method = self._parser.get_method().decode("ascii", "replace")
        head.path = path_of(self._url)
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        exchange.closes = not self._parser.should_keep_alive() or self._parser.should_upgrade()
        if raw and not exchange.closes and plain(raw, head.headers, self._fields):
            head.length = self._body_size
            self.server.remember(raw, head)
        self._body = []
        self._take(exchange)

    def _take(self, exchange: Exchange) -> None:
        """A whole request: give it to the door."""
        self._wait(self.server.options.idle_timeout_s)
        self.pipeline.append(exchange)
        self._deaf = exchange.closes
        if len(self.pipeline) >= self.server.options.max_pipeline and not self._full:
            self._full = True
            self._transport.pause_reading()
        try:
            self.server.handler(exchange)
        except Exception:  # a defect must cost this request, not the connection or the worker
            _log.exception("a request could not be handled")
            exchange.refuse(500, "internal error")

    def flush(self) -> None:
        """Send what is ready, in order."""
        if self._transport.is_closing():
            return
        out: list[bytes] = []
        last = False
        while not last and self.pipeline and (response := self.pipeline[0].response) is not None:
            exchange = self.pipeline.popleft()
            # What was pipelined behind it is answered first: a client stops reading at `close`.
            last = (exchange.closes or self.server.leaving) and self.quiet
            out += (response[0], b"connection: close\r\n\r\n" if last else b"\r\n", response[1])
        if not out:
            return
        self._transport.write(b"".join(out))
        if self._current is None:
            self._wait(self.server.options.idle_timeout_s)
        if self._full and len(self.pipeline) < self.server.options.max_pipeline // 2:
            self._full = False
            self._read_on()
        if last:
            self.finish()
        elif self.server.giving is not None and self.quiet:
            self.server.giving.offer(self)

    def lend(self) -> int | None:
        """Stop reading, so that another process can; the descriptor, or None when something of it is here."""
        transport = self._transport
        begun = self.pipeline or self._current is not None or self._arrived or self._held
        ends = self._deaf or self._ended or self._finishing or transport.is_closing()
        if begun or ends or transport.get_write_buffer_size() or transport.get_extra_info("ssl_object") is not None:
            return None
        transport.pause_reading()
        self._deadline_ns = _NEVER
        descriptor: int = transport.get_extra_info("socket").fileno()
        return descriptor

    def keep(self) -> None:
        """It was lent in vain: read on."""
        self._wait(self.server.options.idle_timeout_s)
        self._transport.resume_reading()

    def finish(self) -> None:
        """Shut the sending side down and read until the peer closes."""
        if self._finishing or self._transport.is_closing():
            return
        self._finishing = self._deaf = True
        if self._ended:
            self._transport.close()
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._wait(self.server.options.linger_s)

    def abort(self) -> None:
        """Close without waiting for anybody."""
        self._transport.abort()

    def check(self, now_ns: int) -> None:
        """Enforce the time limit that is running."""
        if now_ns < self._deadline_ns:
            return
        if self._finishing or self._unread:
            self.abort()
        elif self._current is not None:
            self._reject(408, "the request did not arrive in time")
        elif not self.pipeline:
            self.finish()

    def _read_on(self) -> None:
        if self._blocked():
            return
        held, self._held = self._held, b""
        if held:  # never from within the parser: then there is none
            self.data_received(held)
        if not self._blocked():
            self._transport.resume_reading()

    def _blocked(self) -> bool:
        return self._full or self._unread or self._transport.is_closing()

    def _wait(self, seconds: float) -> None:
        self._deadline_ns = self.server.now_ns + int(seconds * NS_PER_S)

    def _reject(self, status: int, message: str) -> None:
        """Answer what cannot be read further, and close."""
        if self._deaf:
            return
        self._deaf = True
        exchange = self._current or Exchange(self, Head(), self.server.clock.monotonic_ns())
        self._current = None
        exchange.closes = True
        self.pipeline.append(exchange)
        exchange.refuse(status, message)
