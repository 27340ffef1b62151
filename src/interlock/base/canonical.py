"""Canonical bytes and digests: everything hashed or signed goes through here.

JSON is RFC 8785; a digest is `sha256:` and 64 lower-case hex digits, so its name says how it
was made.
"""

from __future__ import annotations

import hashlib
from typing import Any

import rfc8785

from interlock.base.errors import UsageError

_PREFIX = "sha256:"


def canonical(value: Any) -> bytes:
    """`value` as RFC 8785 JSON.

    Raises:
        UsageError: the value has no canonical form (NaN, an integer beyond 2^53, a non-string key).
    """
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise UsageError(
            f"no canonical JSON for this value: {type(error).__name__}", "use strings, safe integers and finite floats"
        ) from error


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(data: bytes) -> str:
    """SHA-256 of `data` as `sha256:<hex>`."""
    return _PREFIX + sha256_hex(data)


def digest_hex(digest: str) -> str:
    """The 64 hex digits of a `sha256:` digest.

    Raises:
        UsageError: it is not one.
    """
    body = digest.removeprefix(_PREFIX)
    if not digest.startswith(_PREFIX) or len(body) != 64 or any(c not in "0123456789abcdef" for c in body):
        raise UsageError("not a sha256 digest", "write sha256: and 64 lower-case hex digits")
    return body
