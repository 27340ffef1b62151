"""Fetches an issuer's keys: discovery, then the key set, with the standard library alone.

OpenID Connect Discovery 1.0 section 4: the document's `issuer` must be the very issuer that was
asked, and `jwks_uri` an https URL (plain http on this machine alone, for tests and side-cars). No
redirect is followed, a document has at most `MAX_BYTES`, and the whole exchange `TIMEOUT_S`. It
blocks: call it on a thread.
"""

from __future__ import annotations

import json
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from interlock.base.errors import UnreachableError

MAX_BYTES = 262_144
TIMEOUT_S = 5.0
_PIECE = 16_384
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REMEDY = "check the issuer in trust/access.yaml and that this host reaches it, or name a jwksFile"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """A redirect ends as the error that its status is."""
        return


def key_set(issuer: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """The issuer's JSON Web Key Set.

    Raises:
        UnreachableError: it did not answer in time, or not as an issuer answers.
    """
    deadline = time.monotonic() + timeout_s
    found = _get(issuer.rstrip("/") + "/.well-known/openid-configuration", deadline)
    try:
        document = json.loads(found)
        named, place = document["issuer"], document["jwks_uri"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreachableError("the issuer's configuration is not one of OpenID Connect", _REMEDY) from error
    if named != issuer:
        raise UnreachableError("the issuer's configuration names another issuer", _REMEDY)
    if not isinstance(place, str):
        raise UnreachableError("the issuer's configuration names no key set", _REMEDY)
    return _get(place, deadline)


def _get(url: str, deadline: float) -> bytes:
    here = _check(url)
    # A proxy of the environment is for the outside world.
    handlers = [_NoRedirect(), *([urllib.request.ProxyHandler({})] if here else [])]
    left = max(deadline - time.monotonic(), 0.05)
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310 - checked above
    found = bytearray()
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=left) as reply:
            while piece := reply.read1(_PIECE):
                found += piece
                if len(found) > MAX_BYTES or time.monotonic() > deadline:
                    raise UnreachableError("the issuer's answer is too long, or too slow", _REMEDY)
    except (URLError, HTTPException, OSError) as error:
        raise UnreachableError(f"the issuer does not answer ({type(error).__name__})", _REMEDY) from error
    return bytes(found)


def _check(url: str) -> bool:
    """Whether the URL is one of this machine; refuses what is neither that nor https."""
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname, parts.scheme
    except ValueError as error:
        raise UnreachableError("the issuer names a place that is no URL", _REMEDY) from error
    here = host in _LOOPBACK
    if scheme != "https" and not (here and scheme == "http"):
        raise UnreachableError("the issuer's keys are not offered by https", _REMEDY)
    return here
