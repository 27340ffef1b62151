"""An event: who did what, when, from where, to which object, with which outcome (PCI DSS 10.2.2).

Events are the journal, the outbox, the messages between sibling rooms and the source of the
transparency log, in one append-only table. Two rules follow:

- every type is listed here; an unknown one raises, so that nothing is folded by guesswork;
- an event has one canonical form, `entry_bytes`, which is what the log holds and anybody can
  hash again. It is RFC 8785 JSON with a schema version. RFC 8785 numbers end at 2^53, so
  nanoseconds are written as decimal strings, in the envelope and in every body.
"""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, UsageError

SCHEMA = 1
MAX_ENTRY_BYTES = 65_535
"""An entry's length is a uint16 in C2SP tlog-tiles entry bundles; larger evidence goes by digest."""

MAX_WORD = 512

TYPES = (
    # processes
    "control.started",
    "control.stopped",
    "scorer.started",
    "scorer.stopped",
    "scorer.restored",
    "worker.replaced",
    # access and trust
    "access.granted",
    "access.revoked",
    "access.denied",
    "trust_root.changed",
    # the log itself
    "log.replayed",
    "log.damage.found",
    # models and data
    "dataset.registered",
    "store.loaded",
    "model.registered",
    "model.retired",
    "retrain.requested",
    # releases
    "release.proposed",
    "approval.recorded",
    "approval.refused",
    "release.admitted",
    "release.refused",
    "release.reverted",
    "release.superseded",
    "release.quarantined",
    # rollouts
    "rollout.started",
    "rollout.step.intended",
    "rollout.step.done",
    "rollout.step.failed",
    "rollout.verdict.recorded",
    "rollout.held",
    "rollout.resumed",
    "rollout.abort.requested",
    "rollout.pause.requested",
    "rollout.resume.requested",
    "rollout.rollback.requested",
    "rollout.settled",
    "rollout.rolled_back",
    "rollout.retreated",
    "rollout.refused",
    "rollout.superseded",
    "notification.delivered",
    "notification.failed",
    # decisions
    "segment.sealed",
    "decision.explained",
    "batch.scored",
    "data.sampled",
)
_KNOWN = frozenset(TYPES)


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that no store has taken yet.

    Attributes:
        time_ns: when it happened, nanoseconds since the epoch.
        type: one of `TYPES`.
        actor: a person's id, or the process that acted.
        origin: where it was asked for (a host, a process, a repository).
        object: what it concerns, such as `service/fraud`.
        outcome: one word, such as `success`, `refused`, `failure`.
        body: what the type adds; canonical JSON, nanoseconds as strings.

    Raises:
        UsageError: an unknown type, an empty or overlong field, a body without canonical form, or
            an entry beyond 65,535 bytes.
    """

    time_ns: int
    type: str
    actor: str
    origin: str
    object: str
    outcome: str
    body: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.type not in _KNOWN:
            raise UsageError("unknown event type", f"use one of: {', '.join(TYPES)}")
        if not 0 <= self.time_ns < 1 << 63:
            raise UsageError("an event's time is nanoseconds since the epoch", "pass the clock's now_ns()")
        for name in ("actor", "origin", "object", "outcome"):
            word = getattr(self, name)
            if not word or len(word) > MAX_WORD or not word.isprintable():
                raise UsageError(f"an event's {name} is one printable line of 1 to {MAX_WORD} characters", "name it")
        if len(_encode(self, (1 << 53) - 1)) > MAX_ENTRY_BYTES:
            raise UsageError(
                f"an event beyond {MAX_ENTRY_BYTES} bytes", "store the evidence in a file and record its digest"
            )


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a store holds it; `log_index` is its leaf in the log once the sequencer assigned it."""

    id: int
    time_ns: int
    type: str
    actor: str
    origin: str
    object: str
    outcome: str
    body: dict[str, Any] = {}
    log_index: int | None = None


def stored(new: NewEvent, event_id: int, log_index: int | None = None) -> Event:
    """`new` with the identity that a store gave it."""
    return Event(
        id=event_id,
        time_ns=new.time_ns,
        type=new.type,
        actor=new.actor,
        origin=new.origin,
        object=new.object,
        outcome=new.outcome,
        body=new.body,
        log_index=log_index,
    )


def entry_bytes(event: Event) -> bytes:
    """The log entry of `event`: the same bytes for the same event, for ever."""
    return _encode(event, event.id)


def parse_entry(data: bytes, log_index: int | None = None) -> Event:
    """The event whose entry is `data`.

    Raises:
        IntegrityError: not an entry, of another schema, or not in canonical form.
    """
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        schema = raw.pop("schema")
        event_id = raw.pop("id")
        new = msgspec.convert({**raw, "time_ns": int(raw["time_ns"])}, NewEvent)
        if schema != SCHEMA or type(event_id) is not int or event_id < 1 or _encode(new, event_id) != data:
            raise ValueError("another schema or form")
    except (ValueError, KeyError, TypeError, AttributeError, UsageError, msgspec.MsgspecError) as error:
        raise IntegrityError(
            "a log entry is not an event of this schema", "keep the file; restore the log from its mirror"
        ) from error
    return stored(new, event_id, log_index)


def _encode(event: NewEvent | Event, event_id: int) -> bytes:
    return canonical(
        {
            "schema": SCHEMA,
            "id": event_id,
            "time_ns": str(event.time_ns),
            "type": event.type,
            "actor": event.actor,
            "origin": event.origin,
            "object": event.object,
            "outcome": event.outcome,
            "body": event.body,
        }
    )
