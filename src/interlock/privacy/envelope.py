"""Envelope encryption: a data key at rest only under a key-encryption key (KEK).

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. The header (schema, algorithm, purpose,
KEK id) is authenticated, so that a wrapped key cannot be passed off as one for another purpose.
Rotating the KEK is `unwrap` under the old one and `wrap` under the new one; the data key stays.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from interlock.base.canonical import canonical, sha256_hex
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.ids import Ids

KEY_BYTES = 32
_NONCE_BYTES = 12
_SCHEMA = 1
_ALGORITHM = "AES-256-GCM"
_RESTORE = "restore the wrapped key and its key-encryption key from the same backup"


def kek_id(kek: bytes) -> str:
    """A name for a KEK that tells nothing about it: 16 hex digits of its SHA-256."""
    return sha256_hex(kek)[:16]


def wrap(data_key: bytes, kek: bytes, purpose: str, ids: Ids) -> bytes:
    """`data_key` as versioned canonical JSON that only `kek` opens.

    Args:
        data_key: any non-empty bytes.
        kek: 32 bytes.
        purpose: what the key is for; authenticated, asked for again by `unwrap`.
        ids: source of the nonce, which MUST never repeat under one KEK.

    Raises:
        UsageError: a key of the wrong length.
    """
    if not data_key:
        raise UsageError("an empty data key", "hand in the key's bytes")
    nonce = ids.random(_NONCE_BYTES)
    header = _header(kek, purpose)
    sealed = _cipher(kek).encrypt(nonce, data_key, canonical(header))
    return canonical({**header, "nonce": _text(nonce), "sealed": _text(sealed)})


def unwrap(document: bytes, kek: bytes, purpose: str) -> bytes:
    """The data key in a document of `wrap`.

    Raises:
        IntegrityError: not such a document, another KEK or purpose, or changed bytes.
        UsageError: a KEK of the wrong length.
    """
    try:
        found: dict[str, Any] = json.loads(document)
        nonce, sealed = (base64.b64decode(found.pop(name), validate=True) for name in ("nonce", "sealed"))
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise IntegrityError("not a wrapped key", _RESTORE) from error
    header = _header(kek, purpose)
    if found != header:
        differing = ", ".join(sorted(name for name in header if found.get(name) != header[name])) or "extra fields"
        raise IntegrityError(f"this wrapped key is another one (differs in: {differing})", _RESTORE)
    try:
        return _cipher(kek).decrypt(nonce, sealed, canonical(header))
    except (InvalidTag, ValueError) as error:
        raise IntegrityError("the wrapped key was changed", _RESTORE) from error


def _header(kek: bytes, purpose: str) -> dict[str, Any]:
    return {"algorithm": _ALGORITHM, "kek": kek_id(kek), "purpose": purpose, "schema": _SCHEMA}


def _cipher(kek: bytes) -> AESGCM:
    if len(kek) != KEY_BYTES:
        raise UsageError("a key-encryption key of another length", f"use {KEY_BYTES} random bytes")
    return AESGCM(kek)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
