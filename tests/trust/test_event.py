"""Events: a closed list of types, and one canonical form that the log holds for ever."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, UsageError
from interlock.trust.event import TYPES, NewEvent, entry_bytes, parse_entry, stored

GIVEN: dict[str, Any] = {
    "time_ns": 1_790_000_000_123_456_789,
    "type": "release.refused",
    "actor": "controller",
    "origin": "host:1",
    "object": "service/fraud",
    "outcome": "refused",
    "body": {"reason": "nobody approved as risk", "at_ns": "1790000000123456789"},
}


def test_types_are_nouns_and_what_happened_each_listed_once() -> None:
    assert len(set(TYPES)) == len(TYPES)
    assert all(re.fullmatch(r"[a-z_]+(\.[a-z_]+){1,2}", kind) for kind in TYPES)


def test_an_entry_is_the_golden_bytes() -> None:
    assert entry_bytes(stored(NewEvent(**GIVEN), 7, 6)) == (
        b'{"actor":"controller","body":{"at_ns":"1790000000123456789","reason":"nobody approved as risk"},'
        b'"id":7,"object":"service/fraud","origin":"host:1","outcome":"refused","schema":1,'
        b'"time_ns":"1790000000123456789","type":"release.refused"}'
    )


WORDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
BODIES = st.dictionaries(WORDS, st.none() | st.booleans() | WORDS | st.integers(-(2**53) + 1, 2**53 - 1), max_size=5)


@given(st.integers(0, 2**63 - 1), st.sampled_from(TYPES), WORDS, BODIES, st.integers(1, 2**53 - 1))
def test_an_event_comes_back_from_its_entry(now: int, kind: str, word: str, body: dict[str, Any], number: int) -> None:
    event = stored(
        NewEvent(time_ns=now, type=kind, actor=word, origin=word, object=word, outcome=word, body=body), number, 3
    )
    assert parse_entry(entry_bytes(event), 3) == event
    assert msgspec.json.decode(msgspec.json.encode(event), type=type(event)) == event


@pytest.mark.parametrize(
    "change",
    [
        {"type": "release.maybe"},
        {"type": ""},
        {"actor": ""},
        {"origin": ""},
        {"object": "two\nlines"},
        {"outcome": "x" * 513},
        {"time_ns": -1},
        {"time_ns": 2**63},
        {"body": {"at_ns": 2**60}},
        {"body": {"rate": float("nan")}},
        {"body": {1: "a number is no name"}},
        {"body": {"evidence": "x" * 65_535}},
    ],
    ids=str,
)
def test_an_event_is_refused_with(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NewEvent(**GIVEN | change)


@pytest.mark.parametrize("name", ["actor", "origin", "object", "outcome", "type", "time_ns"])
def test_an_event_from_outside_without_who_what_when_or_whence_is_refused(name: str) -> None:
    given = {key: value for key, value in GIVEN.items() if key != name}
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(given, NewEvent)
    with pytest.raises(msgspec.ValidationError, match="log_index"):
        msgspec.convert(GIVEN | {"log_index": 1}, NewEvent)


def test_only_the_canonical_entry_of_this_schema_is_read() -> None:
    entry = entry_bytes(stored(NewEvent(**GIVEN), 7))
    document = json.loads(entry)
    others = [
        json.dumps(document).encode(),
        canonical(document | {"schema": 2}),
        canonical(document | {"id": 0}),
        canonical(document | {"id": True}),
        canonical(document | {"id": "7"}),
        canonical(document | {"time_ns": 1}),
        canonical(document | {"time_ns": "01"}),
        canonical(document | {"type": "release.maybe"}),
        canonical(document | {"more": 1}),
        canonical({key: value for key, value in document.items() if key != "actor"}),
        b"[]",
        b"",
        b"\xff",
    ]
    for other in others:
        with pytest.raises(IntegrityError):
            parse_entry(other)
