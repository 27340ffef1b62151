"""An event store in memory: the same contract but for durability, for simulations.

State lives in this object and dies with it. A lock makes each call atomic.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import msgspec

from interlock.base.errors import IntegrityError, RefusedError
from interlock.trust.event import Event, NewEvent, entry_bytes, stored

_REMEDY = "stop the sequencer and compare the database with the log"


class MemoryEventStore:
    """Implements `SequencedStore` in a dict."""

    def __init__(self) -> None:
        self._events: dict[int, Event] = {}
        self._indexed: dict[int, int] = {}
        self._last = 0
        self._leases: dict[str, tuple[str, int, int]] = {}
        self._lock = threading.RLock()

    def append(self, event: NewEvent) -> Event:
        """Store one event."""
        return self.append_many([event])[0]

    def append_many(self, events: Sequence[NewEvent], lease: tuple[str, int] | None = None) -> list[Event]:
        """Store all of them in this order."""
        with self._lock:
            if lease is not None and self._leases.get(lease[0], ("", 0, 0))[1] != lease[1]:
                raise RefusedError("somebody else has taken the lease", "stop this one, or wait for its lease")
            taken = [stored(event, event_id) for event_id, event in enumerate(events, start=self._last + 1)]
            self._events.update({event.id: event for event in taken})
            self._last += len(taken)
            return taken

    def after(self, event_id: int, types: Collection[str] | None = None, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a greater id."""
        with self._lock:
            ids = sorted(key for key in self._events if key > event_id)
            found = [self._events[key] for key in ids if types is None or self._events[key].type in types]
            return found[:limit]

    def unsequenced(self, limit: int = 1000) -> list[Event]:
        """The first `limit` events without a log index."""
        with self._lock:
            return [self._events[key] for key in sorted(self._events) if self._events[key].log_index is None][:limit]

    def sequenced(self, from_index: int, limit: int = 1000) -> list[Event]:
        """The first `limit` events from a log index on."""
        with self._lock:
            indexes = sorted(index for index in self._indexed if index >= from_index)[:limit]
            return [self._events[self._indexed[index]] for index in indexes]

    def integrate(self, assigned: Sequence[tuple[int, int]]) -> None:
        """Set log indexes, all or none."""
        with self._lock:
            indexes = [index for _, index in assigned]
            if len(set(indexes)) != len(indexes) or any(index in self._indexed for index in indexes):
                raise IntegrityError("a log index is taken", _REMEDY)
            ids = [event_id for event_id, _ in assigned]
            if len(set(ids)) != len(ids) or any(
                key not in self._events or self._events[key].log_index is not None for key in ids
            ):
                raise IntegrityError("an event is unknown or has a log index already", _REMEDY)
            for event_id, index in assigned:
                self._events[event_id] = msgspec.structs.replace(self._events[event_id], log_index=index)
                self._indexed[index] = event_id

    def restore(self, events: Sequence[Event]) -> int:
        """Insert events which the log holds and this store lost."""
        with self._lock:
            missing = [event for event in events if not self._has(event)]
            for event in missing:
                self._last = max(self._last, event.id)
            for event in missing:
                self._give_way(event.id)
                self._events[event.id] = event
                self._indexed[event.log_index or 0] = event.id
            return len(missing)

    def _has(self, event: Event) -> bool:
        if event.log_index is None:
            raise IntegrityError("only events with a log index are restored", _REMEDY)
        here = self._events.get(event.id)
        holder = self._indexed.get(event.log_index)
        if here is not None and (here.log_index == event.log_index) and entry_bytes(here) == entry_bytes(event):
            return True
        if holder is not None or (here is not None and here.log_index is not None):
            raise IntegrityError("the database contradicts the log", _REMEDY)
        return False

    def _give_way(self, event_id: int) -> None:
        here = self._events.pop(event_id, None)
        if here is not None:
            self._last += 1
            self._events[self._last] = msgspec.structs.replace(here, id=self._last)

    def lease(self, name: str, holder: str, now_ns: int, ttl_ns: int) -> int | None:
        """Take, renew or (with a `ttl_ns` of 0) give back a lease."""
        with self._lock:
            owner, epoch, expires = self._leases.get(name, ("", 0, 0))
            if owner != holder:
                if expires > now_ns:
                    return None
                epoch += 1
            self._leases[name] = (holder, epoch, now_ns + ttl_ns)
            return epoch
