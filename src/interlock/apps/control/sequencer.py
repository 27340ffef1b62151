"""The sequencer: gives events their place in the log, and writes the log.

Contract. At most one sequencer works at a time (a lease in the store). Order of durability: the
indexes, in one transaction of their own; the bundles and tiles; the checkpoint. A crash between
any two is repaired by the next run: indexes beyond the log are written to it, and a log that is
ahead of a restored database is replayed into it. An entry never changes its index.
"""

from __future__ import annotations

import threading

from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import IntegrityError, UnreachableError
from interlock.trust.event import NewEvent, entry_bytes, parse_entry
from interlock.trust.log import LogWriter
from interlock.trust.ports import SequencedStore

LEASE = "sequencer"
LEASE_NS = 20 * NS_PER_S
BATCH = 1000


class Sequencer:
    """Integrates events, of any thread: one at a time.

    Args:
        store: the events table.
        log: the writer of this deployment's log.
        clock: for the lease.
        holder: names this process.
    """

    def __init__(self, store: SequencedStore, log: LogWriter, clock: Clock, holder: str) -> None:
        self._store = store
        self._log = log
        self._clock = clock
        self._holder = holder
        self._checked = False
        self._leads_until = 0  # monotonic
        self._found: set[str] = set()
        self.still = threading.RLock()
        """Held while the log grows; whoever holds it reads one log: its checkpoint and proofs under that."""

    @property
    def log(self) -> LogWriter:
        """The log, for proofs under its newest checkpoint."""
        return self._log

    def run_once(self) -> int:
        """Integrate what there is; the number of events that got into the log.

        Raises:
            IntegrityError: database and log contradict each other, or an older log was put back.
        """
        with self.still:
            if not self._leads():
                return 0
            try:
                return self._integrate()
            except IntegrityError as error:
                self._report(error)
                raise

    def _integrate(self) -> int:
        self._log.refresh()
        if not self._checked:
            self._replay()
            self._checked = True
        done = self._write_assigned()
        while waiting := self._store.unsequenced(BATCH):
            self._store.integrate([(event.id, self._log.size + place) for place, event in enumerate(waiting)])
            done += self._write_assigned()
        return done

    def integrate_until(self, event_id: int) -> int:
        """The log index of an event, once it is under the checkpoint.

        Raises:
            UnreachableError: another process sequences; ask again.
        """
        self.run_once()
        found = self._store.after(event_id - 1, limit=1)
        if not found or found[0].id != event_id or found[0].log_index is None or found[0].log_index >= self._log.size:
            raise UnreachableError("the event is not in the log yet", "ask again in a moment")
        return found[0].log_index

    def _report(self, error: IntegrityError) -> None:
        """Damage is an event, once per process: it gets into the log when that is repaired."""
        if error.message not in self._found:
            self._found.add(error.message)
            self._store.append(self._event("log.damage.found", "failure", {"finding": error.message}))

    def _event(self, kind: str, outcome: str, body: dict[str, object]) -> NewEvent:
        return NewEvent(
            time_ns=self._clock.now_ns(),
            type=kind,
            actor="sequencer",
            origin=self._holder,
            object="log",
            outcome=outcome,
            body=body,
        )

    def _leads(self) -> bool:
        """Hold the lease; it is renewed in its last third, since each renewal is a write."""
        now = self._clock.monotonic_ns()
        if now < self._leads_until - LEASE_NS // 3:
            return True
        if self._store.lease(LEASE, self._holder, self._clock.now_ns(), LEASE_NS) is None:
            return False
        self._leads_until = now + LEASE_NS
        return True

    def _write_assigned(self) -> int:
        done = 0
        while assigned := self._store.sequenced(self._log.size, BATCH):
            indexes = [event.log_index for event in assigned]
            if indexes != list(range(self._log.size, self._log.size + len(assigned))):
                raise IntegrityError(
                    "the events' log indexes have a hole", "stop the controller; compare the database with its backup"
                )
            self._log.append([entry_bytes(event) for event in assigned])
            done += len(assigned)
        return done

    def _replay(self) -> None:
        """Give back to a restored database what the log holds and it lost; compare the rest."""
        size = self._log.size
        start = restored = 0
        reader = self._log.reader()
        while start < size:
            stop = min(start + BATCH, size)
            entries = list(reader.entries(start, stop))
            known = {event.log_index: event for event in self._store.sequenced(start, BATCH)}
            lost = []
            for index, entry in enumerate(entries, start=start):
                event = known.get(index)
                if event is None:
                    lost.append(parse_entry(entry, index))
                elif entry_bytes(event) != entry:
                    raise IntegrityError(
                        f"event {event.id} differs from entry {index} of the log",
                        "the database was changed: keep it as evidence, and restore it from its backup",
                    )
            if lost:
                restored += self._store.restore(lost)
            start = stop
        if restored:
            self._store.append(self._event("log.replayed", "success", {"events": restored, "log_size": size}))
