"""Ports of the trust room: where events live, and how their order in the log is fixed.

Contract of every event store (`tests/contracts/test_event_store.py` runs it on each of them):

- *Durable*: when `append` returns, the event survives kill -9 and loss of power.
- Ids grow in the order of appending and are never used twice.
- Nothing is updated or deleted, except that `integrate` sets a log index once.
- `append_many` takes all of its events or none.
- Safe to call from several threads, and from several processes on one database.

Errors: UnreachableError when the store does not answer; IntegrityError when a call contradicts
what is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from interlock.trust.event import Event, NewEvent


class EventStore(Protocol):
    """What every part of the platform sees: append, read in order, hold a lease."""

    def append(self, event: NewEvent) -> Event:
        """Store one event; durable on return."""
        ...

    def append_many(self, events: Sequence[NewEvent], lease: tuple[str, int] | None = None) -> list[Event]:
        """Store all of them in one transaction, in this order; durable on return.

        Args:
            events: what to store.
            lease: (name, fencing epoch): store them only while nobody has taken this lease since.

        Raises:
            RefusedError: somebody has; nothing is stored.
        """
        ...

    def after(self, event_id: int, types: Collection[str] | None = None, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a greater id, ascending; only of `types` if given."""
        ...

    def lease(self, name: str, holder: str, now_ns: int, ttl_ns: int) -> int | None:
        """Take or renew a lease until `now_ns + ttl_ns`.

        Returns:
            The fencing epoch, which grows at each change of holder; None while somebody else holds
            it. A `ttl_ns` of 0 gives the lease back.
        """
        ...


class SequencedStore(EventStore, Protocol):
    """What the one sequencer needs beyond it."""

    def unsequenced(self, limit: int = 1000) -> list[Event]:
        """The first `limit` events without a log index, by id."""
        ...

    def sequenced(self, from_index: int, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a log index of `from_index` or more, by index."""
        ...

    def integrate(self, assigned: Sequence[tuple[int, int]]) -> None:
        """Set log indexes, all in one transaction: (id, index) each.

        Raises:
            IntegrityError: an id is unknown or has another index already, or an index is taken.
        """
        ...

    def restore(self, events: Sequence[Event]) -> int:
        """Insert sequenced events which the log holds and a restored database lost; the number inserted.

        An event of the database that took such an id in the meantime keeps its content and gets a
        new id: it was acknowledged and MUST NOT be lost.

        Raises:
            IntegrityError: an id or an index is stored with other content and an index of its own.
        """
        ...
