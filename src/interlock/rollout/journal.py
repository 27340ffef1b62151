"""The journal of a rollout is part of the `events` table, and folding it gives the rollout back.

An entry holds the observation, the instant and the rollout *after* it, effects that are still to be
done included; it is appended before any of them is performed. So the last entry alone restores a
rollout, and replaying the observations through `step` must give the same (a property test does).
Nanoseconds exceed the integers of RFC 8785 and are written as strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError
from interlock.rollout.sight import Sight
from interlock.rollout.states import FINAL, State
from interlock.rollout.values import Observation, Outcome, Rollout
from interlock.trust.event import Event, NewEvent

ENTRIES = ("rollout.started", "rollout.step.intended", "rollout.step.done", "rollout.step.failed")
LOOKS = "rollout.verdict.recorded"
_MARKS = {
    State.HELD: "rollout.held",
    State.SETTLED: "rollout.settled",
    State.ROLLED_BACK: "rollout.rolled_back",
    State.RETREATED: "rollout.retreated",
    State.REFUSED: "rollout.refused",
    State.SUPERSEDED: "rollout.superseded",
}
_SAFE = 1 << 53


_ROOM = 40_000
"""Bytes that a rollout may have when it begins: what happens to it later needs less than the rest of an event."""


def fits(rollout: Rollout) -> bool:
    """Whether a rollout that begins will fit into an event to its end: what cannot be recorded must not start."""
    return len(canonical(plain(rollout))) <= _ROOM


class Entry(msgspec.Struct, frozen=True):
    """One step of a rollout as it was recorded."""

    rollout: Rollout
    at_ns: int
    seen: Observation | None = None


def entry(actor: str, rollout: Rollout, seen: Observation | None, now_ns: int) -> NewEvent:
    """The journal entry of one step; `seen` None starts the rollout."""
    kind = "rollout.started" if seen is None else "rollout.step.intended"
    outcome = "success"
    if isinstance(seen, Outcome):
        kind, outcome = ("rollout.step.done", "success") if seen.ok else ("rollout.step.failed", "failure")
    return _event(kind, actor, rollout, outcome, plain(Entry(rollout, now_ns, seen)), now_ns)


def mark(actor: str, before: State, rollout: Rollout, now_ns: int) -> NewEvent | None:
    """The event that other rooms and people read when a rollout enters a state that matters to them."""
    kind = _MARKS.get(rollout.state)
    if before is State.HELD and rollout.state not in FINAL and rollout.state not in _MARKS:
        kind = "rollout.resumed" if rollout.resume == "" and rollout.state is not State.ROLLING_BACK else None
    if kind is None or before is rollout.state:
        return None
    outcome = "success" if rollout.state not in (State.REFUSED,) else "refused"
    return _event(kind, rollout.actor or actor, rollout, outcome, plain(summary(rollout)), now_ns)


def summary(rollout: Rollout) -> dict[str, Any]:
    """What matters about a rollout, plain."""
    return {
        "rollout": rollout.id,
        "service": rollout.service,
        "version": rollout.version,
        "bundle": rollout.candidate.bundle if rollout.candidate else None,
        "folder": rollout.folder,
        "commit": rollout.commit,
        "state": rollout.state.value,
        "reason": rollout.reason,
        "caught_in": rollout.caught_in or None,
        "majority_ns": rollout.majority_ns,
        "breach_ns": rollout.breach_ns,
        "champion_ns": rollout.champion_ns,
    }


def looks(
    actor: str, rollout: Rollout, seen: Sight, kept: list[dict[str, Any]], powers: dict[str, dict[str, float]]
) -> list[NewEvent]:
    """The events of one look: pieces of evidence that do not fit, then the verdict with the last piece."""
    now_ns = seen.given.at_ns
    bodies = [{"rollout": rollout.id, "kept": piece} for piece in kept[:-1]]
    bodies.append(
        {"rollout": rollout.id, "state": rollout.state.value, **seen.plain(), "powers": powers, "kept": kept[-1]}
    )
    return [_event(LOOKS, actor, rollout, seen.word, plain(body), now_ns) for body in bodies]


def parse(event: Event) -> Entry:
    """The entry that an event of `ENTRIES` holds.

    Raises:
        IntegrityError: it holds none.
    """
    try:
        return msgspec.convert(event.body, Entry, strict=False)
    except msgspec.ValidationError as error:
        raise IntegrityError(
            f"event {event.id} is no journal entry of this version", "run the version that wrote it, or restore the log"
        ) from error


def rollouts(events: Iterable[Event]) -> dict[str, Rollout]:
    """The newest state of every rollout, by id, in the order in which they started."""
    found: dict[str, Rollout] = {}
    for event in events:
        if event.type in ENTRIES:
            rollout = parse(event).rollout
            found[rollout.id] = rollout
    return found


def plain(value: Any) -> Any:
    """Builtins that RFC 8785 takes: integers beyond 2^53 become strings."""
    return _safe(msgspec.to_builtins(value))


def _safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _safe(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_safe(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _SAFE:
        return str(value)
    return value


def _event(kind: str, actor: str, rollout: Rollout, outcome: str, body: dict[str, Any], now_ns: int) -> NewEvent:
    return NewEvent(
        time_ns=now_ns,
        type=kind,
        actor=actor,
        origin="controller",
        object=f"service/{rollout.service}",
        outcome=outcome,
        body=body,
    )
