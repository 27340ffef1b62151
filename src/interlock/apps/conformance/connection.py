"""HTTP/1.1 as a client that may send anything: bytes over asyncio streams, framing read strictly.

Contract. Each dialogue has a connection of its own, opened again when the server announced its end
between two requests. Nothing is retried. A reply that does not come within `wait_s`, or that ends
early, is a Reply with `lost`; only a server that cannot be connected to raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from interlock.apps.conformance.case import Dialogue, Reply, Request
from interlock.base.errors import UnreachableError, UsageError

_MAX_REPLY = 64 * 1024 * 1024
_PORTS = {"http": 80, "https": 443}


class Lost(Exception):
    """There is no whole reply, and why."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the HTTP server is, and what every request carries."""

    host: str
    port: int
    tls: bool = False
    base: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    wait_s: float = 10.0

    @classmethod
    def at(cls, url: str, headers: Sequence[str] = (), wait_s: float = 10.0) -> Door:
        """A door at a URL; `headers` are `Name: value`.

        Raises:
            UsageError: it is no HTTP URL, or a header has no colon.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise UsageError("that is no URL of a server", "give it as http://host:port or https://host:port")
        pairs = [each.partition(":") for each in headers]
        if any(not colon for _, colon, _ in pairs):
            raise UsageError("a header has no colon", 'give it as --header "Name: value"')
        kept = tuple((name.strip(), value.strip()) for name, _, value in pairs)
        port = parts.port or _PORTS[parts.scheme]
        return cls(parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"), kept, wait_s)

    def bytes_of(self, request: Request) -> bytes:
        """A request as it goes out."""
        lines = [f"{request.method} {self.base}{request.target} HTTP/1.1"]
        if not request.bare:
            lines.append(f"Host: {self.host}:{self.port}")
            if request.body or request.method in ("POST", "PUT"):
                lines.append(f"Content-Length: {len(request.body)}")
        lines += [f"{name}: {value}" for name, value in (*self.headers, *request.headers)]
        return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + request.body


class _Connection:
    """One open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._wait_s = wait_s

    async def send(self, data: bytes, cut: bool) -> None:
        """Send bytes; a server that stopped reading is noticed when its reply is read."""
        self._writer.write(data)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await self._writer.drain()
            if cut and self._writer.can_write_eof():
                self._writer.write_eof()

    async def reply(self, method: str) -> Reply:
        """The next reply, or why there is none."""
        try:
            async with asyncio.timeout(self._wait_s):
                return await self._read(method)
        except TimeoutError:
            return Reply(0, lost=f"nothing came within {self._wait_s:g} s")
        except (asyncio.IncompleteReadError, ConnectionError):
            return Reply(0, closed=True, lost="the connection ended without a whole reply")
        except (Lost, asyncio.LimitOverrunError, ValueError, zlib.error) as problem:
            return Reply(0, closed=True, lost=f"the reply cannot be read: {problem}")

    async def close(self) -> None:
        """Close it."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()

    async def _read(self, method: str) -> Reply:
        status, headers = await self._head()
        while status == 100:
            status, headers = await self._head()
        body, whole = await self._body(method, status, headers)
        closed = not whole or "close" in headers.get("connection", "").lower()
        if headers.get("content-encoding", "").lower() == "gzip":
            body = zlib.decompress(body, 31)
        return Reply(status, headers, body, closed)

    async def _head(self) -> tuple[int, dict[str, str]]:
        text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.rstrip("\r\n").split("\r\n")
        words = first.split(" ", 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
            raise Lost("its status line is not HTTP/1")
        pairs = (line.partition(":") for line in lines)
        return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}

    async def _body(self, method: str, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
        """The body, and whether the connection can go on after it (RFC 9112 section 6.3)."""
        if method == "HEAD" or status in (204, 304):
            return b"", True
        if headers.get("transfer-encoding", "").lower().endswith("chunked"):
            return await self._chunks(), True
        if "content-length" in headers:
            length = int(headers["content-length"])
            if not 0 <= length <= _MAX_REPLY:
                raise Lost("its length is out of bounds")
            return await self._reader.readexactly(length), True
        return await self._reader.read(_MAX_REPLY), False

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while length := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            if length + sum(map(len, parts)) > _MAX_REPLY:
                raise Lost("its chunks are out of bounds")
            parts.append(await self._reader.readexactly(length))
            await self._reader.readuntil(b"\r\n")
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)


async def hold(door: Door, dialogue: Dialogue) -> list[Reply]:
    """Hold a dialogue: one reply per request.

    Raises:
        UnreachableError: the server cannot be connected to.
    """
    connection = await _open(door)
    try:
        if dialogue.pipelined:
            await connection.send(b"".join(map(door.bytes_of, dialogue.requests)), dialogue.cut)
            return [await connection.reply(each.method) for each in dialogue.requests]
        replies: list[Reply] = []
        for request in dialogue.requests:
            if replies and replies[-1].closed:
                await connection.close()
                connection = await _open(door)
            await connection.send(door.bytes_of(request), dialogue.cut)
            replies.append(await connection.reply(request.method))
        return replies
    finally:
        await connection.close()


async def _open(door: Door) -> _Connection:
    context = ssl.create_default_context() if door.tls else None
    try:
        async with asyncio.timeout(door.wait_s):
            reader, writer = await asyncio.open_connection(door.host, door.port, ssl=context, limit=_MAX_REPLY)
    except (OSError, TimeoutError) as error:
        raise UnreachableError(
            "the server cannot be connected to", "start it, or name the port it listens on"
        ) from error
    return _Connection(reader, writer, door.wait_s)
