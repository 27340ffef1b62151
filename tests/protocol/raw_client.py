"""Bytes to and from the scoring door in this process: the protocol class on a real loop, or all doors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import msgspec
from tests.serving.one_worker import OneWorker

from interlock.apps.scorer.desk import Desk
from interlock.apps.scorer.doors import Doors
from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.gate import Gate
from interlock.apps.scorer.http import Handler, Server
from interlock.base.clock import EdgeClock, SystemClock
from interlock.base.ids import SeededIds
from interlock.features.definition import FRAUD
from interlock.privacy.token import Tokeniser
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Pipeline
from interlock.trust.access import Access

PREDICT = "/v1/models/fraud:predict"


class Reply(msgspec.Struct, frozen=True):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The message of the protocol's error object, which has one key."""
        told = msgspec.json.decode(self.body)
        assert list(told) == ["error"]
        return str(told["error"])


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def reply(self, body: bool = True) -> Reply:
        """The next response."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = [line.split(": ", 1) for line in head[1:] if line]
            headers = {name.lower(): value for name, value in pairs}
            size = int(headers.get("content-length", 0)) if body else 0
            return Reply(int(head[0].split(" ")[1]), headers, await self.reader.readexactly(size))

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def door(
    handler: Handler, options: ServingOptions, notes: list[int] | None = None
) -> AsyncIterator[tuple[Server, Callable[[], asyncio.Future[Peer]]]]:
    """(the server, opens a connection)."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    seen = [] if notes is None else notes
    server = Server(handler, lambda exchange, status: seen.append(status), options, SystemClock())
    await server.serve(listener)
    address = listener.getsockname()

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.01)
            server.sweep()

    async def connect() -> Peer:
        return Peer(*await asyncio.open_connection(*address))

    sweeping = asyncio.create_task(sweep())
    try:
        yield server, lambda: asyncio.ensure_future(connect())
    finally:
        sweeping.cancel()
        for connection in list(server.connections):
            connection.abort()
        await server.stop()


class House:
    """What the doors need of a worker."""

    def __init__(self, pipelines: dict[str, Pipeline]) -> None:
        self.pipelines = pipelines
        self.ondemand = None
        self.is_ready = True

    def ready(self) -> bool:
        """Whether traffic should come."""
        return self.is_ready

    def metrics(self, give: Callable[[str], None]) -> None:
        """A page."""
        give("# TYPE x counter\nx 1\n")


def doors(worker: OneWorker, options: ServingOptions) -> Callable[[Exchange], None]:
    """All doors of the scoring API before one worker's pipeline."""
    clock = SystemClock()
    house = House({"fraud": worker.pipeline})
    desk = Desk(house, (Tokeniser(b"k" * 32), FRAUD), clock, EdgeClock(clock), SeededIds(7), options)
    return Doors(house, desk, Gate(Access.unconfigured(), clock), options).handle
