"""The load generator counts what clients of a scorer would suffer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvloop

from interlock.apps.demo.tally import Prediction, Tally, latency_bin, quantile_ms
from interlock.apps.demo.traffic import Traffic, TrafficOptions
from interlock.base.clock import NS_PER_S, SystemClock

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def requests(count: int) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        yield f"t-{number}", json.dumps({"instances": [{"transaction_id": f"t-{number}"}]}).encode()


async def read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body: dict[str, Any] = json.loads(await reader.readexactly(size))
    return body


def reply(body: dict[str, Any], status: int = 200, headers: str = "") -> bytes:
    transaction = body["instances"][0]["transaction_id"]
    data = json.dumps(
        {
            "predictions": [
                {
                    "transaction_id": transaction,
                    "decision_id": f"d-{transaction}",
                    "score": 0.5,
                    "decision": "APPROVE",
                    "reasons": [],
                    "model_version": "1.0.0",
                    "degraded": False,
                }
            ]
        }
    ).encode()
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


def drive(serve: Server, count: int = 20, **options: Any) -> Tally:
    async def run() -> Tally:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        traffic = Traffic(TrafficOptions(port=port, rate=2_000.0, **options), requests(count), SystemClock())
        tally = await traffic.run()
        server.close()
        return tally

    return uvloop.run(run())  # as the process does


async def answer_well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(reply(await read_request(reader)))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def test_every_request_of_a_healthy_server_is_answered_and_sampled() -> None:
    tally = drive(answer_well)
    assert (tally.sent, tally.answered, tally.failed) == (20, 20, 0)
    assert tally.versions["1.0.0"]["answered"] == 20
    assert len(tally.samples["1.0.0"]) == 1
    transaction, decision = tally.samples["1.0.0"][0]
    assert decision == f"d-{transaction}"


def test_a_status_other_than_2xx_is_a_failure() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(await read_request(reader), status=503, headers="Connection: close\r\n"))
        writer.close()

    tally = drive(refuse)
    assert tally.kinds == {"status:503": 20}
    assert tally.answered == 0


def test_a_connection_lost_under_a_request_is_a_failure_and_not_retried() -> None:
    seen: list[str] = []

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_request(reader)
        seen.append(body["instances"][0]["transaction_id"])
        writer.close()

    tally = drive(drop)
    assert tally.kinds == {"reset": 20}
    assert len(seen) == len(set(seen)) == 20


def test_a_server_may_close_after_announcing_it_and_nothing_fails() -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(reply(await read_request(reader), headers="Connection: close\r\n"))
            await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        writer.close()

    tally = drive(one_each, connections=4)
    assert (tally.answered, tally.failed) == (20, 0)


def test_an_answer_after_the_deadline_is_a_failure() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    tally = drive(never, deadline_s=0.05)
    assert tally.kinds == {"late": 20}
    assert tally.sent == 20


def test_nobody_listening_is_a_failure() -> None:
    async def run() -> Tally:
        server = await asyncio.start_server(answer_well, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await Traffic(TrafficOptions(port=port, rate=2_000.0), requests(5), SystemClock()).run()

    assert asyncio.run(run()).kinds == {"refused": 5}


def test_a_failure_keeps_its_own_instant() -> None:
    tally = Tally()
    tally.send(5 * NS_PER_S)
    tally.fail(7 * NS_PER_S + 1, "reset")
    progress = tally.progress(8 * NS_PER_S)
    assert progress["failures"] == [[7 * NS_PER_S + 1, "reset"]]
    assert [row["failed"] for row in progress["seconds"]] == [0, 1]


def test_latency_quantiles_are_upper_edges_within_a_bin() -> None:
    tally = Tally()
    for milliseconds in range(1, 101):
        tally.second(NS_PER_S)
        tally.answer(NS_PER_S, milliseconds / 1000, [Prediction("t", "d", "REVIEW", "1.0.0")])
    found = quantile_ms(tally.latency, 0.5)
    assert found is not None
    assert 50 <= found <= 50 * 2 ** (1 / 16)
    assert latency_bin(1e-7) == 0
    assert tally.versions["1.0.0"]["flagged"] == 100
