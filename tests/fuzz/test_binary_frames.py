"""Mutated V2 frames over a real connection: never 5xx, never a hang, and the connection's neighbour still answers.

`make fuzz` (INTERLOCK_FUZZ=n) sends n times as many.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.failures.load import card
from tests.protocol.open_scorer import Open, columns, open_scorer

pytestmark = pytest.mark.process

TIMES = int(os.environ.get("INTERLOCK_FUZZ", "1"))
CARD = card(950)
INFER = "/v2/models/fraud/infer"
LENGTH = "inference-header-content-length"
WIDTH = 61
many = settings(
    max_examples=200 * TIMES, derandomize=TIMES == 1, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with open_scorer(tmp_path_factory.mktemp("frames")) as made:
        workers = made.home.workers()
        yield made
        assert made.home.workers() == workers, "a worker ended"
        for name, data in made.written():
            assert CARD.encode() not in data, f"a card number is in {name}"


@dataclass(frozen=True)
class Frame:
    """JSON, what follows it, and the length that is claimed."""

    head: bytes
    tail: bytes
    length: str

    @property
    def body(self) -> bytes:
        return self.head + self.tail


def frame(inputs: list[tuple[dict[str, Any], bytes]], **more: Any) -> Frame:
    """A correct frame."""
    head = json.dumps({"inputs": [fields for fields, _ in inputs]} | more).encode()
    return Frame(head, b"".join(data for _, data in inputs), str(len(head)))


def vectors() -> Frame:
    """The model's own input, and binary outputs."""
    data = struct.pack(f"<{WIDTH}f", *range(WIDTH))
    fields = {"name": "vectors", "shape": [1, WIDTH], "datatype": "FP32"}
    return frame(
        [(fields | {"parameters": {"binary_data_size": len(data)}}, data)], parameters={"binary_data_output": True}
    )


def raw_columns() -> Frame:
    """A transaction, BYTES and INT64 columns."""
    found = []
    for each in columns("frame-1"):
        values = [CARD] if each["name"] == "pan" else each.pop("data")
        each.pop("data", None)
        data = struct.pack("<q", values[0]) if each["datatype"] == "INT64" else _text(values[0])
        found.append((each | {"parameters": {"binary_data_size": len(data)}}, data))
    return frame(found)


def _text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


GOOD = (vectors(), raw_columns())


# --- mutations --------------------------------------------------------------------------------------


def flipped(data: bytes, place: int, bits: int) -> bytes:
    """One byte changed."""
    if not data:
        return data
    place %= len(data)
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def cut(data: bytes, start: int, size: int) -> bytes:
    """A piece left out."""
    start %= len(data) + 1
    return data[:start] + data[start + size :]


def grown(data: bytes, start: int, more: bytes) -> bytes:
    """A piece put in."""
    start %= len(data) + 1
    return data[:start] + more + data[start:]


_NUMBER = re.compile(rb"-?\d+")


def renumbered(head: bytes, place: int, number: bytes) -> bytes:
    """One of the numbers in the JSON (a shape, a size) replaced."""
    found = list(_NUMBER.finditer(head))
    if not found:
        return head
    match = found[place % len(found)]
    return head[: match.start()] + number + head[match.end() :]


places = st.integers(0, 4_000)
numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(lambda each: str(each).encode()),
    st.sampled_from(
        [b"0", b"-1", b"1", b"61", b"62", b"4294967296", b"2147483648", b"1.5", b"1e9", b"null", b'"4"', b"[]"]
    ),
)
pieces = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", CARD.encode(), b"{}", b'"'])
)
lengths = st.one_of(
    st.integers(-10, 3_000).map(str), st.sampled_from(["0", "", "00", "+5", "1e3", "0x10", "9" * 30, "-1", "١٢"])
)
heads = st.one_of(
    st.tuples(st.just(flipped), places, st.integers(1, 255)),
    st.tuples(st.just(cut), places, st.integers(1, 200)),
    st.tuples(st.just(grown), places, pieces),
    st.tuples(st.just(renumbered), places, numbers),
)
tails = st.one_of(
    st.tuples(st.just(flipped), places, st.integers(1, 255)),
    st.tuples(st.just(cut), places, st.integers(1, 400)),
    st.tuples(st.just(grown), places, pieces),
)


@st.composite
def mutated(draw: st.DrawFn) -> Frame:
    """A good frame with one to three changes; the claimed length follows the JSON, or is another."""
    good = draw(st.sampled_from(GOOD))
    head, tail = good.head, good.tail
    for change, *how in draw(st.lists(heads, max_size=2)):
        head = change(head, *how)
    for change, *how in draw(st.lists(tails, max_size=2)):
        tail = change(tail, *how)
    length = draw(st.one_of(st.just(str(len(head))), st.just(str(len(head))), lengths))
    return Frame(head, tail, length)


# --- sending ----------------------------------------------------------------------------------------


class Line:
    """A kept connection, opened again when the server said that it ends."""

    def __init__(self, server: Open) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None
        self.seen: Counter[int] = Counter()

    def send(self, given: Frame, **headers: str) -> tuple[int, bytes]:
        """Status and body; whatever is no whole HTTP reply raises."""
        connection = self._connection or self._server.home.connection()
        connection.putrequest("POST", INFER, skip_accept_encoding=True)
        for name, value in {**self._server.header, "content-type": "application/octet-stream", **headers}.items():
            connection.putheader(name, value)
        connection.putheader(LENGTH, given.length.encode())
        connection.putheader("content-length", str(len(given.body)))
        connection.endheaders(given.body)
        reply = connection.getresponse()
        body = reply.read()
        self.seen[reply.status] += 1
        self._connection = None if reply.will_close else connection
        if reply.will_close:
            connection.close()
        return reply.status, body


@pytest.fixture(scope="module")
def line(server: Open) -> Iterator[Line]:
    made = Line(server)
    yield made
    assert made.seen[200] > 5
    assert made.seen[400] > 50, made.seen


def test_a_mutated_frame_is_answered_or_refused_and_the_connection_goes_on(line: Line) -> None:
    @many
    @given(mutated())
    def check(given: Frame) -> None:
        status, body = line.send(given)
        assert status in (200, 400, 413, 415), (status, body[:200])
        assert CARD.encode() not in body
        if status != 200:
            found = json.loads(body)
            assert list(found) == ["error"]
            assert "Traceback" not in found["error"]
        assert line.send(GOOD[0])[0] == 200, "the next request on the connection is answered"

    check()


def test_a_frame_that_ends_early_costs_only_its_own_connection(server: Open, line: Line) -> None:
    @settings(many, max_examples=40 * TIMES)
    @given(st.sampled_from(GOOD), st.integers(0, 2_000), st.booleans())
    def check(good: Frame, kept: int, announced: bool) -> None:
        size = len(good.body) if announced else max(kept, 1) + 50
        head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\n{LENGTH}: {good.length}\r\ncontent-length: {size}\r\n"
        with socket.create_connection(server.address.split(":"), timeout=10) as raw:  # type: ignore[arg-type]
            raw.sendall(head.encode() + b"\r\n" + good.body[: min(kept, size - 1)])
            raw.shutdown(socket.SHUT_WR)
            reply = raw.makefile("rb").read()
        assert not reply.startswith(b"HTTP/1.1 5"), reply[:200]
        assert line.send(GOOD[0])[0] == 200

    check()


def test_good_frames_are_good(line: Line) -> None:
    assert [line.send(each)[0] for each in GOOD] == [200, 200]
