"""KServe protocol V1 as a real scorer speaks it: two workers, one store."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from tests.protocol.wire import Wire, get, new_id, post
from tests.scoring import PREDICT, Scorer, body_of, card, transaction

pytestmark = pytest.mark.process

# --- predictions ------------------------------------------------------------------------------------


def test_a_prediction_has_the_fixed_fields_and_no_others(running: Scorer) -> None:
    name = new_id()
    found = running.answer(transaction(name))
    assert set(found) == {
        "transaction_id", "decision_id", "score", "decision", "reasons", "model_version", "degraded"
    }  # fmt: skip
    assert found["transaction_id"] == name
    assert uuid.UUID(found["decision_id"]).version == 7
    assert 0.0 <= found["score"] <= 1.0
    assert found["decision"] in ("APPROVE", "STEP_UP", "REVIEW", "DECLINE")
    assert (found["model_version"], found["degraded"], found["reasons"]) == ("1.0.0", False, [])


def test_instances_are_answered_in_their_order(running: Scorer) -> None:
    names = [new_id() for _ in range(4)]
    status, body = running.predict(*(transaction(name, number) for number, name in enumerate(names)))
    assert status == 200
    assert [each["transaction_id"] for each in json.loads(body)["predictions"]] == names


def test_a_duplicate_gets_the_same_bytes_from_whichever_worker(running: Scorer) -> None:
    given = transaction(new_id())
    replies = {running.predict(given) for _ in range(12)}
    assert len(replies) == 1
    assert next(iter(replies))[0] == 200
    assert len([record for record in running.records() if record.transaction_id == given["transaction_id"]]) == 1


def test_a_duplicate_within_one_request_is_answered_twice_and_decided_once(running: Scorer) -> None:
    given = transaction(new_id())
    status, body = running.predict(given, given)
    first, second = json.loads(body)["predictions"]
    assert status == 200
    assert first == second


def test_a_decision_is_on_the_disk_before_its_reply_and_holds_tokens_alone(running: Scorer) -> None:
    name = new_id()
    spaced = f"{card(77)[:4]} {card(77)[4:8]} {card(77)[8:]}"
    found = running.answer(transaction(name, 77, pan=spaced, device_id="handset-of-a-customer"))
    (record,) = [each for each in running.records() if each.transaction_id == name]
    assert (record.decision_id, record.score, record.decision) == (
        found["decision_id"], found["score"], found["decision"]
    )  # fmt: skip
    assert all(re.fullmatch("[0-9a-f]{32}", str(record.inputs[kind])) for kind in ("card", "terminal", "device", "ip"))
    assert len(record.applied) == 4
    assert record.clock == (None, 1.0)
    everything = b"".join(path.read_bytes() for path in running.settings.places.segments.iterdir() if path.is_file())
    for raw in (card(77), spaced, "handset-of-a-customer"):
        assert raw.encode() not in everything


def test_the_trace_id_of_the_caller_is_recorded(running: Scorer) -> None:
    name, trace = new_id(), "4bf92f3577b34da6a3ce929d0e0e4736"
    with Wire(running) as wire:
        wire.send(post(body_of(transaction(name)), f"traceparent: 00-{trace}-00f067aa0ba902b7-01"))
        assert wire.response()[0] == 200
    (record,) = [each for each in running.records() if each.transaction_id == name]
    assert record.trace_id == trace


# --- bad input --------------------------------------------------------------------------------------

OTHER_CARD = card(424242)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown field": ({"colour": "blue"}, "unknown field colour"),
    "a field missing": ({"pan": None}, "missing required field `pan`"),
    "another type": ({"amount": "12"}, "Expected `int`"),
    "a fraction": ({"amount": 12.5}, "Expected `int`"),
    "below zero": ({"amount": -1}, ">= 0"),
    "too much": ({"amount": 10**11}, "<="),
    "no such currency here": ({"currency": "USD"}, "this service takes EUR"),
    "no currency": ({"currency": "euro"}, "currency"),
    "a long id": ({"transaction_id": "x" * 65}, "transaction_id"),
    "an id with a space": ({"transaction_id": "a b"}, "transaction_id"),
    "an id that ends in a new line": ({"transaction_id": "a\n"}, "transaction_id"),
    "a code in other digits": ({"mcc": "٥٤١١"}, "mcc"),
    "an empty terminal": ({"terminal_id": ""}, "terminal_id"),
    "a wrong country": ({"country": "Netherlands"}, "country"),
    "a wrong time": ({"event_time": "yesterday"}, "event_time"),
    "a wrong check digit": ({"pan": "4111111111111112"}, "check digit"),
    "no card number": ({"pan": "not a number at all"}, "pan is not a card number"),
    "a card number as id": ({"transaction_id": OTHER_CARD}, "transaction_id holds a card number"),
    "a card number as terminal": ({"terminal_id": f"shop {OTHER_CARD}"}, "terminal_id holds a card number"),
    "a card number as device": ({"device_id": OTHER_CARD}, "device_id holds a card number"),
    "a card number as ip": ({"ip": OTHER_CARD}, "ip holds a card number"),
    "a card number as a field's name": ({OTHER_CARD: 1}, "unknown field with another name"),
    "a card number within a field's name": ({f"i{OTHER_CARD}n": 1}, "unknown field with another name"),
    "a card's code": ({"cvv": "123"}, "sensitive authentication data is never accepted"),
    "a card's code, spelt otherwise": ({"Card-CVC2": "123"}, "sensitive authentication data"),
    "a track": ({"track2": "x"}, "sensitive authentication data"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_protocols_error_and_echoes_nothing(running: Scorer, case: str) -> None:
    changes, message = BAD[case]
    name = new_id()
    status, body = running.predict(transaction(**({"name": name, "number": 3} | changes)))
    assert status == 400
    found = json.loads(body)
    assert set(found) == {"error"}
    assert message in found["error"]
    for secret in (OTHER_CARD, card(3), "4111111111111112", "yesterday", "Netherlands", "blue"):
        assert secret not in found["error"]
    assert OTHER_CARD not in running.log()
    assert not [each for each in running.records() if each.transaction_id in (name, changes.get("transaction_id"))]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "instances"),
        (b'{"instances": 3}', "Expected `array`"),
        (b'{"instances": []}', "send 1 to 4"),
        (body_of(*(transaction(f"many-{number}") for number in range(5))), "send 1 to 4"),
        (b'{"instances": [], "parameters": {}}', "unknown field parameters"),
    ],
    ids=["empty", "half", "no utf-8", "a list", "no instances", "a number", "none", "too many", "another field"],
)
def test_a_malformed_body_is_refused(running: Scorer, body: bytes, message: str) -> None:
    with Wire(running) as wire:
        wire.send(post(body))
        status, headers, data = wire.response()
        assert (status, headers["content-type"]) == (400, "application/json")
        assert message in json.loads(data)["error"]
        wire.send(get("/v2/health/live"))
        assert wire.response()[0] == 200, "a refused request does not end the connection"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"{}", path="/v1/models/other:predict"), 404),
        (get("/nowhere"), 404),
        (get(PREDICT), 405),
        (get("/v2/health/live", "DELETE"), 405),
        (post(b"{}", "Content-Type: text/plain"), 415),
        (post(b"{}", "Content-Encoding: br"), 415),
    ],
    ids=["unknown model", "unknown page", "predict by GET", "health by DELETE", "text", "compressed"],
)
def test_what_is_not_served_is_said_with_its_status(running: Scorer, request_bytes: bytes, status: int) -> None:
    with Wire(running) as wire:
        wire.send(request_bytes)
        found, _, body = wire.response()
        assert found == status
        assert "error" in json.loads(body)


# --- health, models, metrics ------------------------------------------------------------------------


def test_health_and_models(running: Scorer) -> None:
    assert running.get("/v2/health/live") == (200, b'{"live":true}')
    assert running.get("/v2/health/ready") == (200, b'{"ready":true}')
    assert json.loads(running.get("/v1/models")[1]) == {"models": ["fraud"]}
    assert json.loads(running.get("/v1/models/fraud")[1]) == {"name": "fraud", "ready": True}
    assert running.get("/v1/models/other")[0] == 404


def metric(text: str, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.M)
    return float(found.group(1)) if found else 0.0


def test_metrics_are_complete_whichever_worker_answers(running: Scorer) -> None:
    line = 'fraud_prediction_requests_total{service="fraud",model_version="1.0.0",arm="champion"}'

    def total() -> float:
        return metric(running.get("/metrics")[1].decode(), line)

    before = total()
    for _ in range(20):
        running.answer(transaction(new_id()))
    running.until(lambda: total() >= before + 20, "all twenty are counted")
    assert {total() for _ in range(6)} == {before + 20}
    text = running.get("/metrics")[1].decode()
    assert 'fraud_flagged_total{service="fraud",model_version="1.0.0"' in text
    count = metric(text, 'fraud_prediction_latency_seconds_count{service="fraud",model_version="1.0.0"}')
    assert count >= 20
    top = 'fraud_prediction_latency_seconds_bucket{service="fraud",model_version="1.0.0",le="+Inf"}'
    assert metric(text, top) == count
