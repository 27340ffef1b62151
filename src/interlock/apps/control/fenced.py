"""The event store of a controller: it takes a leader's events only while that leader's epoch is the newest.

A process can sleep between any two of its instructions. One that wakes after its lease has ended must
not write into the journal by which its successor goes on, so the store compares the epoch in the
transaction that appends. Reading and the lease itself are not fenced. An append without an answer may
have been stored: until the controller has read the journal again (`doubtful`), nothing is appended,
since it would not follow from what stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from interlock.base.errors import RefusedError, UnreachableError
from interlock.trust.event import Event, NewEvent
from interlock.trust.ports import EventStore


class Fenced:
    """Implements `EventStore` for the holder of a lease.

    Args:
        store: the store of all controllers.
        name: of the lease.
        epoch: tells the epoch in which this controller leads; None: it does not.
    """

    def __init__(self, store: EventStore, name: str, epoch: Callable[[], int | None]) -> None:
        self._store = store
        self._name = name
        self._epoch = epoch
        self.doubtful = False

    def append(self, event: NewEvent) -> Event:
        """Store one event."""
        return self.append_many([event])[0]

    def append_many(self, events: Sequence[NewEvent], lease: tuple[str, int] | None = None) -> list[Event]:
        """Store all of them under this controller's lease."""
        epoch = self._epoch()
        if epoch is None:
            raise RefusedError("this controller does not lead", "wait for its lease")
        if self.doubtful:
            raise UnreachableError("it is not known what the journal holds", "read it again")
        try:
            return self._store.append_many(events, lease=(self._name, epoch))
        except UnreachableError:
            self.doubtful = True
            raise

    def after(self, event_id: int, types: Collection[str] | None = None, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a greater id."""
        return self._store.after(event_id, types, limit)

    def lease(self, name: str, holder: str, now_ns: int, ttl_ns: int) -> int | None:
        """Take, renew or give back a lease."""
        return self._store.lease(name, holder, now_ns, ttl_ns)
