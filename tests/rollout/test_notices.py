"""What is told of a rollout, and how it is signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollout.standing import rollout

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError
from interlock.rollout import journal, notices
from interlock.rollout.notices import DELIVERED, FAILED, MARKS
from interlock.rollout.states import State
from interlock.trust.event import TYPES, Event, NewEvent, stored

KEY = b"k" * 32


def marked(kind: str, body: Mapping[str, Any], event_id: int = 7) -> Event:
    event = NewEvent(
        time_ns=1_790_000_000 * NS_PER_S,
        type=kind,
        actor="controller",
        origin="controller",
        object="service/fraud",
        outcome="success",
        body=dict(body),
    )
    return stored(event, event_id)


def test_the_signature_is_that_of_the_specification() -> None:
    """The test vector of the reference implementations of Standard Webhooks."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = notices.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', key)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_secrets_rotate_both_sign() -> None:
    found = notices.headers("msg_1", 5, b"{}", (KEY, b"o" * 32))
    assert found["webhook-signature"].split(" ") == [
        notices.signature("msg_1", 5, b"{}", KEY),
        notices.signature("msg_1", 5, b"{}", b"o" * 32),
    ]
    assert (found["webhook-id"], found["webhook-timestamp"]) == ("msg_1", "5")


def test_what_is_told_of_a_settled_rollout() -> None:
    summary = journal.plain(journal.summary(rollout("v2", State.SETTLED, reason="")))
    assert json.loads(notices.body(marked("rollout.settled", summary))) == {
        "schema": 1,
        "type": "rollout.settled",
        "timestamp": "2026-09-21T14:13:20.000000Z",
        "data": {
            "event": 7,
            "service": "fraud",
            "version": "v2",
            "rollout": "fraud-v2",
            "state": "settled",
            "reason": None,
            "caught_in": None,
            "commit": rollout("v2", State.SETTLED).commit,
            "actor": "controller",
            "evidence": "interlock rollout show fraud-v2",
        },
    }


def test_a_start_is_told_from_the_journal_and_a_refused_branch_without_a_rollout() -> None:
    started = journal.entry("controller", rollout("v2", State.PROPOSED), None, 5)
    told = json.loads(notices.body(stored(started, 1)))["data"]
    assert (told["rollout"], told["version"], told["state"]) == ("fraud-v2", "v2", "proposed")
    refused = marked("release.refused", {"service": "*", "version": None, "commit": "", "reason": "rewritten"})
    told = json.loads(notices.body(refused))["data"]
    assert (told["service"], told["state"], told["evidence"]) == ("*", "refused", "interlock rollout list")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=30),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(MARKS)),
    st.dictionaries(st.sampled_from(["rollout", "service", "version", "reason", "state", "commit"]), JSON),
)
def test_no_body_of_an_event_keeps_a_notice_from_being_made(kind: str, body: dict[str, Any]) -> None:
    event = msgspec.structs.replace(marked("rollout.held", {}), type=kind, body=body)
    assert json.loads(notices.body(event))["type"] == kind


def test_a_card_number_in_a_reason_is_withheld() -> None:
    told = notices.body(marked("rollout.held", {"reason": "seen 4111111111111111 twice", "service": "fraud"}))
    assert b"4111" not in told
    assert b"withheld" in told


def test_every_mark_is_an_event_type_and_no_notice_is_told_of_a_notice() -> None:
    assert set(MARKS) <= set(TYPES) - {DELIVERED, FAILED}


def test_the_id_is_that_of_the_content_not_of_the_row() -> None:
    one, moved = marked("rollout.held", {"a": 1}), marked("rollout.held", {"a": 1}, event_id=99)
    assert notices.message_id(one) == notices.message_id(moved)
    assert notices.message_id(one) != notices.message_id(marked("rollout.held", {"a": 2}))


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/x",
        "http://10.0.0.1/x",
        "ftp://hooks.example.org",
        "https://user:pw@hooks.example.org/",
        "https://:pw@hooks.example.org/",
        "https://hooks.example.org/#a",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org/\n",
        "https://hoöks.example.org/",
        "hooks",
        "",
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        notices.endpoint(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:1/", "https://10.1.2.3/x"])
def test_this_machine_may_be_told_in_clear_and_a_private_address_by_https(url: str) -> None:
    assert notices.endpoint(url).url == url


@pytest.mark.parametrize(
    "data", [b"", b"whsec_", b"abc", b"whsec_!!!!", b"whsec_" + base64.b64encode(b"short"), b"\xff"], ids=repr
)
def test_a_secret_of_another_form_is_refused_and_not_shown(data: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        notices.secrets(data)
    assert not data or data.decode("latin-1") not in str(caught.value) or data == b"whsec_"


def test_a_written_secret_is_read_again() -> None:
    assert notices.secrets(notices.write_secret(KEY) + b"\n" + notices.write_secret(b"o" * 24)) == (KEY, b"o" * 24)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_double_up_to_the_longest_and_are_spread(attempts: int, chance: float) -> None:
    pause = notices.pause_s(attempts, chance, 2.0, 600.0)
    whole = min(600.0, 2.0 ** min(attempts, 60))
    assert whole / 2 <= pause <= whole


def test_an_unknown_type_in_the_settings_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        notices.selected(["rollout.done"])
    assert "rollout.settled" in caught.value.remedy
    assert notices.selected([]) == tuple(MARKS)
