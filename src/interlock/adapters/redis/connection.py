"""A thin pipelining client for Redis and Valkey on asyncio and hiredis.

MUSTs: replies are matched to batches by their order on one connection, and never otherwise; a
batch whose budget passed stays in that order until its late replies have been thrown away; a
connection that ends fails every batch in flight; the link reconnects by itself, with backoff,
and prepares each new connection (AUTH, SELECT, SCRIPT LOAD) before it is used.

Nothing is sent behind a batch that is overdue: callers wait, within their own budget, until it
is answered, so that a stalled store does not collect work whose callers have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import hiredis

from interlock.base.errors import UnreachableError, UsageError
from interlock.base.files import socket_address

Reply = Any
pack_command: Callable[[tuple[Any, ...]], bytes] = hiredis.pack_command  # its stub allows one argument only
Prepare = Callable[["Connection"], Awaitable[None]]

_PREPARE_S = 5.0
_FIRST_PAUSE_S = 0.01
_READ_S = 0.001
"""A turn of the loop, so that what has arrived is read."""


def unreachable(what: str) -> UnreachableError:
    """The error for a store that did not answer."""
    return UnreachableError(f"the online store {what}", "check that it runs and that its URL is right")


class _Batch:
    __slots__ = ("count", "future", "overdue", "replies", "spared")

    def __init__(self, count: int, future: asyncio.Future[list[Reply]]) -> None:
        self.count = count
        self.future = future
        self.replies: list[Reply] = []
        self.overdue = False
        self.spared = False


class Connection(asyncio.Protocol):
    """One connection: batches out, replies in, in order."""

    def __init__(self, stall_s: float, lost: Callable[[Connection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._pending: deque[_Batch] = deque()
        self._transport: asyncio.WriteTransport | None = None
        self._stall_s = stall_s
        self._lost = lost
        self._overdue = 0
        self._caught_up: asyncio.Event = asyncio.Event()
        self._caught_up.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio says: connected."""
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")  # noqa: S101
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports do not inherit asyncio's

    def data_received(self, data: bytes) -> None:
        """Asyncio says: bytes."""
        reader, pending = self._reader, self._pending
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                batch = pending[0]
                batch.replies.append(reply)
                if len(batch.replies) == batch.count:
                    pending.popleft()
                    self._finish(batch)
        except (hiredis.ProtocolError, IndexError):
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio says: gone."""
        self._transport = None
        for batch in self._pending:
            if not batch.future.done():
                batch.future.set_exception(unreachable("closed the connection"))
        self._pending.clear()
        self._caught_up.set()
        self._lost(self)

    @property
    def open(self) -> bool:
        """Whether batches can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def call(self, payload: bytes, count: int, budget_s: float) -> list[Reply]:
        """Send commands whose `count` replies must arrive within the budget.

        Raises:
            UnreachableError: they did not.
        """
        if self._overdue:
            budget_s = await self._wait_for_overdue(budget_s)
        if self._transport is None or self._transport.is_closing():
            raise unreachable("is not connected")
        batch = _Batch(count, self._loop.create_future())
        self._pending.append(batch)
        self._transport.write(payload)
        timer = self._loop.call_later(budget_s, self._expire, batch)
        try:
            return await batch.future
        finally:
            timer.cancel()

    async def _wait_for_overdue(self, budget_s: float) -> float:
        started = self._loop.time()
        try:
            await asyncio.wait_for(self._caught_up.wait(), budget_s)
        except TimeoutError:
            raise unreachable("is behind its time budget") from None
        return max(budget_s - (self._loop.time() - started), 0.001)

    def _finish(self, batch: _Batch) -> None:
        if batch.overdue:
            self._overdue -= 1
            if not self._overdue:
                self._caught_up.set()
        elif not batch.future.done():
            batch.future.set_result(batch.replies)

    def _expire(self, batch: _Batch) -> None:
        if batch.future.done():
            return
        if not batch.spared:
            # The loop runs timers before it reads: after a stall of its own the answer may be there already.
            batch.spared = True
            self._loop.call_later(_READ_S, self._expire, batch)
            return
        batch.overdue = True
        self._overdue += 1
        self._caught_up.clear()
        batch.future.set_exception(unreachable("did not answer within its time budget"))
        self._loop.call_later(self._stall_s, self._stalled, batch)

    def _stalled(self, batch: _Batch) -> None:
        if batch in self._pending:
            self.abort()


class Link:
    """A connection that comes back."""

    def __init__(self, url: str, stall_s: float, backoff_s: float, prepare: Prepare) -> None:
        self._url = parse_url(url)
        self._stall_s = stall_s
        self._backoff_s = backoff_s
        self._prepare = prepare
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()

    async def open(self, patience_s: float) -> None:
        """Start connecting; wait at most `patience_s` for the first connection."""
        self._task = asyncio.create_task(self._run(), name="online-store-link")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), patience_s)

    async def close(self) -> None:
        """Stop reconnecting and drop the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    @property
    def connected(self) -> bool:
        """Whether a prepared connection is there."""
        return self._connection is not None and self._connection.open

    async def call(self, payload: bytes, count: int, budget_s: float) -> list[Reply]:
        """See `Connection.call`; without a connection it fails at once."""
        if self._connection is None:
            raise unreachable("is not connected")
        return await self._connection.call(payload, count, budget_s)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                connection = await asyncio.wait_for(self._connect(), _PREPARE_S)
            except (OSError, TimeoutError, UnreachableError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, self._backoff_s)
                continue
            pause = _FIRST_PAUSE_S
            if connection.open:
                self._connection = connection
                self._ready.set()
                await self._wake.wait()
                await asyncio.sleep(pause)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()

        def protocol() -> Connection:
            return Connection(self._stall_s, self._on_lost)

        if self._url.scheme == "unix":
            path = socket_address(Path(unquote(self._url.path)))
            _, connection = await loop.create_unix_connection(protocol, path)
        else:
            context = ssl.create_default_context() if self._url.scheme == "rediss" else None
            host, port = self._url.hostname or "127.0.0.1", self._url.port or 6379
            _, connection = await loop.create_connection(protocol, host, port, ssl=context)
        try:
            await self._introduce(connection)
            await self._prepare(connection)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _introduce(self, connection: Connection) -> None:
        commands: list[tuple[str, ...]] = []
        if self._url.password:
            names = (unquote(self._url.username),) if self._url.username else ()
            commands.append(("AUTH", *names, unquote(self._url.password)))
        database = self._url.path.strip("/") if self._url.scheme != "unix" else ""
        if database:
            commands.append(("SELECT", database))
        if commands:
            replies = await connection.call(pack(commands), len(commands), _PREPARE_S)
            refuse_errors(replies)

    def _on_lost(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self._wake.set()


def parse_url(url: str) -> SplitResult:
    """Split a store URL.

    Raises:
        UsageError: not `redis://`, `rediss://` or `unix:///`.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix") or (parts.scheme == "unix" and not parts.path):
        raise UsageError(
            "not an online store URL", "write redis://host:port/db, rediss://host:port/db or unix:///path/to/socket"
        )
    return parts


def pack(commands: Sequence[tuple[Any, ...]]) -> bytes:
    """Commands as bytes of one pipeline."""
    return b"".join([pack_command(c) for c in commands])


def refuse_errors(replies: Sequence[Reply]) -> None:
    """Raise UnreachableError for the first error reply, naming its code alone (texts may hold values)."""
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise unreachable(f"refused a command ({error_code(reply)})")


def error_code(reply: Exception) -> str:
    """`NOSCRIPT`, `OOM`, `WRONGTYPE`…"""
    return str(reply).partition(" ")[0][:20]
