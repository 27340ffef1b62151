"""Every door's refusals in one table: status, error object, and no value of the caller in it."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import uvloop
from tests.failures.load import card, transaction
from tests.protocol.raw_client import PREDICT, Reply, door, doors
from tests.serving.one_worker import OneWorker, real_model

pytestmark = pytest.mark.process

LIMITS: dict[str, Any] = {"max_header_bytes": 2_048, "max_headers": 20, "max_body_bytes": 60_000, "max_instances": 64}


def post(body: bytes, path: str = PREDICT, extra: bytes = b"", length: bool = True) -> bytes:
    """A predict request."""
    size = b"content-length: %d\r\n" % len(body) if length else b""
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%b%b\r\n%b" % (path.encode(), size, extra, body)


def get(path: str, extra: bytes = b"", method: str = "GET") -> bytes:
    """A request without a body."""
    return b"%b %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (method.encode(), path.encode(), extra)


def instances(*given: dict[str, Any]) -> bytes:
    """The body with these transactions."""
    return json.dumps({"instances": list(given)}).encode()


def one(**changed: Any) -> bytes:
    """The body with one transaction in which something is changed; None leaves a field out."""
    fields = {**transaction("t1", 1), **changed}
    return instances({name: value for name, value in fields.items() if value is not None})


def replies(*requests: bytes) -> list[Reply]:
    """What a new connection gets for each request."""

    async def work() -> list[Reply]:
        worker = await OneWorker(**LIMITS).warm()
        worker.route(real_model("1.0.0"))
        found = []
        async with door(doors(worker, worker.options), worker.options) as (_, connect):
            for request in requests:
                peer = await connect()
                peer.send(request)
                found.append(await peer.reply())
        return found

    return uvloop.run(work())


MALFORMED = {
    "not http": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "http/0.9": (b"GET /\r\n\r\n", 505),
    "http/2.0": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
    "nul in a header": (b"GET / HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 404),
    "length and chunked": (post(b"0\r\n\r\n", extra=b"transfer-encoding: chunked\r\n"), 400),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (post(b"ab", extra=b"content-length: 3\r\n"), 400),
    "negative length": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
    "signed length": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +2\r\n\r\nab", 400),
    "bad chunk": (post(b"zz\r\nab\r\n0\r\n\r\n", extra=b"transfer-encoding: chunked\r\n", length=False), 400),
    "long header": (get("/", b"a: " + b"x" * 3_000 + b"\r\n"), 431),
    "long target": (get("/" + "x" * 3_000), 431),
    "many headers": (get("/", b"".join(b"a%d: b\r\n" % n for n in range(25))), 431),
    "headers without end": (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"y" * 5_000, 431),
    "long body": (post(b"x" * 60_001), 413),
    "long announced body": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", 413),
    "long chunked body": (
        post(b"%x\r\n%b\r\n" % (60_001, b"x" * 60_001), extra=b"transfer-encoding: chunked\r\n", length=False),
        413,
    ),
    "no such page": (get("/nope"), 404),
    "no such model": (post(one(), "/v1/models/other:predict"), 404),
    "no such model to read": (get("/v1/models/other"), 404),
    "get of predict": (get(PREDICT), 405),
    "post of health": (post(b"", "/v2/health/ready"), 405),
    "delete of a model": (get("/v1/models/fraud", method="DELETE"), 405),
    "form": (post(b"a=b", extra=b"content-type: application/x-www-form-urlencoded\r\n"), 415),
    "compressed in a way nobody reads": (post(one(), extra=b"content-encoding: br\r\n"), 415),
    "not compressed as it says": (post(one(), extra=b"content-encoding: gzip\r\n"), 400),
    "torn gzip": (post(gzip.compress(one())[:-4], extra=b"content-encoding: gzip\r\n"), 400),
    "gzip and more": (post(gzip.compress(one()) + b"x", extra=b"content-encoding: gzip\r\n"), 400),
    "a bomb": (post(gzip.compress(b" " * 10_000_000), extra=b"content-encoding: gzip\r\n"), 413),
    "priority": (post(one(), extra=b"x-interlock-priority: vip\r\n"), 400),
    "timeout": (post(one(), extra=b"x-interlock-timeout-ms: soon\r\n"), 400),
    "empty body": (post(b""), 400),
    "no json": (post(b"{"), 400),
    "no utf-8": (post(b'{"instances": "\xff"}'), 400),
    "lone surrogate": (post(one().replace(b'"t1"', rb'"\ud800"')), 400),
    "an array": (post(b"[]"), 400),
    "no instances": (post(b"{}"), 400),
    "another key": (post(b'{"instances": [], "extra": 1}'), 400),
    "empty instances": (post(instances()), 400),
    "too many instances": (post(instances(*(transaction(f"t{n}", n) for n in range(65)))), 400),
    "deep nesting": (post(b"[" * 20_000), 400),
}


@pytest.fixture(scope="module")
def malformed() -> dict[str, Reply]:
    return dict(zip(MALFORMED, replies(*(request for request, _ in MALFORMED.values())), strict=True))


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_gets_its_status_and_the_error_object(malformed: dict[str, Reply], name: str) -> None:
    reply = malformed[name]
    assert reply.status == MALFORMED[name][1]
    assert reply.error
    assert reply.headers["content-type"] == "application/json"
    assert (reply.status == 405) == ("allow" in reply.headers)


BAD_FIELDS: dict[str, dict[str, Any]] = {
    "unknown field": {"colour": "red-herring"},
    "card code": {"cvv": "987"},
    "card code under another name": {"CVV2": "987"},
    "track": {"track1": "red-herring"},
    "card number in a device": {"device_id": "x " + card(77)},
    "card number with dashes in a terminal": {"terminal_id": "4111-1111-1111-1111"},
    "card number in the transaction id": {"transaction_id": card(77)},
    "card number as amount": {"amount": int(card(77))},
    "card number as a field": {card(77): 1},
    "a value as a field": {"red-herring and more": 1},
    "no card number": {"pan": "4111111111111112"},
    "a short card number": {"pan": "red-herring!"},
    "no pan": {"pan": None},
    "wrong currency": {"currency": "ZZZ"},
    "lower-case currency": {"currency": "eur"},
    "negative amount": {"amount": -98_765},
    "fraction": {"amount": 98.765},
    "amount as text": {"amount": "98765"},
    "long id": {"transaction_id": "z" * 65},
    "id with a newline": {"transaction_id": "red-herring\n"},
    "empty device": {"device_id": ""},
    "long device": {"device_id": "z" * 65},
    "mcc of letters": {"mcc": "qqqq"},
    "mcc in other digits": {"mcc": "٥٤١١"},
    "country": {"country": "nl"},
    "time without a zone": {"event_time": "2026-11-24T09:00:00"},
    "time": {"event_time": "red-herring"},
    "a list": {"ip": ["red-herring"]},
}


@pytest.fixture(scope="module")
def bad_fields() -> dict[str, Reply]:
    return dict(zip(BAD_FIELDS, replies(*(post(one(**changed)) for changed in BAD_FIELDS.values())), strict=True))


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_a_bad_field_is_named_and_its_value_is_never_repeated(bad_fields: dict[str, Reply], name: str) -> None:
    reply = bad_fields[name]
    assert reply.status == 400
    text = reply.error
    for field, value in BAD_FIELDS[name].items():
        if value not in (None, "", 1):
            assert str(value).strip("[]'") not in text
        assert field in text or field.lower().startswith(("cvv", "track")) or not field.isidentifier()
    assert card(77) not in text
    assert "red-herring" not in text


def test_nothing_of_a_refused_request_is_recorded() -> None:
    async def work() -> OneWorker:
        worker = await OneWorker(**LIMITS).warm()
        worker.route(real_model("1.0.0"))
        async with door(doors(worker, worker.options), worker.options) as (_, connect):
            peer = await connect()
            peer.send(post(instances(transaction("good", 1), {**transaction("bad", 1), "currency": "USD"})))
            assert (await peer.reply()).status == 400
            assert worker.recorder.records == []
            peer.send(post(instances(transaction("good", 1), transaction("other", 1))))
            assert (await peer.reply()).status == 200
        return worker

    worker = uvloop.run(work())
    assert [each.attempt for each in worker.recorder.records] == [1, 1]
    assert card(1) not in repr(worker.recorder.records)


def test_a_full_batch_is_answered_in_the_order_of_its_instances() -> None:
    (reply,) = replies(post(instances(*(transaction(f"t{n}", n) for n in range(64)))))
    assert reply.status == 200
    found = json.loads(reply.body)["predictions"]
    assert [each["transaction_id"] for each in found] == [f"t{n}" for n in range(64)]
    assert {(each["model_version"], each["degraded"]) for each in found} == {("1.0.0", False)}
