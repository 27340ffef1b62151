"""Closed-loop gRPC load: HTTP/2 frames written and read by hand, since only the server's cost is asked for.

Contract. Per connection: the preface, one window for everything that will come, then `pipeline`
streams under way. Request headers are indexed after the first one, as gRPC's own clients do
(RFC 7541). The server's flow control is kept (RFC 9113 section 5.2): without credit nothing is sent.
A stream succeeds when it ends after a message that holds the job's `must`: gRPC sends errors as
trailers alone, so that their compressed status need not be read.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.serving.payloads import VECTORS, WIDTH, raw
from bench.serving.tally import Job, Tally

PATH = b"/inference.GRPCInferenceService/ModelInfer"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_WIDE = 2**31 - 1
_DEFAULT_WINDOW = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A literal header that enters the dynamic table."""
    return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value


# Static 3 and 6 are `:method: POST` and `:scheme: http`; the dynamic table counts from 62, the newest first.
_FIRST = (
    b"\x83\x86"
    + _literal(b":path", PATH)
    + _literal(b":authority", b"bench")
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"te", b"trailers")
)
_LATER = b"\x83\x86\xc1\xc0\xbf\xbe"


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length = len(value)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + size + value


def message(number: int, model: bytes = b"fraud") -> bytes:
    """A length-prefixed `ModelInferRequest` with one row as raw contents."""
    tensor = _field(1, b"vectors") + _field(2, b"FP32") + _field(3, bytes([1, WIDTH]))
    request = _field(1, model) + _field(5, tensor) + _field(7, raw(number))
    return struct.pack(">BI", 0, len(request)) + request


@dataclass
class _Stream:
    started_ns: int
    data: bytes = b""


@dataclass
class Connection:
    """One HTTP/2 connection."""

    job: Job
    tally: Tally
    messages: Sequence[bytes]
    streams: dict[int, _Stream] = field(default_factory=dict)
    next_stream: int = 1
    credit: int = _DEFAULT_WINDOW
    ended: bool = False
    _rest: bytes = b""

    def __post_init__(self) -> None:
        """Connect and open the windows."""
        self.socket = socket.create_connection(self.job.address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        windows = frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WIDE))
        windows += frame(_WINDOW, 0, 0, struct.pack(">I", _WIDE - _DEFAULT_WINDOW))
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + windows)

    def fill(self) -> None:
        """Open streams until `pipeline` are under way."""
        out = []
        now = time.monotonic_ns()
        while len(self.streams) < self.job.pipeline and not self.ended:
            body = self.messages[self.next_stream // 2 % len(self.messages)]
            if self.credit < len(body):
                break
            self.credit -= len(body)
            head = _LATER if self.next_stream > 1 else _FIRST
            out.append(frame(_HEADERS, _END_HEADERS, self.next_stream, head))
            out.append(frame(_DATA, _END_STREAM, self.next_stream, body))
            self.streams[self.next_stream] = _Stream(now)
            self.next_stream += 2
        if out:
            self.socket.sendall(b"".join(out))

    def receive(self) -> None:
        """Read what came and go on."""
        data = self.socket.recv(262_144)
        if not data:
            self.ended = True
            self.tally.fail("connection lost", len(self.streams))
            return
        data, start = self._rest + data, 0
        while len(data) - start >= 9:
            end = start + 9 + int.from_bytes(data[start : start + 3], "big")
            if end > len(data):
                break
            kind, flags, stream = struct.unpack(">BBI", data[start + 3 : start + 9])
            self._take(kind, flags, stream & _WIDE, data[start + 9 : end])
            start = end
        self._rest = data[start:]
        self.fill()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW and not stream:
            self.credit += int.from_bytes(payload, "big")
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _GOAWAY:
            self.ended = True
        elif kind == _RESET:
            self.streams.pop(stream, None)
            self.tally.fail("stream reset")
        elif stream in self.streams:
            if kind == _DATA:
                self.streams[stream].data += payload
            if flags & _END_STREAM and kind in (_DATA, _HEADERS):
                self._finish(self.streams.pop(stream))

    def _finish(self, stream: _Stream) -> None:
        if len(stream.data) <= 5 or self.job.must.encode() not in stream.data:
            self.tally.fail("not the answer that was asked for", 1, stream.data[:200])
        else:
            self.tally.took(stream.started_ns, time.monotonic_ns())


class GrpcLoad:
    """The connections of one job."""

    def __init__(self, job: Job) -> None:
        self.tally = Tally()
        self._poll = select.epoll()
        messages = [message(number) for number in range(VECTORS)]
        made = [Connection(job, self.tally, messages) for _ in range(job.connections)]
        self._connections = {each.socket.fileno(): each for each in made}
        for handle in self._connections:
            self._poll.register(handle, select.EPOLLIN)

    def closed(self, seconds: float) -> None:
        """Keep every connection busy for so long."""
        for connection in self._connections.values():
            connection.fill()
        end = time.monotonic_ns() + int(seconds * 1e9)
        while time.monotonic_ns() < end and self._connections:
            for handle, _ in self._poll.poll(0.1):
                self._connections[handle].receive()
                if self._connections[handle].ended:
                    self._poll.unregister(handle)
                    del self._connections[handle]


def ask(address: tuple[str, int]) -> bytes:
    """The `ModelInferResponse` to the first vector.

    Raises:
        ConnectionError: no message came.
    """
    load = GrpcLoad(Job(address, "grpc", "", "", connections=1))
    (connection,) = load._connections.values()
    connection.fill()
    stream = connection.streams[1]
    while 1 in connection.streams and not connection.ended:
        connection.receive()
    if len(stream.data) <= 5:
        raise ConnectionError("the gRPC door gave no message")
    return stream.data[5:]
