"""Rollouts as people and programs read them: folded from events, nothing else.

`listing` is one line per rollout and refused release; `story` tells one rollout: its states with
times, its effects, where the evidence stands, every look, and the instants from which the times of
a release are taken (all in nanoseconds of the wall clock: `majority_ns`, `breach_ns`,
`champion_ns`; 0 means that it did not happen).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from interlock.apps.views.evidence import evidence
from interlock.base.clock import NS_PER_S, rfc3339
from interlock.base.errors import UsageError
from interlock.rollout import journal
from interlock.rollout.states import FINAL, State
from interlock.rollout.values import Outcome, Rollout
from interlock.trust.event import Event
from interlock.trust.ports import EventStore

_PAGE = 100
"""Looks read at once: each holds up to an event's 65,535 bytes."""
_UNTOLD = ("rollout", "kept", "given")
TYPES = (*journal.ENTRIES, "release.refused")
REPLAYED = (*journal.ENTRIES, journal.LOOKS)
"""What a replay goes by."""


def read(store: EventStore, looks: bool = False) -> list[Event]:
    """Every event that these views fold; a `story` needs the looks, of which there are many, too."""
    types = (*TYPES, journal.LOOKS) if looks else TYPES
    found: list[Event] = []
    while page := store.after(found[-1].id if found else 0, types):
        found += page
    return found


def of_one(store: EventStore, wanted: str) -> list[Event]:
    """What the story of one rollout needs: no other's looks are held, of which a day has thousands.

    Raises:
        UsageError: as `find`.
    """
    found = read(store)
    rollout = find(found, wanted)
    after = next(event.id for event in found if event.type in journal.ENTRIES and _is_of(event, rollout.id))
    looks: list[Event] = []
    while page := store.after(after, (journal.LOOKS,), _PAGE):
        looks += [event for event in page if event.body.get("rollout") == rollout.id]
        after = page[-1].id
    return sorted([*found, *looks], key=lambda event: event.id)


def _is_of(event: Event, rollout_id: str) -> bool:
    return journal.parse(event).rollout.id == rollout_id


def listing(events: Iterable[Event]) -> list[dict[str, Any]]:
    """One line per rollout, and one per release that was refused before it became one, oldest first."""
    events = list(events)
    lines = [_line(rollout) for rollout in journal.rollouts(events).values()]
    known = {line["commit"] for line in lines}
    refused = (event for event in events if event.type == "release.refused")
    lines += [_refused(event) for event in refused if event.body["commit"] not in known]
    return sorted(lines, key=lambda line: str(line["started"]))


def story(events: Sequence[Event], rollout_id: str) -> dict[str, Any]:
    """One rollout, told in order; `rollout_id` may be its beginning, or `last`.

    Raises:
        UsageError: no rollout, or more than one, has that id.
    """
    rollout = find(events, rollout_id)
    states: list[dict[str, Any]] = []
    effects: list[dict[str, Any]] = []
    looks: list[dict[str, Any]] = []
    judged: list[tuple[int, dict[str, Any]]] = []
    for event in events:
        if event.body.get("rollout") == rollout.id and "guards" in event.body:
            judged.append((event.time_ns, event.body))
            looks.append({"at": rfc3339(event.time_ns), **{k: v for k, v in event.body.items() if k not in _UNTOLD}})
        if event.type in journal.ENTRIES:
            _tell(event, rollout.id, states, effects)
    return {
        **_line(rollout),
        **_details(rollout),
        "evidence": evidence(rollout, judged),
        "states": states,
        "effects": effects,
        "looks": looks,
    }


def outcome(rollout: Rollout) -> str:
    """How it ended, in one word; `unfinished` while it has not."""
    if rollout.state not in FINAL:
        return "unfinished"
    return rollout.state.value


def find(events: Iterable[Event], wanted: str) -> Rollout:
    """The rollout of an id, of the beginning of one, or `last`.

    Raises:
        UsageError: no rollout, or more than one, has it.
    """
    found = journal.rollouts(events)
    if wanted == "last" and found:
        return list(found.values())[-1]
    matches = [rollout for rollout_id, rollout in found.items() if rollout_id.startswith(wanted)]
    if len(matches) != 1:
        known = ", ".join(list(found)[-3:]) or "none"
        raise UsageError(f"{len(matches)} rollouts have this id", f"give a whole id, or `last`; the newest: {known}")
    return matches[0]


def _line(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "service": rollout.service,
        "version": rollout.version,
        "state": rollout.state.value,
        "outcome": outcome(rollout),
        "share": rollout.share / 10_000,
        "reason": rollout.reason or None,
        "caught_in": rollout.caught_in or None,
        "commit": rollout.commit,
        "started": rfc3339(rollout.started_ns),
        "majority_ns": rollout.majority_ns,
        "breach_ns": rollout.breach_ns,
        "champion_ns": rollout.champion_ns,
        "breach_to_champion_s": _between(rollout.breach_ns, rollout.champion_ns),
        "start_to_majority_s": _between(rollout.started_ns, rollout.majority_ns),
    }


def _details(rollout: Rollout) -> dict[str, Any]:
    return {
        "folder": rollout.folder,
        "bundle": rollout.candidate.bundle if rollout.candidate else None,
        "champion": rollout.champion.version if rollout.champion else None,
        "actor": rollout.actor or None,
        "tau_ns": rollout.tau_ns,
        "generation": rollout.generation,
        "reverted": rollout.reverted or None,
        "pending": [effect.kind for effect in rollout.pending],
    }


def _refused(event: Event) -> dict[str, Any]:
    return {
        "id": None,
        "service": event.body["service"],
        "version": event.body["version"],
        "state": State.REFUSED.value,
        "outcome": State.REFUSED.value,
        "share": 0.0,
        "reason": event.body["reason"],
        "caught_in": None,
        "commit": event.body["commit"],
        "started": rfc3339(event.time_ns),
        "majority_ns": 0,
        "breach_ns": 0,
        "champion_ns": 0,
        "breach_to_champion_s": None,
        "start_to_majority_s": None,
    }


def _tell(event: Event, rollout_id: str, states: list[dict[str, Any]], effects: list[dict[str, Any]]) -> None:
    entry = journal.parse(event)
    rollout = entry.rollout
    if rollout.id != rollout_id:
        return
    words = {"state": rollout.state.value, "share": rollout.share / 10_000, "reason": rollout.reason or None}
    last = {key: value for key, value in states[-1].items() if key != "at"} if states else None
    if words != last:
        states.append({"at": rfc3339(entry.at_ns), **words})
    if isinstance(entry.seen, Outcome):
        effects.append(
            {"at": rfc3339(entry.at_ns), "n": entry.seen.n, "ok": entry.seen.ok, "detail": entry.seen.detail}
        )


def _between(start_ns: int, end_ns: int) -> float | None:
    return round((end_ns - start_ns) / NS_PER_S, 3) if start_ns and end_ns else None
