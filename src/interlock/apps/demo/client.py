"""One keep-alive connection of the load generator: one request at a time, nothing retried.

MUST classify every way in which a request can go wrong: `refused` (no connection), `reset`
(the connection ended before the reply did), `status:<code>` (anything but 2xx), `malformed`
(not HTTP). A connection that ends while it is idle is no failure: HTTP lets a server close it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools


class Exchange:
    """A request under way: which transaction, when it was due, and whether it is over."""

    __slots__ = ("due_s", "over", "transaction_id")

    def __init__(self, transaction_id: str, due_s: float) -> None:
        self.transaction_id = transaction_id
        self.due_s = due_s
        self.over = False


class Owner(Protocol):
    """What a connection tells the load generator."""

    def answered(self, connection: Connection, exchange: Exchange, status: int, body: bytes) -> None:
        """The reply to `exchange` is complete."""
        ...

    def failed(self, exchange: Exchange, kind: str) -> None:
        """`exchange` will never be answered."""
        ...

    def closed(self, connection: Connection) -> None:
        """The connection is gone, or must not be used again."""
        ...


class Connection(asyncio.Protocol):
    """A client connection that parses replies with httptools."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._body = bytearray()
        self._announced_close = False

    @property
    def usable(self) -> bool:
        """A request may be sent now."""
        return self._transport is not None and self._exchange is None and not self._transport.is_closing()

    def send(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Send one request; the reply goes to the owner."""
        if self._transport is None:  # pragma: no cover - the pool hands out connected ones only
            raise RuntimeError("the connection is not open")
        self._exchange = exchange
        self._transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))

    def abandon(self) -> None:
        """Give up on whatever is under way: its reply would come too late to count."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        # uvloop's transports are none of asyncio's classes, but offer the same.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; bytes that are not HTTP end the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end("malformed")

    def eof_received(self) -> bool:
        """The server will send nothing more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """A reply that was under way is lost with the connection."""
        self._end("reset")

    # httptools
    def on_headers_complete(self) -> None:
        """Note whether the server asks us to leave."""
        self._announced_close = not self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Collect the reply."""
        self._body += body

    def on_message_complete(self) -> None:
        """Hand the reply over, and honour `Connection: close`."""
        exchange, body = self._exchange, bytes(self._body)
        self._exchange = None
        self._body.clear()
        if self._announced_close and self._transport is not None:
            self._transport.close()
            self._owner.closed(self)
        if exchange is not None:
            self._owner.answered(self, exchange, self._parser.get_status_code(), body)

    def _end(self, kind: str) -> None:
        exchange, self._exchange = self._exchange, None
        if self._transport is not None:
            self._transport.abort()
        self._transport = None
        self._owner.closed(self)
        if exchange is not None:
            self._owner.failed(exchange, kind)
