"""The protocol class with answers given when the test wants: order, limits, leaving."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from tests.protocol.raw_client import Peer, door

from interlock.apps.scorer.http import Exchange, Server
from interlock.serving.options import ServingOptions

pytestmark = pytest.mark.process

Connect = Callable[[], "asyncio.Future[Peer]"]


def get(path: str) -> bytes:
    """A request."""
    return b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode()


class Later:
    """Keeps exchanges until the test answers them."""

    def __init__(self) -> None:
        self.waiting: dict[str, Exchange] = {}
        self._arrived = asyncio.Event()

    def __call__(self, exchange: Exchange) -> None:
        self.waiting[exchange.head.path] = exchange
        self._arrived.set()

    async def has(self, *paths: str) -> None:
        """Wait until these have arrived."""
        async with asyncio.timeout(10):
            while not set(paths) <= set(self.waiting):
                self._arrived.clear()
                await self._arrived.wait()

    def answer(self, *paths: str) -> None:
        """Answer these with their own path."""
        for path in paths:
            self.waiting.pop(path).respond(200, path.encode())


Scene = Callable[[Server, Connect, Later], Awaitable[None]]


def play(scene: Scene, notes: list[int] | None = None, **options: Any) -> None:
    """Run a scene."""

    async def work() -> None:
        later = Later()
        chosen = ServingOptions(**{"drain_s": 0.2, "linger_s": 0.2, "held_s": 0.2, **options})
        async with door(later, chosen, notes) as (server, connect):
            await asyncio.wait_for(scene(server, connect, later), 30)

    uvloop.run(work())


def test_pipelined_requests_are_answered_in_their_order_whichever_is_done_first() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        peer.send(get("/1") + get("/2") + get("/3"))
        await later.has("/1", "/2", "/3")
        later.answer("/3", "/1")
        assert (await peer.reply()).body == b"/1"
        later.answer("/2")
        assert [(await peer.reply()).body, (await peer.reply()).body] == [b"/2", b"/3"]

    play(scene)


def test_a_connection_with_many_unanswered_requests_is_not_read_further() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        for number in range(12):
            peer.send(get(f"/{number}"))
            await peer.writer.drain()
            await asyncio.sleep(0.005)
        await later.has("/0", "/1", "/2", "/3")
        await asyncio.sleep(0.05)
        assert len(later.waiting) < 12
        for number in range(12):
            await later.has(f"/{number}")
            later.answer(f"/{number}")
            assert (await peer.reply()).body == b"/%d" % number

    play(scene, max_pipeline=4)


def test_a_request_that_waits_for_its_answer_is_neither_slow_nor_idle() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        peer.send(get("/1"))
        await later.has("/1")
        await asyncio.sleep(0.3)
        later.answer("/1")
        assert (await peer.reply()).status == 200

    play(scene, header_timeout_s=0.05, body_timeout_s=0.05, idle_timeout_s=0.05)


def test_an_answer_in_between_gives_a_late_request_no_more_time() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        peer.send(get("/first") + b"GET /late HTTP/1.1\r\nhos")
        await later.has("/first")
        later.answer("/first")
        assert (await peer.reply()).body == b"/first"
        late = await peer.reply()
        assert (late.status, late.headers["connection"]) == (408, "close")

    play(scene, header_timeout_s=0.2, idle_timeout_s=60.0)


def test_while_leaving_everything_pipelined_is_answered_and_the_last_reply_says_close() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        busy, idle = await connect(), await connect()
        busy.send(get("/1") + get("/2") + get("/3"))
        idle.send(get("/0"))
        await later.has("/0", "/1", "/2", "/3")
        later.answer("/0")
        assert "connection" not in (await idle.reply()).headers
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        idle.send(get("/again"))
        await later.has("/again")
        later.answer("/again", "/1", "/2", "/3")
        found = [await busy.reply() for _ in range(3)]
        assert [reply.body for reply in found] == [b"/1", b"/2", b"/3"]
        assert [reply.headers.get("connection") for reply in found] == [None, None, "close"]
        assert (await idle.reply()).headers["connection"] == "close"
        assert [await busy.closed(), await idle.closed()] == [b"", b""]
        for peer in (busy, idle):
            peer.writer.close()
        await asyncio.wait_for(stopping, 5)

    play(scene, drain_s=5.0)


def test_a_request_that_is_arriving_when_the_server_leaves_is_answered() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        whole = get("/1")
        peer.send(get("/0") + whole[:20])
        await later.has("/0")
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.02)
        later.answer("/0")
        assert "connection" not in (await peer.reply()).headers
        peer.send(whole[20:])
        await later.has("/1")
        later.answer("/1")
        last = await peer.reply()
        assert (last.body, last.headers["connection"]) == (b"/1", "close")
        peer.writer.close()
        await asyncio.wait_for(stopping, 5)

    play(scene, drain_s=5.0)


def test_an_idle_connection_ends_after_the_drain_without_a_reset() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        peer = await connect()
        peer.send(get("/1"))
        await later.has("/1")
        later.answer("/1")
        await peer.reply()
        stopping = asyncio.create_task(server.stop())
        assert await peer.closed() == b""
        peer.writer.close()
        await asyncio.wait_for(stopping, 5)
        assert not server.connections

    play(scene, drain_s=0.05)


def test_a_client_that_is_gone_costs_nobody_else_anything() -> None:
    notes: list[int] = []

    async def scene(server: Server, connect: Connect, later: Later) -> None:
        gone, other = await connect(), await connect()
        gone.send(get("/gone"))
        other.send(get("/other"))
        await later.has("/gone", "/other")
        plain = gone.writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
        gone.writer.transport.abort()
        while len(server.connections) > 1:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        later.answer("/gone", "/other")
        assert (await other.reply()).body == b"/other"

    play(scene, notes)
    assert notes == [200, 200]


def test_connections_beyond_the_limit_wait_until_one_ends() -> None:
    async def scene(server: Server, connect: Connect, later: Later) -> None:
        first, second = await connect(), await connect()
        for peer, path in ((first, "/1"), (second, "/2")):
            peer.send(get(path))
            await later.has(path)
        third = await connect()
        third.send(get("/3"))
        await asyncio.sleep(0.05)
        assert set(later.waiting) == {"/1", "/2"}
        later.answer("/1")
        await first.reply()
        first.writer.close()
        await later.has("/3")
        later.answer("/3")
        assert (await third.reply()).body == b"/3"

    play(scene, max_connections=2)


def test_a_defect_in_a_handler_is_an_internal_error_without_a_trace() -> None:
    def broken(exchange: Exchange) -> None:
        if exchange.head.path == "/broken":
            raise RuntimeError("a secret")
        exchange.respond(200, b"{}")

    async def work() -> None:
        async with door(broken, ServingOptions()) as (_, connect):
            peer = await connect()
            peer.send(get("/broken") + get("/fine"))
            reply = await peer.reply()
            assert (reply.status, reply.error) == (500, "internal error")
            assert (await peer.reply()).status == 200

    uvloop.run(work())
