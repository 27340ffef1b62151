"""Replaying a rollout from its events alone: every step, every verdict, and whether the one follows from the other.

Contract. Of each journal entry: `step` applied to the entry before and to what was seen gives it. Of each
kept look: its evidence continues the chain, and guards, limits and experiment judged on it again give the
very figures and the same observation. Of each entry that an observation of the counters made: the look at
that instant was kept and says the same. What differs is named; the replay goes on from what was recorded.
`restored` folds the same evidence for a controller that takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from interlock.base.clock import rfc3339
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UsageError
from interlock.rollout import guards, journal, kept
from interlock.rollout.evidence import Evidence
from interlock.rollout.sight import Given, Sight, see
from interlock.rollout.states import State
from interlock.rollout.step import step
from interlock.rollout.values import Looked, Rollout
from interlock.trust.event import Event

MOST = 100
"""Differences that are told; more say nothing new."""
_NOTHING = "nothing"


def restored(rollout: Rollout, looks: Iterable[Event]) -> Evidence:
    """The evidence of a rollout from its kept looks, in the order of their events.

    Raises:
        IntegrityError: a look is damaged, or one is missing.
    """
    chain = Chain(rollout)
    for event in looks:
        chain.take(event)
    return chain.evidence


class Chain:
    """The evidence of one rollout, look by look. Of two looks of one number the later holds."""

    def __init__(self, rollout: Rollout) -> None:
        slos = rollout.plan.slos if rollout.plan is not None else ()
        self.evidence = Evidence(rollout.service, rollout.base_generation + 1, slos)
        self._before = self.evidence.copy()
        self._pieces = kept.Collected()

    def take(self, event: Event) -> bool:
        """Add one event's piece; True when it completed a look.

        Raises:
            IntegrityError: it does not continue what came before; then nothing is added.
        """
        whole = self._pieces.add(event.body.get("kept") or {})
        if whole is None:
            return False
        number, digest, text = whole
        base = self._before if number == self.evidence.number else self.evidence
        if number != base.number + 1:
            raise IntegrityError(f"look {base.number + 1} is missing", "restore the events from the log")
        if kept.chained(base.digest, text) != digest:
            raise IntegrityError(f"the evidence of look {number} is not what was kept", "restore the events")
        self._before, self.evidence = base, base.copy()
        self.evidence.restore(text)
        return True


def replay(events: Iterable[Event], rollout_id: str) -> dict[str, Any]:
    """Recompute one rollout.

    Args:
        events: entries and looks in the order of their ids; those of other rollouts are passed over.
        rollout_id: its whole id.

    Returns:
        `{rollout, service, version, looks, entries, agrees, differences}`; a difference has the event's id and
        time, what differs, what was recorded and what was recomputed.

    Raises:
        UsageError: no rollout has that id.
    """
    replayed = _Replay(rollout_id)
    for event in events:
        replayed.take(event)
    rollout = replayed.rollout
    if rollout is None:
        raise UsageError("no rollout has this id", "interlock rollout list")
    return {
        "rollout": rollout_id,
        "service": rollout.service,
        "version": rollout.version,
        "looks": replayed.looks,
        "entries": replayed.entries,
        "agrees": not replayed.differences,
        "differences": replayed.differences[:MOST],
    }


class _Replay:
    def __init__(self, rollout_id: str) -> None:
        self._id = rollout_id
        self._at: dict[str, Any] = {}
        self._chain: Chain | None = None
        self._last: tuple[int, Any] | None = None
        self.rollout: Rollout | None = None
        self.looks = 0
        self.entries = 0
        self.differences: list[dict[str, Any]] = []

    def take(self, event: Event) -> None:
        self._at = {"event": event.id, "at": rfc3339(event.time_ns), "type": event.type}
        try:
            if event.type == journal.LOOKS and event.body.get("rollout") == self._id:
                self._look(event)
            elif event.type in journal.ENTRIES and _of(event) == self._id:
                self._entry(event)
        except InterlockError as error:
            self._differs("what was kept", str(error), _NOTHING)

    def _entry(self, event: Event) -> None:
        entry = journal.parse(event)
        self.entries += 1
        before, self.rollout = self.rollout, entry.rollout
        if before is None or entry.seen is None:
            if before is not None or entry.seen is not None or entry.rollout.state is not State.PROPOSED:
                self._differs("the beginning", entry.rollout.state.value, State.PROPOSED.value)
            return
        if isinstance(entry.seen, Looked):
            self._follows(entry.at_ns, entry.seen)
        try:
            expected = step(before, entry.seen, entry.at_ns)[0]
        except RefusedError as error:
            self._differs("a step that the table does not know", entry.rollout.state.value, str(error))
            return
        self._compare("rollout", journal.plain(entry.rollout), journal.plain(expected))

    def _follows(self, at_ns: int, seen: Looked) -> None:
        """Whether a step rests on a look that was kept."""
        last, recorded = self._last, journal.plain(seen)
        if last is None or last[0] != at_ns:
            self._differs("the look that made this step", recorded, _NOTHING)
        else:
            self._compare("the look that made this step", recorded, last[1])

    def _look(self, event: Event) -> None:
        if self.rollout is None:
            raise IntegrityError("a look before the rollout began", "restore the events from the log")
        if self._chain is None:
            self._chain = Chain(self.rollout)
        self._last = None
        if not self._chain.take(event):
            return
        self.looks += 1
        try:
            given = msgspec.convert(event.body.get("given"), Given, strict=False)
        except msgspec.ValidationError as error:
            raise IntegrityError(f"a look of another version: {error}", "run the version that wrote it") from error
        sight = see(self.rollout, self._chain.evidence, given)
        recomputed = journal.plain({"state": self.rollout.state.value, **sight.plain()})
        for name, value in recomputed.items():
            self._compare(name, event.body.get(name), value)
        self._compare("outcome", event.outcome, sight.word)
        self._compare("time", event.time_ns, given.at_ns)
        self._compare("powers", event.body.get("powers"), self._powers(event, sight))
        self._last = given.at_ns, recomputed["seen"]

    def _powers(self, event: Event, sight: Sight) -> Any:
        """What it could have caught is kept of looks that changed something."""
        if not event.body.get("powers") or sight.look is None or self._chain is None:
            return {}
        plan = self.rollout.plan if self.rollout is not None else None
        return journal.plain(guards.powers(self._chain.evidence.arms(), sight.look, plan.guards)) if plan else {}

    def _compare(self, what: str, recorded: Any, recomputed: Any) -> None:
        for place, one, other in _unlike(recorded, recomputed, what):
            self._differs(place, one, other)

    def _differs(self, what: str, recorded: Any, recomputed: Any) -> None:
        self.differences.append({**self._at, "what": what, "recorded": recorded, "recomputed": recomputed})


def _of(event: Event) -> str | None:
    rollout = event.body.get("rollout")
    return rollout.get("id") if isinstance(rollout, dict) else None


def _unlike(one: Any, other: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """The smallest parts in which two plain values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from _unlike(one.get(name), other.get(name), f"{place}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            named = left.get("guard") or left.get("name") if isinstance(left, dict) else None
            yield from _unlike(left, right, f"{place}.{named or index}")
    elif one != other:
        yield place, one, other
