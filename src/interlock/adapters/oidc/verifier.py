"""Verifies ID and access tokens (JWT, RFC 7519; profile of RFC 8725) of the listed issuers.

Contract. Only RS256, ES256 and EdDSA (Ed25519): the algorithm is checked against this list and against the
kind of the key before anything is computed; `none` and HMAC do not exist here. The key comes from the
issuer's own set by `kid`: what a token carries itself (`jwk`, `jku`, `x5u`) is never looked at, and
`crit` is refused. What the claims mean is judged by the caller *before* the signature is computed
(an expired token should cost little) and counts only when the signature holds. Nothing blocks.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from interlock.adapters.oidc import fetch
from interlock.adapters.oidc.jwks import KINDS, Jwks
from interlock.base.errors import RefusedError
from interlock.trust.principal import Issuer

MAX_TOKEN = 8_192
MAX_HEADER = 1_024

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_REMEDY = "send a signed token (JWT) of an issuer that trust/access.yaml lists"
Judged = TypeVar("Judged")
Sets = Mapping[tuple[str, str | None], Jwks]
"""(issuer, its file) to its keys."""


class _Registry(JWSRegistry):
    max_header_length = MAX_HEADER
    max_payload_length = MAX_TOKEN

    def get_alg(self, name: str) -> Any:
        """The algorithm of that name; RFC 9864 gave EdDSA over Ed25519 its own, which the library prefers."""
        return self.algorithms["Ed25519" if name == "EdDSA" else name]


_REGISTRY = _Registry(algorithms=list(KINDS), strict_check_header=False)


class Verifier:
    """All issuers of one access file.

    Args:
        issuers: whose tokens count.
        folder: where their `jwks_file` lie.
        before: the verifier of the file before; the keys of issuers that stay are kept.
    """

    def __init__(self, issuers: Collection[Issuer], folder: Path, before: Verifier | None = None) -> None:
        held: Sets = before.sets if before else {}
        # Groups and services may change without new keys.
        self.sets: Sets = {
            (each.issuer, each.jwks_file): held.get((each.issuer, each.jwks_file))
            or Jwks(each.issuer, _source(each, folder))
            for each in issuers
        }
        self._by_name = {name: keys for (name, _), keys in self.sets.items()}

    def verify(self, token: str, judge: Callable[[Mapping[str, Any]], Judged]) -> Judged:
        """What `judge` says of the token's claims, if the signature of their issuer holds.

        Raises:
            RefusedError: it does not, or `judge` refuses.
            UnreachableError: the issuer's keys are not known yet.
        """
        if len(token) > MAX_TOKEN or not _FORM.fullmatch(token):
            raise RefusedError("no signed token", _REMEDY)
        head, body, _ = token.split(".")
        algorithm, kid = _header(_decoded(head))
        claims = _decoded(body)
        judged = judge(claims)
        named = claims.get("iss")
        keys = self._by_name.get(named) if isinstance(named, str) else None
        if keys is None:
            raise RefusedError("the token's issuer is not accepted here", _REMEDY)
        try:
            jws.deserialize_compact(token, keys.find(kid, algorithm), [algorithm], _REGISTRY)
        except (JoseError, ValueError, TypeError) as error:
            raise RefusedError("the token's signature does not hold", _REMEDY) from error
        return judged

    async def refresh(self, now_ns: int) -> bool:
        """Renew keys where it is time to; whether any have changed, so that tokens must be judged anew.

        Args:
            now_ns: monotonic.
        """
        changed = [await keys.refresh(now_ns) for keys in self._by_name.values()]
        return any(changed)


def _source(issuer: Issuer, folder: Path) -> Callable[[], bytes]:
    if issuer.jwks_file is not None:
        return (folder / issuer.jwks_file).read_bytes
    return partial(fetch.key_set, issuer.issuer)


def _header(header: Mapping[str, Any]) -> tuple[str, str]:
    """Algorithm and key id; whatever else stands there is ignored, unless it claims to be critical."""
    algorithm, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(algorithm, str) or algorithm not in KINDS:
        raise RefusedError("the token's algorithm is not accepted here", f"sign with {', '.join(KINDS)}")
    if not isinstance(kid, str) or "crit" in header:
        raise RefusedError("the token's header asks for what is not done here", _REMEDY)
    return algorithm, kid


def _decoded(part: str) -> dict[str, Any]:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found = json.loads(data, object_pairs_hook=_once)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise RefusedError("the token is no JSON", _REMEDY) from error
    if not isinstance(found, dict):
        raise RefusedError("the token is no JSON object", _REMEDY)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")  # two readers could understand two things
    return found
