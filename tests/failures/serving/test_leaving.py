"""What the stop order promises to clients that honour `Connection: close` (modes 8 and 9).

Who routes to this host learns late that it leaves: until then everything is served as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import uvloop
from tests.failures.load import Load, transaction
from tests.failures.scorer_home import ScorerHome, predict, scorer_home, until

from interlock.apps.scorer.http import Exchange, Server
from interlock.base.clock import SystemClock
from interlock.serving.options import ServingOptions

ROUNDS = 20
QUEUED = 40


def test_ending_a_scorer_under_keep_alive_load_fails_nobody(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home, scorer_home(tmp_path / "next") as other:
        home.settle()
        other.settle()
        load = Load(home.url, rate=300, threads=6)
        with load:
            until(lambda: sum(load.answers.values()) > 150, "traffic runs")
            assert home.process is not None
            home.process.send_signal(signal.SIGTERM)
            until(lambda: not home.ready(), "it says that it leaves")
            # What a balancer does within the announced lag: new connections go elsewhere.
            load._address = other.url.removeprefix("http://")
            assert home.process.wait(30) == 0
            done = sum(load.answers.values())
            until(lambda: sum(load.answers.values()) > done + 100, "traffic goes on")
        assert load.failures == []
        found = home.recorded() + other.recorded()
        assert sum(found.values()) == load.sent
        assert not [path.name for path in home.places.segments.iterdir() if path.suffix == ".open"]


def test_replacing_one_worker_after_the_other_under_load_fails_nobody(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        home.settle()
        with Load(home.url, rate=200, threads=4) as load:
            for pid in home.workers():
                os.kill(pid, signal.SIGTERM)
                until(partial(_replaced, home, pid), "its replacement runs")
                until(lambda: home.client.status().workers == 2, "its replacement serves")
        assert load.failures == []
        assert load.sent > 0


def test_a_request_that_waits_in_a_leaving_scorer_is_answered(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, lag_s=0.0) as home:
        home.settle()
        connection = home.connection()
        assert predict(connection, [transaction("first", 1)])[0] == 200
        assert home.process is not None
        home.process.send_signal(signal.SIGTERM)
        connection.request("GET", "/v2/health/live")
        reply = connection.getresponse()
        assert reply.status == 200
        reply.read()
        assert home.process.wait(30) == 0


def test_during_the_announced_lag_new_connections_are_served_as_ever(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, lag_s=2.0) as home:
        home.settle()
        assert home.process is not None
        home.process.send_signal(signal.SIGTERM)
        until(lambda: not home.ready(), "it says that it leaves")
        leaving_since = time.monotonic()
        served = 0
        while time.monotonic() - leaving_since < 1.0:  # half of what was announced
            assert home.ask([f"late-{served}"])[0]["model_version"] == "1.0.0"
            served += 1
        assert served > 0
        assert home.process.wait(30) == 0
        assert sum(home.recorded().values()) == served


def test_everything_that_was_pipelined_is_answered_before_a_scorer_ends(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, lag_s=0.0, drain_s=10.0) as home:
        home.settle()
        names = [f"piped-{number}" for number in range(40)]
        host, _, port = home.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), 20) as plain:
            head, tail = b"".join(map(_request, names[:-1])), _request(names[-1])
            plain.sendall(head + tail[:-9])
            assert home.process is not None
            home.process.send_signal(signal.SIGTERM)
            until(lambda: '"leaving"' in home.log(), "it leaves")
            plain.sendall(tail[-9:])
            data = b""
            while piece := plain.recv(65_536):
                data += piece
        found = [line for line in data.split(b"HTTP/1.1 ") if line]
        assert [each[:3] for each in found] == [b"200"] * len(names)
        order = [json.loads(each.partition(b"\r\n\r\n")[2])["predictions"][0]["transaction_id"] for each in found]
        assert order == names
        assert b"connection: close" in found[-1]
        assert home.process.wait(30) == 0


def _request(name: str) -> bytes:
    body = json.dumps({"instances": [transaction(name, 1)]}).encode()
    return b"POST /v1/models/fraud:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _replaced(home: ScorerHome, pid: int) -> bool:
    found = home.workers()
    return pid not in found and len(found) == 2


async def _round() -> tuple[int, int]:
    """(connections that were answered, connections) when a server closes while clients connect."""
    options = ServingOptions(drain_s=0.5, linger_s=0.5, held_s=0.0)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    spare = listener.dup()  # Another worker's copy: the listener outlives the server that leaves.
    listener.setblocking(False)
    address = listener.getsockname()

    def answer(exchange: Exchange) -> None:
        exchange.respond(200, b"{}")

    first = Server(answer, lambda exchange, status: None, options, SystemClock())
    second = Server(answer, lambda exchange, status: None, options, SystemClock())
    await first.serve(listener)

    async def client() -> bool:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            return (await reader.readline()).startswith(b"HTTP/1.1 200")
        return False

    clients = [asyncio.create_task(client()) for _ in range(QUEUED)]
    await asyncio.sleep(0)
    leaving = asyncio.create_task(first.stop())
    clients += [asyncio.create_task(client()) for _ in range(QUEUED)]
    await asyncio.sleep(0)
    spare.setblocking(False)
    await second.serve(spare)
    found = await asyncio.gather(*clients)
    await leaving
    await second.stop()
    return sum(found), len(found)


def test_no_accepted_connection_is_lost_when_a_server_closes() -> None:
    lost = []
    for _ in range(ROUNDS):
        answered, asked = uvloop.run(_round())
        lost.append(asked - answered)
    assert lost == [0] * ROUNDS
