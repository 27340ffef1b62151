"""A head that was read before is not read again: that never changes a request, a refusal or where the stream is cut."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from interlock.apps.scorer.exchange import Exchange, Head, plain
from interlock.apps.scorer.http import Connection, Server
from interlock.base.clock import ManualClock
from interlock.serving.options import ServingOptions

# Heads as clients send them, and as somebody would who wants two readers to disagree.
HEADS = (
    b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\nx-more: y\r\n\r\n",
    b"GET /c?q=1 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /d HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"GET /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"POST /f HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
    b"POST /g HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    b"POST /h HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
    b"POST /i HTTP/1.1\r\nhost: x\nx: y\r\ncontent-length: 5\r\n\r\n",
    b"POST /j HTTP/1.1\r\nhost: x\r\n folded: y\r\ncontent-length: 5\r\n\r\n",
    b"POST /k HTTP/1.1\nhost: x\ncontent-length: 5\n\n",
    b"GET /l HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    b"POST /m HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    b"GET /n HTTP/1.1\r\nhost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n",
)
BODIES = (
    b"",
    b"hello",
    b"a" * 26,
    b"5\r\nhello\r\n0\r\n\r\n",
    b"\r\n\r\n!",
    b"\r\n",
    b"GET /z HTTP/1.1\r\nhost: x\r\n\r\n",
)


class Wire:
    """What a connection writes to."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_extra_info(self, name: str) -> Any:
        return None


class Forgetful(Server):
    """Reads every head anew."""

    def remember(self, raw: bytes, head: Head) -> None:
        """Nothing is kept."""


class Reading:
    """One server, and everything that its handler was given."""

    def __init__(self, kind: type[Server]) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.server = kind(self._handle, lambda exchange, status: None, ServingOptions(), ManualClock())

    def _handle(self, exchange: Exchange) -> None:
        head = exchange.head
        self.seen.append((head.method, head.path, dict(head.headers), exchange.body, exchange.closes))
        exchange.respond(200, b"ok")

    def read(self, pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
        """What one connection's bytes come to: exchanges, and the bytes that go out."""
        self.seen = []
        connection, wire = Connection(self.server), Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        for piece in pieces:
            if not wire.closing:
                connection.data_received(piece)
        return self.seen, wire.written


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces."""
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    starts = [0, *ends]
    return [stream[a:b] for a, b in zip(starts, ends, strict=False) if a < b]


requests = st.lists(st.tuples(st.sampled_from(HEADS), st.sampled_from(BODIES)), min_size=1, max_size=5)


@given(requests, st.lists(st.integers(0, 600), max_size=4))
@example([(HEADS[0], b"hello"), (HEADS[0], b"hello")], [])
@example([(HEADS[8], b"hello"), (HEADS[8], b"hello")], [])
@example([(HEADS[10], b"\r\n\r\n!"), (HEADS[10], b"\r\n\r\n!")], [])
def test_a_remembered_head_changes_nothing(sent: list[tuple[bytes, bytes]], places: list[int]) -> None:
    stream = b"".join(head + body for head, body in sent)
    remembering, forgetful = Reading(Server), Reading(Forgetful)
    for head, body in sent:
        remembering.read([head + body])  # each on its own connection, so that whatever can be known is known
    for pieces in ([stream], cut(stream, places)):
        assert remembering.read(pieces) == forgetful.read(pieces)


def test_a_plain_head_is_read_once_and_its_plan_is_kept() -> None:
    reading = Reading(Server)
    plans: list[Any] = []
    reading.server.handler = lambda exchange: (plans.append(exchange.head), exchange.respond(200, b"ok"))[-1]
    reading.read([HEADS[0] + b"hello", HEADS[0] + b"hello" + HEADS[0] + b"world"])
    assert len(plans) == 3
    assert plans[0] is plans[1] is plans[2]


def test_what_is_not_plain_is_read_every_time() -> None:
    reading = Reading(Server)
    for head in (HEADS[3], HEADS[4], HEADS[5], HEADS[8], HEADS[12], HEADS[13]):
        reading.read([head + b"5\r\nhello\r\n0\r\n\r\n"])
    assert set(reading.server.heads) <= {HEADS[3]}


def test_only_so_many_heads_are_kept() -> None:
    reading = Reading(Server)
    for number in range(3_000):
        reading.read([b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number])
    assert 0 < len(reading.server.heads) <= 1_024


def test_a_head_that_a_lenient_parser_might_end_elsewhere_is_not_plain() -> None:
    # httptools refuses these today; a version that accepted them must not make us cut the stream elsewhere.
    assert plain(HEADS[0], {b"host": b"x", b"content-length": b"5"}, 2)
    assert not plain(b"POST /a HTTP/1.1\nhost: x\ncontent-length: 5\n\nhello\r\n\r\n", {}, 2)
    assert not plain(b"POST /a HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n", {}, 1)
    assert not plain(b"\r\n" + HEADS[0], {}, 2)
    for name in (b"transfer-encoding", b"expect", b"traceparent"):
        assert not plain(HEADS[0], {name: b"x"}, 2)
