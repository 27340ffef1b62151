"""Tokens: what stands for a card number, and for any other entity, inside Interlock.

A token is the first 16 bytes of HMAC-SHA256 under the installation's token key, over the
entity's kind, a zero byte and its value in Unicode NFC; 32 lower-case hex digits. Equal values
of one kind have equal tokens, offline and online; without the key nothing can be tried against
them. A card is its digits alone, however they were separated.
"""

from __future__ import annotations

import unicodedata

from interlock.base.errors import UsageError
from interlock.base.keyed import keyed
from interlock.privacy import pan

KEY_BYTES = 32
TOKEN_BYTES = 16


class Tokeniser:
    """Makes tokens under one key.

    Args:
        key: 32 bytes, the same for snapshots and for the scorer.

    Raises:
        UsageError: the key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise UsageError("a token key of another length", f"use {KEY_BYTES} random bytes")
        self._digest = keyed(key)

    def card(self, text: str) -> str:
        """The token of a declared card number.

        Raises:
            UsageError: it is not a card number (see `pan.parse`).
        """
        return self.entity("card", pan.parse(text))

    def entity(self, kind: str, value: str) -> str:
        """The token of any entity: `kind` keeps equal values of different kinds apart."""
        if not value.isascii():
            value = unicodedata.normalize("NFC", value)
        return self._digest(f"{kind}\0{value}".encode())[:TOKEN_BYTES].hex()

    def __repr__(self) -> str:
        return "Tokeniser(key withheld)"
