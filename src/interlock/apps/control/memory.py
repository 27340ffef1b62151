"""What a controller knows from the events table: folded once at the start, kept up to date after.

Nothing here is a truth of its own: a new controller folds the same events and knows the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interlock.base.clock import NS_PER_S
from interlock.rollout import journal
from interlock.rollout.options import RolloutOptions
from interlock.rollout.states import FINAL, State
from interlock.rollout.values import Rollout, Standing, Target
from interlock.trust.event import Event
from interlock.trust.ports import EventStore

ABORT = "rollout.abort.requested"
PAUSE = "rollout.pause.requested"
RESUME = "rollout.resume.requested"
RETURN = "rollout.rollback.requested"
REQUESTS = (ABORT, PAUSE, RESUME, RETURN)
"""What people ask for."""
_MARKS = (
    "release.refused",
    "release.quarantined",
    "release.reverted",
    "segment.sealed",
    "access.denied",
    "scorer.started",
    RETURN,
)
_DAY_NS = 86_400 * NS_PER_S
_BACK = (State.ROLLING_BACK, State.RETREATED, State.ROLLED_BACK)


class Memory:
    """The folded state of one environment."""

    def __init__(self) -> None:
        self.rollouts: dict[str, Rollout] = {}
        """Those with something left to do, by id."""
        self.settled: dict[str, list[Rollout]] = {}
        """The settled rollouts of each service, oldest first."""
        self.returns: dict[int, Event] = {}
        """Requests to return to an earlier version that have no outcome yet, by event id."""
        self.returns_noted = 0
        """The id of the newest of them when the events were folded: what is older and not among them is answered."""
        self.tried: set[str] = set()
        """Keys of wishes that were carried out or refused."""
        self.quarantined: dict[tuple[str, str], frozenset[str]] = {}
        """(service, folder digest) that were taken back, with the signed statements that had let them in."""
        self.seals_after = 0
        """The number of the newest recorded seal."""
        self.denials_after = 0
        """The number of the newest recorded denial."""
        self.scorer_began = 0
        """When the supervisor that was seen last began, nanoseconds; 0: none was."""
        self.requests_after = 0
        """The id of the newest request of a person that was read."""

    @classmethod
    def of(cls, store: EventStore) -> Memory:
        """Everything the events tell."""
        memory, folded, after = cls(), dict[str, Rollout](), 0
        while page := store.after(after, (*journal.ENTRIES, *_MARKS)):
            for event in page:
                if event.type in journal.ENTRIES:
                    rollout = journal.parse(event).rollout
                    folded[rollout.id] = rollout
                else:
                    memory.note(event)
            after = page[-1].id
        for rollout in folded.values():
            memory.take(rollout)
        memory.requests_after = _first_unread(store, folded)
        return memory

    def note(self, event: Event) -> None:
        """Remember an event that is no journal entry."""
        body = event.body
        if event.type == "segment.sealed":
            self.seals_after = max(self.seals_after, int(body["number"]))
        elif event.type == "scorer.started":
            self.scorer_began = _whole(body.get("began")) or self.scorer_began
        elif event.type == "access.denied":
            self.denials_after = max(self.denials_after, _whole(body.get("number")))
        elif event.type == "release.quarantined":
            self.quarantine(body["service"], body["folder"], body.get("signed", ()))
        elif event.type == RETURN:
            self.returns[event.id] = event
            self.returns_noted = event.id
        else:
            # An answer to a request names it; a refused wish is not tried again.
            self.returns.pop(_whole(body.get("request")), None)
            if event.type == "release.refused":
                self.tried.add(body["wish"])

    def quarantine(self, service: str, folder: str, signed: Iterable[str]) -> None:
        """Keep a release out until none of the statements that let it in are counted again."""
        known = self.quarantined.get((service, folder), frozenset())
        self.quarantined[service, folder] = known | frozenset(signed)

    def in_quarantine(self, service: str, shadows: Iterable[Standing]) -> list[Standing]:
        """Those standing shadows that were taken back as releases."""
        return [each for each in shadows if (service, each.folder) in self.quarantined]

    def live(self, service: str) -> Target | None:
        """What serves when nothing is going on."""
        settled = self.settled.get(service)
        return settled[-1].candidate if settled else None

    def settled_by(self, service: str, at_ns: int) -> list[Rollout]:
        """The settled rollouts of a service as they were at a time, oldest first."""
        return [each for each in self.settled.get(service, ()) if each.ended_ns <= at_ns]

    def earlier(self, service: str, options: RolloutOptions, at_ns: int) -> list[Rollout]:
        """Settled rollouts that one may return to, newest first.

        Args:
            service: whose.
            options: how many releases and days are within the horizon.
            at_ns: wall time at which it is asked: what has settled since does not count.
        """
        since_ns = at_ns - round(options.horizon_days * _DAY_NS)
        settled = self.settled_by(service, at_ns)
        found: dict[str, Rollout] = {}
        for rollout in reversed(settled):
            if rollout.folder not in found and len(found) < options.horizon_versions:
                found[rollout.folder] = rollout
        kept = list(found.values())[1:]
        known = [each for each in kept if (service, each.folder) not in self.quarantined]
        return [each for each in known if _left_ns(settled, each) >= since_ns]

    def take(self, rollout: Rollout) -> None:
        """Remember a rollout's newest state and what follows from it."""
        self.tried.add(rollout.wish)
        others = [each for each in self.settled.get(rollout.service, ()) if each.id != rollout.id]
        if rollout.state is State.SETTLED and rollout.candidate is not None:
            self.settled[rollout.service] = [*others, rollout]
        elif others:
            self.settled[rollout.service] = others  # one that was reopened is settled no longer
        else:
            self.settled.pop(rollout.service, None)
        if rollout.state in _BACK and rollout.breach_ns:
            self.quarantine(rollout.service, rollout.folder, rollout.signed)
        if rollout.state not in FINAL or rollout.pending:
            self.rollouts[rollout.id] = rollout
        else:
            self.rollouts.pop(rollout.id, None)

    def active(self, service: str) -> Rollout | None:
        """The service's rollout that has something left to do."""
        return next((each for each in self.rollouts.values() if each.service == service), None)


def _left_ns(settled: list[Rollout], rollout: Rollout) -> int:
    """When a settled release stopped serving: when the next one had settled."""
    at = max(index for index, each in enumerate(settled) if each.folder == rollout.folder)
    return settled[at + 1].ended_ns if at + 1 < len(settled) else settled[at].ended_ns


def _first_unread(store: EventStore, folded: dict[str, Rollout]) -> int:
    """What was asked for while no controller lived still holds for a rollout that is unfinished."""
    started = [rollout.started_ns for rollout in folded.values() if rollout.state not in FINAL]
    after = 0
    while page := store.after(after, REQUESTS):
        unread = next((event for event in page if started and event.time_ns >= min(started)), None)
        if unread is not None:
            return unread.id - 1
        after = page[-1].id
    return after


def _whole(value: Any) -> int:
    """A number of an event's body; 0 when it has none: whoever may append events must not stop the controller."""
    return int(value) if isinstance(value, int | str) and str(value).isascii() and str(value).isdigit() else 0
