"""Raw connections to a scorer, and requests as bytes."""

from __future__ import annotations

import select
import socket
import uuid

from tests.scoring import PREDICT, Scorer


def new_id() -> str:
    return uuid.uuid4().hex


class Wire:
    """A raw connection: bytes out, whole responses in."""

    def __init__(self, running: Scorer) -> None:
        self.socket = socket.create_connection(running.address, timeout=10)
        self._buffer = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def response(self, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(lines[0].split()[1]), headers, body

    def ended(self) -> bool:
        """Whether the server closed, with nothing left to read."""
        return not self._buffer and not self.socket.recv(1)

    def silent(self, seconds: float) -> bool:
        return not self._buffer and not select.select([self.socket], [], [], seconds)[0]

    def _more(self) -> None:
        data = self.socket.recv(65_536)
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data


def post(body: bytes, *headers: str, path: str = PREDICT, host: str = "Host: scorer") -> bytes:
    lines = [f"POST {path} HTTP/1.1", *([host] if host else []), f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: scorer\r\n\r\n".encode()
