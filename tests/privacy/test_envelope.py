from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.ids import SeededIds
from interlock.privacy.envelope import unwrap, wrap

KEK = bytes(range(32))
KEY = b"k" * 32


@given(st.binary(min_size=1, max_size=64), st.text(max_size=20), st.integers())
def test_a_key_comes_back_under_the_same_kek_and_purpose(key: bytes, purpose: str, seed: int) -> None:
    document = wrap(key, KEK, purpose, SeededIds(seed))
    assert unwrap(document, KEK, purpose) == key
    assert canonical(json.loads(document)) == document


def test_the_key_does_not_stand_in_the_document() -> None:
    document = wrap(KEY, KEK, "token", SeededIds(1))
    assert KEY not in document
    assert KEK.hex().encode() not in document


def test_another_purpose_or_kek_is_refused() -> None:
    document = wrap(KEY, KEK, "token", SeededIds(1))
    with pytest.raises(IntegrityError, match="purpose"):
        unwrap(document, KEK, "segments")
    with pytest.raises(IntegrityError, match="kek"):
        unwrap(document, KEK[::-1], "token")


@given(st.sampled_from(["nonce", "sealed", "schema", "purpose", "algorithm", "kek"]), st.data())
def test_any_change_is_refused(name: str, data: st.DataObject) -> None:
    found = json.loads(wrap(KEY, KEK, "token", SeededIds(1)))
    found[name] = data.draw(st.one_of(st.none(), st.integers(), st.text()).filter(lambda value: value != found[name]))
    with pytest.raises(IntegrityError):
        unwrap(json.dumps(found).encode(), KEK, "token")


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_refused(place: int, bit: int) -> None:
    document = bytearray(wrap(KEY, KEK, "token", SeededIds(1)))
    document[place % len(document)] ^= 1 << bit
    try:
        assert unwrap(bytes(document), KEK, "token") == KEY
        assert json.loads(document) == json.loads(wrap(KEY, KEK, "token", SeededIds(1)))  # the same JSON otherwise
    except IntegrityError:
        pass


@pytest.mark.parametrize("document", [b"", b"[]", b"null", b"{}", b"\xff", b'{"nonce": 1, "sealed": "x"}'])
def test_what_is_no_document_is_refused(document: bytes) -> None:
    with pytest.raises(IntegrityError, match="not a wrapped key"):
        unwrap(document, KEK, "token")


def test_a_short_kek_is_refused() -> None:
    with pytest.raises(UsageError):
        wrap(KEY, b"short", "token", SeededIds(1))
    with pytest.raises(UsageError):
        wrap(b"", KEK, "token", SeededIds(1))
