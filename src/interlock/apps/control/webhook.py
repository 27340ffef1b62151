"""`POST /v1/webhooks/git`: a forge says that something was pushed, and the branch is looked at at once.

Contract. The request is believed that it comes from the forge, and nothing of what it says: its body
is not even parsed. A request that is replayed or sent a thousand times makes the next look happen
sooner, with a pause between two looks (`Branch.hurry`). Believed is an HMAC-SHA256 of the body under
the shared secret (GitHub `X-Hub-Signature-256`, Gitea and Forgejo `X-Gitea-Signature` and
`X-Forgejo-Signature`), or the secret itself (GitLab `X-Gitlab-Token`), compared in constant time; of
several, every one must be right. The secret lies in a file under the home that its owner alone may
read, and is read at each request: whoever changes it need restart nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.base.errors import RefusedError

PATH = "/v1/webhooks/git"
MAX_BODY = 1024 * 1024
"""Bytes; what is longer is answered 413, and the branch is looked at when its poll is due."""
MIN_SECRET = 16
_GITLAB = "x-gitlab-token"
_HMACS = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature")


def route(home: Path, secret: str | None, hurry: Callable[[], None]) -> Route:
    """The route of the control API.

    Args:
        home: the installation's folder.
        secret: the name of the secret's file below it; None: every request is refused.
        hurry: makes the next look at the branch due.
    """

    async def answer(request: Request) -> Response:
        try:
            key = read_secret(home, secret)
        except RefusedError as error:
            return _error(403, "refused", error.message, error.remedy)
        body = await _body(request)
        if body is None:
            return _error(413, "usage", "the body is too long", f"send at most {MAX_BODY} bytes")
        if not genuine(request.headers, body, key):
            return _error(
                401, "unauthorised", "no valid signature", "give the forge the secret of control.webhook_secret"
            )
        hurry()
        return JSONResponse({"status": "accepted"}, status_code=202)

    return Route(PATH, answer, methods=["POST"])


def genuine(headers: Mapping[str, str], body: bytes, key: bytes) -> bool:
    """Whether the request is by somebody who has the secret.

    Args:
        headers: lower-case names.
        body: as it came.
        key: the secret.
    """
    right = hmac.new(key, body, hashlib.sha256).hexdigest().encode()
    proofs = [(headers[name].removeprefix("sha256="), right) for name in _HMACS if name in headers]
    if _GITLAB in headers:
        proofs.append((headers[_GITLAB], key))
    return bool(proofs) and all([hmac.compare_digest(given.encode(), wanted) for given, wanted in proofs])


def read_secret(home: Path, name: str | None) -> bytes:
    """The secret.

    Raises:
        RefusedError: there is none, it is not below the home, too short, or others may read it.
    """
    if name is None:
        raise RefusedError(
            "this controller takes no webhooks", "write a secret into a file under the home; name it webhook_secret"
        )
    path = home / name
    if not path.resolve().is_relative_to(home.resolve()):
        raise RefusedError("the webhook's secret is not under the home", "name a file below it")
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise RefusedError("others may read the webhook's secret", f"chmod 600 {name}")
        found = path.read_bytes().strip()
    except OSError as error:
        raise RefusedError("the webhook's secret cannot be read", f"write it to {name}, mode 0600") from error
    if len(found) < MIN_SECRET:
        raise RefusedError("the webhook's secret is too short", f"write at least {MIN_SECRET} random characters")
    return found


async def _body(request: Request) -> bytes | None:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY:
            return None
    return bytes(data)


def _error(status: int, kind: str, message: str, remedy: str) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message, "remedy": remedy}}, status_code=status)
