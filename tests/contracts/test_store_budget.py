"""The budget of an online store is the store's: a stall of our own process is not blamed on it."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import uvloop

from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.valkey.launcher import Valkey
from interlock.features.definition import FRAUD
from interlock.features.online import FRESH, Base, TripRequest
from interlock.features.options import StoreOptions

BUDGET_MS = 40


def test_an_answer_that_came_while_our_loop_stood_still_is_taken(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        store = await RedisOnlineStore.connect(url, FRAUD, StoreOptions(budget_ms=BUDGET_MS))
        await store.load([], Base.empty(FRAUD.set_hash))
        reading, writing = socket.socketpair()

        def stall() -> None:
            reading.recv(1)
            time.sleep(3 * BUDGET_MS / 1000)

        asyncio.get_running_loop().add_reader(reading, stall)
        for number in range(5):
            request = TripRequest(b"fraud:%d" % number, b"w", (b"c", b"t", b"d", b"i"), 1_790_000_000_000, 5)
            # Another connection's turn takes long: the next thing that runs are the timers.
            writing.send(b"x")
            (found,) = await store.trip([request])
            assert found.status == FRESH
        asyncio.get_running_loop().remove_reader(reading)
        reading.close()
        writing.close()
        await store.close()

    server = Valkey()
    try:
        uvloop.run(scenario(server.start(tmp_path)))
    finally:
        server.stop()
