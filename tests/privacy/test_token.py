from __future__ import annotations

import hashlib
import hmac

import pytest

from interlock.base.errors import UsageError
from interlock.privacy.token import Tokeniser

KEY = bytes(range(32))


def test_a_token_is_half_an_hmac_over_kind_and_value() -> None:
    wanted = hmac.new(KEY, b"terminal\0T-1", hashlib.sha256).digest()[:16].hex()
    assert Tokeniser(KEY).entity("terminal", "T-1") == wanted


def test_a_card_is_its_digits_however_separated() -> None:
    tokens = Tokeniser(KEY)
    assert tokens.card("4111 1111-1111 1111") == tokens.card("4111111111111111")
    assert tokens.card("4111111111111111") == tokens.entity("card", "4111111111111111")


def test_equal_values_of_different_kinds_are_apart() -> None:
    tokens = Tokeniser(KEY)
    assert tokens.entity("device", "x") != tokens.entity("terminal", "x")


def test_unicode_spellings_of_one_value_share_a_token() -> None:
    tokens = Tokeniser(KEY)
    assert tokens.entity("device", "caf\u00e9") == tokens.entity("device", "cafe\u0301")


def test_another_key_gives_other_tokens() -> None:
    assert Tokeniser(KEY).entity("ip", "::1") != Tokeniser(KEY[::-1]).entity("ip", "::1")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(UsageError, match="length"):
        Tokeniser(b"short")


def test_the_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(Tokeniser(KEY))
