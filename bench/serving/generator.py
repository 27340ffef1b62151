"""The load generator: one process, one thread, epoll and plain sockets, since its cost counts too.

    python -m bench.serving.generator < job.json > result.json

Contract. Closed loop: every connection keeps `pipeline` requests under way, and latency counts from
the send. Open loop: request k is due at k / rate after the start whatever the server does; latency
counts from that moment (coordinated omission corrected), also while it waits here for a free
connection. A request fails when its connection ends before the reply, when the status is not 200,
when the reply lacks the job's `must`, or when no reply has come `GRACE_S` after the last was due.
Nothing is retried. A reply with `Connection: close` ends the use of that connection, which is
opened anew. CPU of the watched processes is read at the start and the end of the measured phase.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from bench.serving import arithmetic
from bench.serving.cpu import Meter
from bench.serving.payloads import KINDS, Make

GRACE_S = 3.0
_TURN_S = 0.001
_EXAMPLES = 5


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        address: host and port.
        kind: one of `payloads.KINDS`.
        target: the request target.
        run: goes into transaction ids; nine letters or fewer.
        must: what every reply's body holds.
        connections: how many.
        pipeline: requests under way on each, closed loop.
        rate: requests a second, open loop (0: closed loop).
        warm_s: sent before anything is measured.
        measure_s: measured.
        groups: process ids to watch, by name.
    """

    address: tuple[str, int]
    kind: str
    target: str
    run: str
    must: str = ""
    connections: int = 64
    pipeline: int = 1
    rate: float = 0.0
    warm_s: float = 2.0
    measure_s: float = 8.0
    groups: dict[str, list[int]] = field(default_factory=dict)


class Tally:
    """Outcomes of the measured phase."""

    def __init__(self) -> None:
        self.found_ns: list[int] = []
        self.failed: Counter[str] = Counter()
        self.examples: list[str] = []
        self.measuring = False

    def fail(self, kind: str, count: int = 1, example: bytes = b"") -> None:
        """Count failures, warm-up included: a server that fails there is not fit to be measured."""
        self.failed[kind] += count
        if example and len(self.examples) < _EXAMPLES:
            self.examples.append(example.decode("latin-1"))


class Connection:
    """One keep-alive connection and the send times of what is under way on it."""

    def __init__(self, job: Job, tally: Tally, poll: select.epoll) -> None:
        self._job = job
        self._tally = tally
        self._poll = poll
        self._must = job.must.encode()
        self._rest = b""
        self.waiting: deque[int] = deque()
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.create_connection(self._job.address, timeout=5)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(made.fileno(), select.EPOLLIN)
        return made

    def send(self, data: bytes, starts: list[int]) -> None:
        """Send requests whose latency counts from `starts`."""
        self.waiting.extend(starts)
        try:
            self.socket.sendall(data)
        except OSError:
            self._tally.fail("connection lost", len(starts))
            self.waiting.clear()

    def receive(self, now_ns: int) -> int:
        """Read what came; how many replies were complete. The caller opens a closed one anew."""
        try:
            data = self.socket.recv(262_144)
        except OSError:
            data = b""
        if not data:
            return -1
        if self._rest:
            data = self._rest + data
        done = start = 0
        while start < len(data):
            end = self._one(data, start, now_ns)
            if end <= start:
                break
            start, done = end, done + 1
        self._rest = data[start:] if start < len(data) else b""
        return done

    def _one(self, data: bytes, start: int, now_ns: int) -> int:
        """Take one reply from `start`; where it ends, or `start` when it is not whole."""
        split = data.find(b"\r\n\r\n", start)
        if split < 0:
            return start
        head = data[start:split].lower()
        place = head.find(b"content-length:")
        if place < 0:
            self._tally.fail("a reply without a length", 1, head)
            return len(data)
        end = split + 4 + int(head[place + 15 :].split(b"\r\n", 1)[0])
        if end > len(data):
            return start
        self._judge(head, data, split + 4, end)
        started = self.waiting.popleft()
        if self._tally.measuring:
            self._tally.found_ns.append(now_ns - started)
        return end

    def _judge(self, head: bytes, data: bytes, start: int, end: int) -> None:
        if head[9:12] != b"200":
            self._tally.fail("status " + head[9:12].decode("latin-1"), 1, data[start : min(end, start + 200)])
        elif data.find(self._must, start, end) < 0:
            self._tally.fail("not the answer that was asked for", 1, data[start : min(end, start + 300)])

    def renew(self) -> None:
        """The server ended the connection: count what was under way, and connect anew."""
        if self.waiting:
            self._tally.fail("connection lost", len(self.waiting))
            self.waiting.clear()
        self._rest = b""
        self._poll.unregister(self.socket.fileno())
        self.socket.close()
        self.socket = self._connect()


class Load:
    """The connections of one job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tally = Tally()
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.number = 0
        self.make: Make = KINDS[job.kind](job.target, job.run)
        for _ in range(job.connections):
            self._add(Connection(job, self.tally, self.poll))

    def _add(self, connection: Connection) -> None:
        self.connections[connection.socket.fileno()] = connection

    def renew(self, handle: int) -> Connection:
        """Replace an ended connection."""
        connection = self.connections.pop(handle)
        connection.renew()
        self._add(connection)
        return connection

    def burst(self, connection: Connection, count: int) -> None:
        """Send `count` new requests at once."""
        number = self.number
        self.number = number + count
        data = self.make(number) if count == 1 else b"".join([self.make(number + each) for each in range(count)])
        connection.send(data, [time.monotonic_ns()] * count)

    def closed(self, seconds: float) -> None:
        """Keep every connection busy for so long."""
        for connection in self.connections.values():
            self.burst(connection, self.job.pipeline - len(connection.waiting))
        end = time.monotonic_ns() + int(seconds * 1e9)
        while time.monotonic_ns() < end:
            for handle, _ in self.poll.poll(0.1):
                done = self.connections[handle].receive(time.monotonic_ns())
                if done < 0:
                    self.burst(self.renew(handle), self.job.pipeline)
                elif done:
                    self.burst(self.connections[handle], done)


def closed(job: Job) -> dict[str, Any]:
    """A closed-loop run."""
    load = Load(job)
    load.closed(job.warm_s)
    load.tally.measuring = True
    meter = Meter(job.groups)
    load.closed(job.measure_s)
    reading = meter.read()
    tally = load.tally
    return {
        "requests": len(tally.found_ns),
        "rps": round(len(tally.found_ns) / reading["elapsed_s"], 1),
        **arithmetic.latencies(tally.found_ns),
        "errors": sum(tally.failed.values()),
        "failures": dict(tally.failed),
        "examples": tally.examples,
        **reading,
    }


def main() -> None:
    """One job from standard input, its result to standard output."""
    given = json.load(sys.stdin)
    job = Job(**{**given, "address": tuple(given["address"])})
    print(json.dumps(closed(job)))


if __name__ == "__main__":
    main()
