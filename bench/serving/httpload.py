"""HTTP/1.1 load on plain sockets and epoll, closed loop: as little per request as Python allows."""

from __future__ import annotations

import select
import socket
import time
from collections import deque

from bench.serving.payloads import KINDS, Make
from bench.serving.tally import Job, Tally


class Connection:
    """One keep-alive connection and the send times of what is under way on it."""

    def __init__(self, job: Job, tally: Tally, poll: select.epoll) -> None:
        self._job = job
        self._tally = tally
        self._poll = poll
        self._must = job.must.encode()
        self._mark = job.mark.encode()
        self.closing = False
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
        started = self.waiting.popleft()
        if self._good(head, data, split + 4, end):
            self._tally.took(started, now_ns)
        return end

    def _good(self, head: bytes, data: bytes, start: int, end: int) -> bool:
        self.closing = head.find(b"connection: close") >= 0
        if head[9:12] != b"200":
            self._tally.fail("status " + head[9:12].decode("latin-1"), 1, data[start : min(end, start + 200)])
            return False
        if data.find(self._must, start, end) < 0:
            self._tally.fail("not the answer that was asked for", 1, data[start : min(end, start + 300)])
            return False
        if self._mark and data.find(self._mark, start, end) >= 0:
            self._tally.marked += 1
        return True

    def renew(self) -> None:
        """The server ended the connection: count what was under way, and connect anew."""
        if self.waiting:
            self._tally.fail("connection lost", len(self.waiting))
            self.waiting.clear()
        self._rest = b""
        self.closing = False
        self._poll.unregister(self.socket.fileno())
        self.socket.close()
        self.socket = self._connect()


class Load:
    """The keep-alive connections of one job."""

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
                if done < 0 or self.connections[handle].closing:
                    self.burst(self.renew(handle), self.job.pipeline)
                elif done:
                    self.burst(self.connections[handle], done)
