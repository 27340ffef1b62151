"""What a controller knows from the events table: folded once at the start, kept up to date after.

Nothing here is a truth of its own: a new controller folds the same events and knows the same.
"""

from __future__ import annotations

from typing import Any

from interlock.rollout import journal
from interlock.rollout.states import FINAL, State
from interlock.rollout.values import Rollout, Target
from interlock.trust.ports import EventStore

ABORT = "rollout.abort.requested"
_MARKS = ("release.refused", "release.quarantined", "segment.sealed", "access.denied", "scorer.started")
_BACK = (State.ROLLING_BACK, State.RETREATED, State.ROLLED_BACK)


class Memory:
    """The folded state of one environment."""

    def __init__(self) -> None:
        self.rollouts: dict[str, Rollout] = {}
        """Those with something left to do, by id."""
        self.live: dict[str, Target] = {}
        """What serves when nothing is going on, by service."""
        self.tried: set[str] = set()
        """Keys of wishes that were carried out or refused."""
        self.quarantined: set[tuple[str, str]] = set()
        """(service, folder digest) that were taken back."""
        self.seals_after = 0
        """The number of the newest recorded seal."""
        self.denials_after = 0
        """The number of the newest recorded denial."""
        self.scorer_began = 0
        """When the supervisor that was seen last began, nanoseconds; 0: none was."""
        self.aborts_after = 0
        """The id of the newest abort request that was read."""

    @classmethod
    def of(cls, store: EventStore) -> Memory:
        """Everything the events tell."""
        memory, folded, after = cls(), dict[str, Rollout](), 0
        while page := store.after(after, (*journal.ENTRIES, *_MARKS)):
            for event in page:
                if event.type in journal.ENTRIES:
                    rollout = journal.parse(event).rollout
                    folded[rollout.id] = rollout
                elif event.type == "segment.sealed":
                    memory.seals_after = max(memory.seals_after, int(event.body["number"]))
                elif event.type == "scorer.started":
                    memory.scorer_began = _whole(event.body.get("began")) or memory.scorer_began
                elif event.type == "access.denied":
                    memory.denials_after = max(memory.denials_after, _whole(event.body.get("number")))
                elif event.type == "release.quarantined":
                    memory.quarantined.add((event.body["service"], event.body["folder"]))
                else:
                    memory.tried.add(event.body["wish"])
            after = page[-1].id
        for rollout in folded.values():
            memory.take(rollout)
        memory.aborts_after = _first_unread(store, folded)
        return memory

    def take(self, rollout: Rollout) -> None:
        """Remember a rollout's newest state and what follows from it."""
        self.tried.add(rollout.wish)
        if rollout.state is State.SETTLED and rollout.candidate is not None:
            self.live[rollout.service] = rollout.candidate
        if rollout.state in _BACK:
            self.quarantined.add((rollout.service, rollout.folder))
        if rollout.state not in FINAL or rollout.pending:
            self.rollouts[rollout.id] = rollout
        else:
            self.rollouts.pop(rollout.id, None)

    def active(self, service: str) -> Rollout | None:
        """The service's rollout that has something left to do."""
        return next((each for each in self.rollouts.values() if each.service == service), None)


def _first_unread(store: EventStore, folded: dict[str, Rollout]) -> int:
    """Aborts that were asked for while no controller lived still hold for a rollout that is unfinished."""
    started = [rollout.started_ns for rollout in folded.values() if rollout.state not in FINAL]
    after = 0
    while page := store.after(after, (ABORT,)):
        unread = next((event for event in page if started and event.time_ns >= min(started)), None)
        if unread is not None:
            return unread.id - 1
        after = page[-1].id
    return after


def _whole(value: Any) -> int:
    """A number of an event's body; 0 when it has none: whoever may append events must not stop the controller."""
    return int(value) if isinstance(value, int | str) and str(value).isascii() and str(value).isdigit() else 0
