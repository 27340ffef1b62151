"""What is told of a rollout, to whom, and signed how: pure.

A notice is one HTTP POST of JSON, `{"schema", "type", "timestamp", "data": {…}}`, with the three headers
and the signature of Standard Webhooks 1.0 (standardwebhooks.com): `webhook-signature` holds one
`v1,<base64 of HMAC-SHA256(secret, "id.timestamp.body")>` per secret, with spaces between. The same
event always has the same `webhook-id` and body, whatever is retried; the timestamp is that of the
attempt. Nothing in it is a card number. Its cursor is in the events: a `notification.delivered`, or
`notification.failed`, names the newest event that an endpoint is done with.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from interlock.base.canonical import canonical, sha256_hex
from interlock.base.clock import NS_PER_S, rfc3339
from interlock.base.errors import UsageError
from interlock.privacy.redact import redact
from interlock.rollout.states import State
from interlock.trust.event import Event, NewEvent

SCHEMA = 1
MARKS: Mapping[str, str] = {
    "rollout.started": "proposed",
    "rollout.held": "held",
    "rollout.resumed": "",
    "rollout.rolled_back": "rolled_back",
    "rollout.retreated": "retreated",
    "rollout.settled": "settled",
    "rollout.refused": "refused",
    "rollout.superseded": "superseded",
    "release.quarantined": "quarantined",
    "release.refused": "refused",
}
"""Types of events that are told, and the state that each means where its body names none.

A retreat latch is `rollout.retreated`; a branch that is refused is `release.refused` of the service `*`.
"""
DELIVERED = "notification.delivered"
FAILED = "notification.failed"
SECRET_BYTES = (24, 64)
"""Length of a secret, as the specification recommends it."""
MAX_ENDPOINTS = 16
_PREFIX = "whsec_"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAX_TEXT = 1_000
_NAMES = re.compile(r"[ -~]+")


@dataclass(frozen=True)
class Endpoint:
    """Somebody who is told.

    Attributes:
        url: where; it may hold a secret, so it stands in no event and no log.
        name: 16 hexadecimal digits of its digest, in its place.
        host: for people.
        here: it is of this machine.
    """

    url: str
    name: str
    host: str
    here: bool


def endpoint(url: str) -> Endpoint:
    """An endpoint of the settings: https, or http on this machine alone.

    Where it leads is the operator's own choice, so private addresses are allowed; but no redirect is followed.

    Raises:
        UsageError: another scheme, a user in it, or no URL.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("notify.urls holds what is no URL", "write https://host/path") from error
    here = host in _LOOPBACK
    if not host or not _NAMES.fullmatch(url) or parts.scheme not in ("https", "http"):
        raise UsageError("notify.urls holds what is no URL", "write https://host/path")
    if parts.scheme == "http" and not here:
        raise UsageError("an endpoint of notify.urls is not https", "use https; http reaches this machine alone")
    if parts.username is not None or parts.fragment:
        raise UsageError("an endpoint of notify.urls names a user or a fragment", "the signature tells who sends")
    return Endpoint(url, sha256_hex(url.encode())[:16], host, here)


def endpoints(urls: Sequence[str]) -> tuple[Endpoint, ...]:
    """All endpoints, each once.

    Raises:
        UsageError: as `endpoint`, or too many.
    """
    found = tuple(endpoint(url) for url in dict.fromkeys(urls))
    if len(found) > MAX_ENDPOINTS:
        raise UsageError(f"more than {MAX_ENDPOINTS} endpoints in notify.urls", "tell a relay, which tells the others")
    return found


def selected(names: Sequence[str]) -> tuple[str, ...]:
    """The types that are told; no name means all.

    Raises:
        UsageError: an unknown name.
    """
    if unknown := [name for name in names if name not in MARKS]:
        raise UsageError(f"notify.events: {len(unknown)} unknown types", f"known: {', '.join(MARKS)}")
    return tuple(names) or tuple(MARKS)


def message_id(event: Event) -> str:
    """What a receiver drops repetitions by: of the event's content, so that a restored table changes nothing."""
    content = {"type": event.type, "time_ns": str(event.time_ns), "object": event.object, "body": event.body}
    return f"msg_{sha256_hex(canonical(content))[:32]}"


def body(event: Event) -> bytes:
    """The JSON that is sent and signed; the same for the same event."""
    told = event.body.get("rollout")
    about = told if isinstance(told, dict) else event.body
    rollout = about.get("id") if about is told else told
    shown = rollout if isinstance(rollout, str) else None
    data = {
        "event": event.id,
        "service": _text(about.get("service")),
        "version": _text(about.get("version")),
        "rollout": _text(shown),
        "state": MARKS[event.type] or _state(about.get("state")),
        "reason": _text(about.get("reason")),
        "caught_in": _text(about.get("caught_in")),
        "commit": _text(about.get("commit")),
        "actor": _text(event.actor),
        "evidence": f"interlock rollout show {_text(shown)}" if shown else "interlock rollout list",
    }
    message = {"schema": SCHEMA, "type": event.type, "timestamp": rfc3339(event.time_ns), "data": data}
    return json.dumps(message, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "replace")


def secrets(data: bytes) -> tuple[bytes, ...]:
    """The secrets of a file: a line each, `whsec_<base64>`; the newest first, while receivers change over.

    Raises:
        UsageError: none, or one of another form or length; the message shows nothing of it.
    """
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines() if line.strip()]
    found = tuple(_secret(line) for line in lines)
    if not found:
        raise UsageError("the secret's file holds none", "write a line: whsec_ and 32 random bytes in base64")
    return found


def write_secret(random: bytes) -> bytes:
    """A secret of these bytes, as its file holds it."""
    return f"{_PREFIX}{base64.b64encode(random).decode()}\n".encode()


def headers(message: str, at_s: int, content: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The headers of one attempt.

    Args:
        message: `message_id`.
        at_s: wall time of the attempt, seconds since the epoch.
        content: the body's bytes.
        keys: the secrets to sign with.
    """
    return {
        "content-type": "application/json",
        "user-agent": "interlock",
        "webhook-id": message,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signature(message, at_s, content, key) for key in keys),
    }


def signature(message: str, at_s: int, content: bytes, key: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`."""
    mac = hmac.new(key, f"{message}.{at_s}.".encode() + content, sha256).digest()
    return f"v1,{base64.b64encode(mac).decode()}"


def pause_s(attempts: int, chance: float, first_s: float, longest_s: float) -> float:
    """Seconds before the next attempt: doubled each time, and between half and all of it by chance.

    Args:
        attempts: that have failed, 1 or more.
        chance: from 0 to 1, drawn anew each time, so that endpoints do not fall into step.
        first_s: after the first failure.
        longest_s: of all.
    """
    whole = min(longest_s, first_s * 2.0 ** min(attempts - 1, 60))
    return whole * (0.5 + 0.5 * chance)


def record(
    kind: str, to: Endpoint, event_id: int, now_ns: int, told: Mapping[str, Any], outcome: str = "success"
) -> NewEvent:
    """The event that moves an endpoint's cursor to `event_id`."""
    return NewEvent(
        time_ns=now_ns,
        type=kind,
        actor="controller",
        origin="controller",
        object=f"notify/{to.name}",
        outcome=outcome,
        body={"endpoint": to.name, "host": to.host, "event": str(event_id), **told},
    )


def cursor(events: Iterable[Event], to: Endpoint) -> int | None:
    """The newest event that an endpoint is done with; None: it has never been told anything."""
    mine = [event.body for event in events if event.body.get("endpoint") == to.name]
    done = [int(each["event"]) for each in mine if str(each.get("event", "")).isdecimal()]
    return max(done, default=None)


def too_old(event: Event, now_ns: int, give_up_s: float) -> bool:
    """Whether an event that could not be told is given up."""
    return now_ns - event.time_ns >= give_up_s * NS_PER_S


def _secret(line: str) -> bytes:
    try:
        found = base64.b64decode(line.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    low, high = SECRET_BYTES
    if not line.startswith(_PREFIX) or not low <= len(found) <= high:
        raise UsageError("a secret of another form", f"write whsec_ and {low} to {high} random bytes in base64")
    return found


def _state(value: Any) -> str | None:
    return value if value in list(State) else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return redact(redact(value[: 4 * _MAX_TEXT])[:_MAX_TEXT])
