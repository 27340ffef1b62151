"""HTTP/1.1 (RFC 9110, 9112) as a real scorer speaks it, byte by byte."""

from __future__ import annotations

import json
import socket

import pytest
from tests.protocol.wire import Wire, get, new_id, post
from tests.scoring import PREDICT, Scorer, body_of, transaction

pytestmark = pytest.mark.process


def test_head_has_the_length_but_not_the_body(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(get("/v2/health/live", "HEAD") + get("/v2/health/live"))
        status, headers, _ = wire.response(head_only=True)
        assert (status, headers["content-length"]) == (200, "13")
        assert wire.response()[2] == b'{"live":true}'


# --- HTTP/1.1 ---------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(running: Scorer) -> None:
    names = [new_id() for _ in range(30)]
    with Wire(running) as wire:
        wire.send(
            b"".join(post(body_of(transaction(name, n))) + get("/v2/health/live") for n, name in enumerate(names))
        )
        for name in names:
            assert json.loads(wire.response()[2])["predictions"][0]["transaction_id"] == name
            assert wire.response()[2] == b'{"live":true}'


def test_a_chunked_body_is_read_whole(running: Scorer) -> None:
    body = body_of(transaction(new_id()))
    chunks = (
        b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:100], body[100:])) + b"0\r\n\r\n"
    )
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: scorer\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with Wire(running) as wire:
        wire.send(head + chunks)
        assert wire.response()[0] == 200


def test_a_request_in_single_bytes_is_read(running: Scorer) -> None:
    with Wire(running) as wire:
        for byte in get("/v2/health/live"):
            wire.send(bytes([byte]))
        assert wire.response()[0] == 200


def test_expect_100_continue_is_answered_before_the_body(running: Scorer) -> None:
    body = body_of(transaction(new_id()))
    with Wire(running) as wire:
        wire.send(post(body, "Expect: 100-continue")[: -len(body)])
        assert wire.response()[0] == 100
        wire.send(body)
        assert wire.response()[0] == 200


def test_a_body_announced_too_long_is_refused_instead_of_continued(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert wire.response()[0] == 413
        assert wire.ended()


def test_the_target_may_stand_in_absolute_form(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(get("http://scorer.example/v2/health/live?probe=1"))
        assert wire.response()[0] == 200


def test_http_1_0_is_answered_and_closed(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        status, headers, _ = wire.response()
        assert (status, headers["connection"]) == (200, "close")
        assert wire.ended()


def test_an_upgrade_is_not_taken_and_the_request_answered(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert wire.response()[0] == 200
        assert wire.ended()


def test_a_client_that_half_closes_still_gets_its_answers(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(post(body_of(transaction(new_id()))))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.response()[0] == 200
        assert wire.ended()


BODY = body_of(transaction("framing"))
AMBIGUOUS = {
    "both framings": post(BODY, "Transfer-Encoding: chunked"),
    "both framings, turned": f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    "Content-Length: 5\r\n\r\n0\r\n\r\n".encode(),
    "two lengths": post(BODY, "Content-Length: 4"),
    "the length twice": post(BODY, f"Content-Length: {len(BODY)}"),
    "a signed length": f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n12345".encode(),
    "another coding": f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n".encode(),
    "no host": post(BODY, host=""),
    "two hosts": post(BODY, "Host: other"),
    "a folded header": b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "a space before the colon": b"GET /v2/health/live HTTP/1.1\r\nHost : x\r\n\r\n",
    "a bare line feed": b"GET /v2/health/live HTTP/1.1\nHost: x\n\n",
    "a bad chunk": f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_framing_that_could_be_read_two_ways_is_refused_and_closed(running: Scorer, case: str) -> None:
    with Wire(running) as wire:
        wire.send(AMBIGUOUS[case])
        status, headers, body = wire.response()
        assert (status, headers["connection"]) == (400, "close")
        assert "error" in json.loads(body)
        assert wire.ended()


def test_what_was_pipelined_before_a_bad_request_is_answered_first(running: Scorer) -> None:
    name = new_id()
    with Wire(running) as wire:
        wire.send(post(body_of(transaction(name))) + b"nonsense\r\n\r\n")
        status, headers, body = wire.response()
        assert (status, "connection" in headers) == (200, False)
        assert json.loads(body)["predictions"][0]["transaction_id"] == name
        assert wire.response()[0] == 400
        assert wire.ended()


# --- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 5_000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 5_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 25 + b"\r\n", 431),
        (post(b" " * 20_001), 413),
        (f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
         + b"1000\r\n" + b" " * 4_096 + b"\r\n" + b"4000\r\n" + b" " * 16_384 + b"\r\n", 413),
    ],
    ids=["endless header", "long header", "long target", "many headers", "long body", "long chunks"],
)  # fmt: skip
def test_what_is_too_long_is_refused_with_its_status(running: Scorer, data: bytes, status: int) -> None:
    with Wire(running) as wire:
        wire.send(data)
        assert wire.response()[0] == status
        assert wire.ended()


@pytest.mark.parametrize(
    "start",
    [b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n", post(b"12345")[:-2]],
    ids=["within the headers", "within the body"],
)
def test_a_request_that_does_not_arrive_in_time_is_ended(running: Scorer, start: bytes) -> None:
    with Wire(running) as wire:
        wire.send(start)
        status, headers, _ = wire.response()
        assert (status, headers["connection"]) == (408, "close")
        assert wire.ended()


def test_trickling_header_bytes_buy_no_time(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(b"GET / HTTP/1.1\r\n")
        while wire.silent(0.05):
            wire.send(b"a")
        assert wire.response()[0] == 408


def test_an_idle_connection_is_closed_without_a_word(running: Scorer) -> None:
    with Wire(running) as wire:
        wire.send(get("/v2/health/live"))
        wire.response()
        assert wire.ended()
