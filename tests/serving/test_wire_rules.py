"""The quick check of a transaction and the rules that its types state accept the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import UsageError
from interlock.serving.wire import v1

GOOD: dict[str, Any] = {
    "transaction_id": "tx-1",
    "pan": "4111111111111111",
    "amount": 1_000,
    "currency": "EUR",
    "terminal_id": "t1",
    "device_id": "d1",
    "ip": "10.0.0.1",
    "mcc": "5411",
    "country": "NL",
    "event_time": "2026-11-24T09:00:00Z",
}
TEXT = st.one_of(
    st.text(max_size=70),
    st.sampled_from(
        ["", "-", "\n", "tx\n1", "EUR\n", "5411", "54１1", "NL", "nl", "2026-11-24T09:00:00.5+01:00", "a" * 64]
    ),
)


def stated(fields: dict[str, Any]) -> bool:
    """What the types say."""
    try:
        msgspec.convert(fields, v1.Stated)
    except msgspec.ValidationError:
        return False
    return True


@given(st.sampled_from(sorted(GOOD)), st.one_of(TEXT, st.none(), st.integers(-(10**13), 10**13)))
def test_both_accept_the_same(name: str, value: Any) -> None:
    fields = GOOD | {name: value}
    try:
        sent = msgspec.convert(fields, v1.Transaction)
    except msgspec.ValidationError:
        assert not stated(fields)
        return
    assert v1.well_formed(sent) == stated(fields)


@given(st.fixed_dictionaries({name: TEXT for name in GOOD if name != "amount"}))
def test_no_field_borrows_from_its_neighbour(fields: dict[str, Any]) -> None:
    whole = fields | {"amount": 1}
    assert v1.well_formed(msgspec.convert(whole, v1.Transaction)) == stated(whole)


@pytest.mark.parametrize("name", ["transaction_id", "currency", "mcc", "country", "event_time", "terminal_id"])
def test_the_message_names_the_field(name: str) -> None:
    body = msgspec.json.encode({"instances": [GOOD, GOOD | {name: "x" * 65 if name == "terminal_id" else "?"}]})
    with pytest.raises(UsageError, match=rf"\[1\]\.{name}|instances\[\.\.\.\]\.{name}"):
        v1.decode(body, ("EUR",), 4)
