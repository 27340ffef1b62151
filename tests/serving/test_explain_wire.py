"""The body of an explain request: ids of decisions, or instances as in predict."""

from __future__ import annotations

import json
from typing import Any

import pytest

from interlock.base.errors import UsageError
from interlock.decision import admin
from interlock.decision import explain as messages
from interlock.decision.explain import Explain, Explained
from interlock.serving.wire.explain import Asked, decode

ID = "01a0c450-8758-7f5b-a522-4a58b791f1d8"
TRANSACTION = {
    "transaction_id": "t-1",
    "pan": "4111111111111111",
    "amount": 100,
    "currency": "EUR",
    "terminal_id": "a",
    "device_id": "b",
    "ip": "10.0.0.1",
}


def asked(body: Any, most: int = 4) -> Asked:
    return decode(json.dumps(body).encode(), ("EUR",), most)


def test_decision_ids_and_instances_are_understood() -> None:
    assert asked({"decision_ids": [ID, ID]}) == Asked(decisions=(ID, ID))
    assert asked({"instances": [TRANSACTION]}) == Asked(transactions=("t-1",))


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"decision_ids": []},
        {"decision_ids": [ID] * 5},
        {"decision_ids": ["4111111111111111"]},
        {"decision_ids": [ID + "\n"]},
        {"decision_ids": [ID.upper()]},
        {"decision_ids": ID},
        {"decision_ids": None},
        {"decision_ids": [ID], "instances": [TRANSACTION]},
        {"instances": [TRANSACTION | {"currency": "USD"}]},
        {"instances": [{"transaction_id": "t-1"}]},
        {"instances": [TRANSACTION] * 5},
    ],
)
def test_anything_else_is_refused_and_not_repeated(body: Any) -> None:
    with pytest.raises(UsageError) as caught:
        asked(body)
    assert "4111111111111111" not in str(caught.value)


def test_bytes_that_are_no_json_are_refused() -> None:
    for body in (b"", b"\xff", b'{"decision_ids": ["\xff"]}', b"{"):
        with pytest.raises(UsageError):
            decode(body, ("EUR",), 4)


def question(**changes: Any) -> bytes:
    fields = {"service": "fraud", "actor": "ana", "roles": ["explain"], "decisions": [ID]} | changes
    return messages.frame(Explain(**fields))[4:]


def test_messages_survive_their_frames() -> None:
    given = Explain(service="fraud", actor="ana", roles=["explain"], transactions=["t-1"], trace_id="ab")
    (body,) = admin.Frames(messages.MAX_REQUEST).feed(messages.frame(given))
    assert messages.request(body) == given
    for reply in (Explained(b"{}"), admin.Failed("usage", "no", "do")):
        assert messages.reply(messages.frame(reply)[4:]) == reply


@pytest.mark.parametrize(
    "changes",
    [
        {"decisions": ["4111111111111111"]},
        {"decisions": [ID] * 257},
        {"decisions": []},
        {"transactions": ["with space"]},
        {"service": "../fraud"},
        {"actor": ""},
        {"actor": "a\nb"},
        {"roles": ["r"] * 65},
    ],
)
def test_a_malformed_question_is_refused_and_not_repeated(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        messages.request(question(**changes))
    assert "4111111111111111" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(UsageError):
        admin.Frames(messages.MAX_REQUEST).feed((messages.MAX_REQUEST + 1).to_bytes(4, "little"))
