"""Constant arrivals on a scorer over keep-alive and new connections, every outcome kept.

    python -m bench.soak_load HOST PORT RATE OUT     (started by bench.soak; ends with its standard input)

Requests are due at fixed instants whether or not earlier ones have been answered; latency counts
from the instant a request was due, so that a stall is not hidden by requests that were never sent.
Every fifth goes over a connection of its own. Each outcome is one record of `RECORD` in OUT: due,
sent, received (monotonic ns), the minor version that answered (FAILED: none), kept alive or not.
Nothing is retried; a kept connection that the server closes with `Connection: close` is opened again.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from typing import IO, cast

import uvloop

RECORD = struct.Struct("<qqqHB")
FAILED = 0xFFFF
KEPT = 24
"""Keep-alive connections."""
_ANEW = 5
_CARDS = 5_000
_PATIENCE_S = 5.0
_MARK = b'"model_version":"1.'


def card(number: int) -> str:
    """A Luhn-valid number of a test range."""
    body = f"411111{number:09d}"
    total = sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(body, start=1))
    return body + str(-total % 10)


def request(number: int) -> bytes:
    """The bytes of one predict request."""
    who = number * 7919 % _CARDS
    body = json.dumps(
        {
            "instances": [
                {
                    "transaction_id": f"soak-{number}",
                    "pan": card(who),
                    "amount": 1_000 + who,
                    "currency": "EUR",
                    "terminal_id": f"t{who % 50}",
                    "device_id": f"d{who}",
                    "ip": f"10.0.{who // 250}.{who % 250}",
                    "mcc": "5411",
                    "country": "NL",
                    "event_time": "2026-11-24T09:00:00Z",
                }
            ]
        }
    ).encode()
    head = b"POST /v1/models/fraud:predict HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


class Client(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self) -> None:
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answer is not None and not self._answer.done():
            self.usable &= b"connection: close" not in head
            self._data = b""
            self._answer.set_result(head + body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the connection ended before the answer"))

    async def ask(self, data: bytes) -> bytes:
        """The answer to one request."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection has ended")
        self._transport.write(data)
        async with asyncio.timeout(_PATIENCE_S):
            return await self._answer

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()


def minor(answer: bytes) -> int:
    """The minor number of the version that answered 200 without being degraded, or FAILED."""
    if not answer.startswith(b"HTTP/1.1 200 ") or b'"degraded":false' not in answer:
        return FAILED
    found = answer.partition(_MARK)[2].partition(b".")[0]
    return int(found) if found.isdigit() else FAILED


class Arrivals:
    """All connections and what came of every request."""

    def __init__(self, address: tuple[str, int], out: IO[bytes]) -> None:
        self._address = address
        self._out = out
        self._idle: asyncio.Queue[Client | None] = asyncio.Queue()
        for _ in range(KEPT):
            self._idle.put_nowait(None)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Requests at a constant rate until `stop`."""
        began, number = time.monotonic_ns(), 0
        while not stop.is_set():
            due = began + int(number * 1e9 / rate)
            await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
            task = asyncio.create_task(self._one(due, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
        await asyncio.gather(*self._tasks)

    async def _connect(self) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(Client, *self._address)
        return client

    async def _one(self, due: int, number: int) -> None:
        kept = number % _ANEW != 0
        client = await self._idle.get() if kept else None
        sent, version = time.monotonic_ns(), FAILED
        try:
            if client is None or not client.usable:
                client = await self._connect()
            sent = time.monotonic_ns()
            answer = await client.ask(request(number))
            version = minor(answer)
            if version == FAILED:
                sys.stderr.write(f"soak-{number}: {answer[:200]!r}\n")
        except (OSError, TimeoutError) as error:
            sys.stderr.write(f"soak-{number}: {type(error).__name__}: {error} (kept: {kept})\n")
            if client is not None:
                client.close()
        self._out.write(RECORD.pack(due, sent, time.monotonic_ns(), version, kept))
        if kept:
            self._idle.put_nowait(client)
        elif client is not None:
            client.close()


def main() -> None:
    host, port, rate, path = sys.argv[1:]

    async def work(out: IO[bytes]) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
        await Arrivals((host, int(port)), out).run(float(rate), stop)

    with open(path, "wb") as out:
        uvloop.run(work(out))


if __name__ == "__main__":
    main()
