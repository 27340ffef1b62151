"""An issuer's keys, kept in memory and renewed beside the traffic, never by it.

Contract. `find` answers from memory at once. `refresh` is called every second or so: it fetches on a
thread when the keys are `FRESH_S` old, or when a token named a key that is not there; never more
often than every `RETRY_S`, whatever tokens arrive. When the issuer is away, the keys of before go
on for `STALE_S`: longer than any token that they signed lives. Of a key set only what can verify
is taken: RSA (2,048 bits or more), P-256 and Ed25519 public keys meant for signatures. A symmetric key
is never taken, so that no token can be verified by something public.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from interlock.base.clock import NS_PER_S
from interlock.base.errors import InterlockError, RefusedError, UnreachableError

FRESH_S = 300
RETRY_S = 10
STALE_S = 86_400
MAX_KEYS = 64
MAX_RSA_BITS = 8_192
MIN_RSA_BITS = 2_048

Key = RSAKey | ECKey | OKPKey
Keys = Mapping[tuple[str, str], Key]
"""(kid, kind) to the key, the kind being RSA, P-256 or Ed25519; a kid that the set does not give is empty."""

KINDS = {"RS256": "RSA", "ES256": "P-256", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}
"""Every accepted algorithm and its kind of key; `Ed25519` is the name that RFC 9864 gives to `EdDSA`."""
_CLASSES: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "P-256": ECKey, "Ed25519": OKPKey}
_TYPES = {"RSA": "RSA", "P-256": "EC", "Ed25519": "OKP"}
_PUBLIC = ("kty", "crv", "x", "y", "n", "e")
_log = logging.getLogger(__name__)


class Jwks:
    """The keys of one issuer.

    Args:
        issuer: for messages.
        source: fetches the key set, blocking; raises UnreachableError or OSError.
    """

    def __init__(self, issuer: str, source: Callable[[], bytes]) -> None:
        self._issuer = issuer
        self._source = source
        self._keys: Keys = {}
        self._loaded_ns = 0
        self._tried_ns: int | None = None
        self._missed = False
        self._current = False
        self._away = False

    def find(self, kid: str, algorithm: str) -> Key:
        """The key of that name for that algorithm; without a name, the only one for it.

        Raises:
            UnreachableError: it may yet come: a refresh has been asked for.
            RefusedError: the issuer was asked just now and does not have it.
        """
        kind = KINDS[algorithm]
        key = self._keys.get((kid, kind))
        if key is None and not kid:
            fitting = [each for (_, its), each in self._keys.items() if its == kind]
            if len(fitting) > 1:
                raise RefusedError("the token does not say which key signed it", "send one with a kid")
            key = fitting[0] if fitting else None
        if key is not None:
            return key
        if self._current:
            raise RefusedError("the token was signed by a key that its issuer does not list", "sign in again")
        self._missed = True
        raise UnreachableError("the keys of the token's issuer are not known yet", "send it again in a moment")

    async def refresh(self, now_ns: int) -> bool:
        """Fetch if it is time to; whether the keys have changed.

        Args:
            now_ns: monotonic.
        """
        self._age(now_ns)
        if not self._due(now_ns):
            return False
        self._tried_ns = now_ns
        try:
            keys = parse(await asyncio.to_thread(self._source))
        except (InterlockError, OSError) as error:
            if not self._away:
                _log.warning("keys of %s cannot be renewed: %s", self._issuer, error)
            self._away = True
            return False
        changed = _names(keys) != _names(self._keys)
        self._keys, self._loaded_ns = keys, now_ns
        self._missed = self._away = False
        self._current = True
        return changed

    def _age(self, now_ns: int) -> None:
        since = now_ns if self._tried_ns is None else now_ns - self._tried_ns
        self._current = self._current and since < RETRY_S * NS_PER_S
        if self._keys and now_ns - self._loaded_ns >= STALE_S * NS_PER_S:
            _log.error("keys of %s are too old to be trusted", self._issuer)
            self._keys = {}

    def _due(self, now_ns: int) -> bool:
        if self._tried_ns is None:
            return True
        if now_ns - self._tried_ns < RETRY_S * NS_PER_S:
            return False
        return self._missed or not self._keys or now_ns - self._loaded_ns >= FRESH_S * NS_PER_S


def parse(data: bytes) -> Keys:
    """The usable keys of a JSON Web Key Set (RFC 7517 section 5: others are ignored).

    Raises:
        UnreachableError: it is none, or has no usable key.
    """
    try:
        given = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreachableError("the issuer's key set is none", "check its jwks_uri, or the jwksFile") from error
    found: dict[tuple[str, str], Key] = {}
    for each in given[:MAX_KEYS] if isinstance(given, list) else []:
        usable = _key(each)
        if usable is not None:
            # Two keys of one name and kind: which one signs is anybody's guess, so the first counts.
            found.setdefault(usable[0], usable[1])
    if not found:
        raise UnreachableError("the issuer's key set has no usable key", f"it must sign with one of {', '.join(KINDS)}")
    return found


def _key(given: Any) -> tuple[tuple[str, str], Key] | None:
    if not isinstance(given, dict) or given.get("use", "sig") != "sig" or "d" in given:
        return None
    operations, kid = given.get("key_ops"), given.get("kid", "")
    if not isinstance(kid, str) or (isinstance(operations, list) and "verify" not in operations):
        return None
    kind = given.get("crv", given.get("kty"))
    if not isinstance(kind, str) or _TYPES.get(kind) != given.get("kty"):
        return None
    if "alg" in given and KINDS.get(str(given["alg"])) != kind:
        return None
    try:
        key = _CLASSES[kind].import_key({name: given[name] for name in _PUBLIC if name in given})
        size = getattr(key.public_key, "key_size", MIN_RSA_BITS)
    except (JoseError, ValueError, TypeError, KeyError, OverflowError):
        return None
    if kind == "RSA" and not MIN_RSA_BITS <= size <= MAX_RSA_BITS:
        return None
    return (kid, kind), key


def _names(keys: Keys) -> dict[tuple[str, str], str]:
    return {name: key.thumbprint() for name, key in keys.items()}
