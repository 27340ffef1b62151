"""A client that asks and never reads: it fills its own pipe, not the worker's memory."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop
from tests.protocol.raw_client import door

from interlock.apps.scorer.http import Exchange
from interlock.serving.options import ServingOptions

pytestmark = pytest.mark.process

REPLY = b"x" * 20_000
ASKED = 4_000


def test_requests_are_not_read_while_replies_are_not_and_go_on_afterwards() -> None:
    answered: list[int] = []

    def answer(exchange: Exchange) -> None:
        exchange.respond(200, REPLY)

    async def scenario() -> None:
        async with door(answer, ServingOptions(), answered) as (server, connect):
            peer = await connect()
            asking = peer.writer.get_extra_info("socket")
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
            sending = asyncio.create_task(_send(peer.writer))
            before = -1
            while len(answered) != before:  # until nothing moves any more
                before = len(answered)
                await asyncio.sleep(0.2)
            assert 0 < before < ASKED, "the server stopped reading"
            (connection,) = server.connections
            assert connection._transport.get_write_buffer_size() < 70 * len(REPLY)
            peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(ASKED):
                assert (await peer.reply()).status == 200
            await sending

    uvloop.run(scenario())


async def _send(writer: asyncio.StreamWriter) -> None:
    for _ in range(ASKED):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-fill: " + b"y" * 200 + b"\r\n\r\n")
        await writer.drain()
