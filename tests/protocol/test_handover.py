"""A connection changes hands: the client notices nothing, and nobody ever reads it twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.protocol.certificates import self_signed
from tests.protocol.raw_client import Peer, door
from tests.protocol.test_connections import Later, get

from interlock.apps.scorer import handover
from interlock.apps.scorer.http import Connection, Exchange, Server
from interlock.base.clock import SystemClock
from interlock.serving.options import ServingOptions

pytestmark = pytest.mark.process

SHORT = {"drain_s": 0.2, "linger_s": 0.2, "held_s": 0.2}


class Two:
    """A leaving server, whose requests the test answers, and its successor, which says who it is."""

    def __init__(self, old: Server, new: Server, connect: Callable[[], asyncio.Future[Peer]], later: Later) -> None:
        self.old, self.new, self.connect, self.later = old, new, connect, later
        self.line, self.estate = handover.pair()

    def leave(self) -> asyncio.Task[int]:
        """Begin to hand over."""
        return asyncio.create_task(self.old.hand_over(self.line))

    def inherit(self) -> None:
        """The successor begins to take."""
        self.new.inherit(self.estate)

    async def met(self) -> Peer:
        """A client of which the old server has answered one request."""
        peer = await self.connect()
        peer.send(get("/first"))
        await self.later.has("/first")
        self.later.answer("/first")
        assert (await peer.reply()).body == b"/first"
        return peer


@contextlib.asynccontextmanager
async def two(old: dict[str, Any], new: dict[str, Any]) -> AsyncIterator[Two]:
    later = Later()

    def successor(exchange: Exchange) -> None:
        exchange.respond(200, b"successor " + exchange.head.path.encode())

    async with (
        door(later, ServingOptions(**{**SHORT, **old})) as (leaving, connect),
        door(successor, ServingOptions(**{**SHORT, **new})) as (coming, _),
    ):
        yield Two(leaving, coming, connect, later)


def play(scene: Callable[[Two], Awaitable[None]], new: dict[str, Any] | None = None, **old: Any) -> None:
    """Run a scene."""

    async def work() -> None:
        async with two(old, new or {}) as made:
            await asyncio.wait_for(scene(made), 30)

    uvloop.run(work())


async def ask(peer: Peer, path: str) -> bytes:
    """One request on a connection; the body of its answer, which must not announce an end."""
    peer.send(get(path))
    reply = await peer.reply()
    assert "connection" not in reply.headers
    return reply.body


def test_idle_connections_go_to_the_successor_and_stay_open() -> None:
    async def scene(both: Two) -> None:
        peers = [await both.met() for _ in range(5)]
        both.inherit()
        assert await both.leave() == 5
        assert not both.old.connections
        for peer in peers:
            assert await ask(peer, "/next") == b"successor /next"
        await both.old.stop()
        assert await ask(peers[0], "/last") == b"successor /last"

    play(scene, drain_s=20.0)


def test_many_more_connections_than_may_be_on_their_way_at_once_go_over() -> None:
    async def scene(both: Two) -> None:
        peers = [await both.met() for _ in range(200)]
        both.inherit()
        assert await both.leave() == 200
        assert {await ask(peer, "/x") for peer in peers} == {b"successor /x"}

    play(scene, drain_s=20.0)


def test_only_so_many_are_on_their_way_at_once_and_none_of_them_ends_as_idle() -> None:
    async def scene(both: Two) -> None:
        peers = [await both.met() for _ in range(100)]
        leaving = both.leave()
        while len(both.old.connections) > 64:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        both.inherit()
        assert await leaving == 64, "the others have been idle for too long"
        for peer in peers:
            peer.send(get("/x"))
        first = [await peer.reader.read(15) for peer in peers]
        assert (first.count(b"HTTP/1.1 200 OK"), first.count(b"")) == (64, 36)

    play(scene, new={"idle_timeout_s": 60.0}, drain_s=20.0, idle_timeout_s=1.0)


def test_what_is_under_way_is_answered_first_pipelined_or_half_read() -> None:
    async def scene(both: Two) -> None:
        busy, half = await both.connect(), await both.connect()
        busy.send(get("/1") + get("/2"))
        late = get("/late")
        half.send(late[:20])
        await both.later.has("/1", "/2")
        both.inherit()
        leaving = both.leave()
        await asyncio.sleep(0.05)
        both.later.answer("/1")
        assert (await busy.reply()).body == b"/1"
        await asyncio.sleep(0.05)
        assert len(both.old.connections) == 2
        half.send(late[20:])
        await both.later.has("/late")
        assert len(both.old.connections) == 2
        both.later.answer("/2", "/late")
        for peer, path in ((busy, "/2"), (half, "/late")):
            reply = await peer.reply()
            assert (reply.body, "connection" in reply.headers) == (path.encode(), False)
        assert await leaving == 2
        assert [await ask(busy, "/3"), await ask(half, "/3")] == [b"successor /3"] * 2

    play(scene, drain_s=20.0)


def test_a_request_that_arrives_while_a_connection_is_on_its_way_is_answered_by_the_successor() -> None:
    async def scene(both: Two) -> None:
        peer = await both.met()
        leaving = both.leave()
        await readable(both.estate)
        peer.send(get("/meanwhile"))
        await peer.writer.drain()
        both.inherit()
        assert (await peer.reply()).body == b"successor /meanwhile"
        assert await leaving == 1

    play(scene, drain_s=20.0)


def test_a_successor_without_room_leaves_the_connection_where_it_is() -> None:
    async def scene(both: Two) -> None:
        first, second = await both.met(), await both.met()
        both.inherit()
        assert await both.leave() == 1
        (kept,) = both.old.connections
        assert kept.quiet
        stopping = asyncio.create_task(both.old.stop())
        await asyncio.sleep(0)
        first.send(get("/again"))
        second.send(get("/again"))
        await both.later.has("/again")
        both.later.answer("/again")
        replies = [await peer.reply() for peer in (first, second)]
        assert sorted(reply.body for reply in replies) == [b"/again", b"successor /again"]
        assert {reply.headers.get("connection") for reply in replies if reply.body == b"/again"} == {"close"}
        for peer in (first, second):
            peer.writer.close()
        await stopping

    play(scene, new={"max_connections": 1})


def test_a_successor_that_dies_gives_everything_back() -> None:
    async def scene(both: Two) -> None:
        peers = [await both.met() for _ in range(3)]
        leaving = both.leave()
        await readable(both.estate)
        both.estate.close()
        assert await leaving == 0
        stopping = asyncio.create_task(both.old.stop())
        await asyncio.sleep(0)
        for number, peer in enumerate(peers):
            peer.send(get(f"/{number}"))
            await both.later.has(f"/{number}")
            both.later.answer(f"/{number}")
            reply = await peer.reply()
            assert (reply.body, reply.headers["connection"]) == (b"/%d" % number, "close")
            peer.writer.close()
        await stopping

    play(scene, drain_s=20.0)


def test_a_successor_that_wakes_too_late_reads_nothing() -> None:
    async def scene(both: Two) -> None:
        peer = await both.met()
        assert await both.leave() == 0, "nobody took it in time"
        both.inherit()
        await asyncio.sleep(0.05)
        assert not both.new.connections
        peer.send(get("/mine"))
        await both.later.has("/mine")
        both.later.answer("/mine")
        assert (await peer.reply()).body == b"/mine"

    play(scene)


def test_a_connection_whose_replies_are_not_read_is_not_given() -> None:
    async def scene(both: Two) -> None:
        peer = await both.connect()
        peer.writer.transport.pause_reading()
        peer.send(get("/big"))
        await both.later.has("/big")
        both.later.waiting.pop("/big").respond(200, b"x" * 20_000_000)
        both.inherit()
        assert await both.leave() == 0
        peer.writer.transport.resume_reading()
        assert len((await peer.reply()).body) == 20_000_000

    play(scene)


def test_an_encrypted_connection_is_never_given(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)

    async def scene(both: Two) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(both.old), "127.0.0.1", 0, ssl=context)
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.check_hostname = False
        peer = Peer(*await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=trusting))
        peer.send(get("/1"))
        await both.later.has("/1")
        both.later.answer("/1")
        await peer.reply()
        both.inherit()
        assert await both.leave() == 0
        stopping = asyncio.create_task(both.old.stop())
        await asyncio.sleep(0)
        peer.send(get("/2"))
        await both.later.has("/2")
        both.later.answer("/2")
        assert (await peer.reply()).headers["connection"] == "close"
        peer.writer.close()
        await stopping
        server.close()

    play(scene)


def test_a_successor_that_speaks_tls_takes_no_plain_connection_and_a_leaver_offers_none(tmp_path: Path) -> None:
    async def scene(both: Two) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        secure = Server(both.later, lambda exchange, status: None, ServingOptions(**SHORT), SystemClock())
        await secure.serve(listener, lambda: context)
        peer = await both.met()
        secure.inherit(both.estate)
        assert await both.leave() == 0
        peer.send(get("/mine"))
        await both.later.has("/mine")
        both.later.answer("/mine")
        assert (await peer.reply()).body == b"/mine"
        line, estate = handover.pair()
        assert await secure.hand_over(line) == 0
        await secure.stop()
        estate.close()
        line.close()

    play(scene)


async def readable(end: socket.socket) -> None:
    """Wait until something waits to be read there."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(end.fileno(), arrived.set)
    await arrived.wait()
    loop.remove_reader(end.fileno())
