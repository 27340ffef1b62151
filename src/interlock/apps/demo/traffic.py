"""Live traffic: an open-loop load generator in a process of its own.

Requests are due at a constant rate, whatever the server does; latency counts from the instant
a request was *due*, so a stalled server cannot hide (coordinated omission). Nothing is retried:
a non-2xx reply, a lost connection, or a reply later than the deadline is a failed request.

The process: `python -m interlock.apps.demo.traffic --progress FILE [--port N | --home DIR] …`.
It replaces FILE atomically four times a second, and ends by itself: after `--seconds`, at
SIGTERM, or (with `--wait`) when its stdin ends, so it never outlives who started it. Requests
under way at the end are waited for and counted; the last FILE says `"done": true`.
With `--wait` it prints `ready` once it can send, and begins at the line `go`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from interlock.apps.demo.client import Connection, Exchange
from interlock.apps.demo.stream import bodies
from interlock.apps.demo.tally import Reply, Tally
from interlock.base.clock import Clock, SystemClock
from interlock.base.errors import UnreachableError

_TURN_S = 0.002
_PROGRESS_S = 0.25


@dataclass(frozen=True)
class TrafficOptions:
    """How to send: `rate` a second on at most `connections` keep-alive connections."""

    host: str = "127.0.0.1"
    port: int = 8080
    service: str = "fraud"
    rate: float = 320.0
    connections: int = 64
    deadline_s: float = 2.0
    seconds: float | None = None


class Traffic:
    """One open-loop generator, as a coroutine: `run` until the stream, the time or `stop` ends it.

    Args:
        options: where, how fast, how long.
        stream: (transaction id, request body) in the order in which they are sent.
        clock: the wall clock of the records.
    """

    def __init__(self, options: TrafficOptions, stream: Iterator[tuple[str, bytes]], clock: Clock) -> None:
        self.tally = Tally()
        self.stop = asyncio.Event()
        self._options = options
        self._stream = stream
        self._clock = clock
        self._decoder = msgspec.json.Decoder(Reply)
        self._head = (
            f"POST /v1/models/{options.service}:predict HTTP/1.1\r\nHost: {options.host}:{options.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: list[Connection] = []
        self._opening = 0
        self._open: set[Connection] = set()
        self._waiting: deque[tuple[Exchange, bytes]] = deque()
        self._under_way: deque[tuple[Exchange, Connection | None]] = deque()
        self._carrier: dict[Exchange, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Tally:
        """Send until told to stop; then wait for what is under way."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        due = 0
        while not self.stop.is_set():
            now = loop.time()
            if self._options.seconds is not None and now - began >= self._options.seconds:
                break
            while due <= (now - began) * self._options.rate:
                following = next(self._stream, None)
                if following is None:
                    self.stop.set()
                    break
                self._due(following, began + due / self._options.rate)
                due += 1
            self._expire(now)
            await asyncio.sleep(_TURN_S)
        while self._under_way:
            self._expire(loop.time())
            await asyncio.sleep(_TURN_S)
        for connection in list(self._open):
            connection.abandon()
        return self.tally

    def _due(self, following: tuple[str, bytes], due_s: float) -> None:
        exchange = Exchange(following[0], due_s)
        self.tally.send(self._clock.now_ns())
        self._under_way.append((exchange, None))
        self._waiting.append((exchange, following[1]))
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting:
            connection = self._usable()
            if connection is None:
                self._grow()
                return
            exchange, body = self._waiting.popleft()
            if exchange.over:
                continue
            self._carrier[exchange] = connection
            connection.send(exchange, self._head, body)

    def _usable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def _grow(self) -> None:
        wanted = min(len(self._waiting), self._options.connections - len(self._open)) - self._opening
        for _ in range(max(0, wanted)):
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self), self._options.host, self._options.port
            )
        except OSError:
            # No listener: whatever was waiting for this connection has failed.
            if self._waiting:
                self.failed(self._waiting.popleft()[0], "refused")
            return
        finally:
            self._opening -= 1
        self._open.add(connection)
        self._idle.append(connection)
        self._dispatch()

    def _expire(self, now_s: float) -> None:
        while self._under_way:
            exchange = self._under_way[0][0]
            if not exchange.over:
                if now_s - exchange.due_s <= self._options.deadline_s:
                    return
                carrier = self._carrier.get(exchange)
                self.failed(exchange, "late")
                if carrier is not None:
                    carrier.abandon()
            self._under_way.popleft()

    # What connections report.
    def answered(self, connection: Connection, exchange: Exchange, status: int, body: bytes) -> None:
        """Count a reply, and use its connection again."""
        if connection.usable:
            self._idle.append(connection)
        seconds = asyncio.get_running_loop().time() - exchange.due_s
        if seconds > self._options.deadline_s:
            self.failed(exchange, "late")
        elif not 200 <= status < 300:
            self.failed(exchange, f"status:{status}")
        else:
            try:
                reply = self._decoder.decode(body)
            except msgspec.DecodeError:
                self.failed(exchange, "malformed")
            else:
                self._end(exchange)
                self.tally.answer(self._clock.now_ns(), seconds, reply.predictions)
        self._dispatch()

    def failed(self, exchange: Exchange, kind: str) -> None:
        """Count a failure, once."""
        if not exchange.over:
            self._end(exchange)
            self.tally.fail(self._clock.now_ns(), kind)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)

    def _end(self, exchange: Exchange) -> None:
        exchange.over = True
        self._carrier.pop(exchange, None)


def write_progress(path: Path, progress: dict[str, Any]) -> None:
    """Replace `path` at once; no fsync, since nobody needs it after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(msgspec.json.encode(progress))
    temporary.replace(path)


class TrafficProcess:
    """The generator as a child process.

    Args:
        arguments: the options of `python -m interlock.apps.demo.traffic`, without `--progress` and `--wait`.
        progress: the file it reports in.
        log: where its stderr goes.
    """

    def __init__(self, arguments: list[str], progress: Path, log: Path) -> None:
        self._progress = progress
        progress.unlink(missing_ok=True)
        command = [sys.executable, "-m", "interlock.apps.demo.traffic", "--wait", "--progress", str(progress)]
        with log.open("wb") as stderr:
            self._child = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )

    def wait_ready(self) -> None:
        """Block until it can send."""
        assert self._child.stdout is not None  # noqa: S101 - narrows the type
        if self._child.stdout.readline().strip() != b"ready":
            raise UnreachableError("the load generator did not start", "read its log in run/traffic.log")

    def go(self, port: int) -> None:
        """Begin to send to `port` of this machine."""
        assert self._child.stdin is not None  # noqa: S101 - narrows the type
        self._child.stdin.write(f"go {port}\n".encode())
        self._child.stdin.flush()

    def progress(self) -> dict[str, Any] | None:
        """The latest report, or None before the first one."""
        try:
            found: dict[str, Any] = msgspec.json.decode(self._progress.read_bytes())
        except FileNotFoundError:
            return None
        return found

    def stop(self, timeout_s: float = 15.0) -> dict[str, Any] | None:
        """End the traffic, wait for what is under way, and return the last report."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        return self.progress()


async def _drive(options: TrafficOptions, stream: Iterator[tuple[str, bytes]], path: Path, wait: bool) -> Tally:
    clock = SystemClock()
    traffic = Traffic(options, stream, clock)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, traffic.stop.set)
    # Ctrl-C reaches the whole foreground group; who started us decides when traffic ends.
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if wait else traffic.stop.set)
    if wait:

        def until_stdin_ends() -> None:
            sys.stdin.read()
            loop.call_soon_threadsafe(traffic.stop.set)

        threading.Thread(target=until_stdin_ends, daemon=True).start()
    running = asyncio.create_task(traffic.run())
    while not running.done():
        write_progress(path, traffic.tally.progress(clock.now_ns()))
        await asyncio.wait({running}, timeout=_PROGRESS_S)
    tally = await running
    write_progress(path, tally.progress(clock.now_ns(), done=True))
    return tally


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m interlock.apps.demo.traffic", description=__doc__.split("\n")[0])
    parser.add_argument("--progress", type=Path, required=True, help="file that is replaced with the counts")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--service", default="fraud")
    parser.add_argument("--rate", type=float, default=320.0, help="requests a second")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, help="how long; without it, until SIGTERM")
    parser.add_argument("--cards", type=int, default=20_000)
    parser.add_argument("--history-days", type=int, default=5, help="days of the population that are history already")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wait", action="store_true", help="print ready; begin at the line 'go PORT'; end with stdin")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the generator; exit 0 when every request was answered."""
    asked = _arguments(argv)
    stream = bodies(asked.cards, asked.history_days, asked.seed)
    port = asked.port
    if asked.wait:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        words = sys.stdin.readline().split()
        if not words:  # who started us is gone, or changed its mind
            return 0
        port = int(words[1])
    options = TrafficOptions(asked.host, port, asked.service, asked.rate, asked.connections, seconds=asked.seconds)
    tally = uvloop.run(_drive(options, stream, asked.progress, asked.wait))
    return 0 if tally.failed == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
