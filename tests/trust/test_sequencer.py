"""The sequencer: every acknowledged event gets one place in the log, whatever dies in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.adapters.sql.events import SqlEventStore
from interlock.apps.control.sequencer import LEASE_NS, Sequencer
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import IntegrityError, UnreachableError
from interlock.base.files import write_atomic
from interlock.trust.event import Event, NewEvent, entry_bytes, parse_entry
from interlock.trust.fsck import verify_folder
from interlock.trust.log import CHECKPOINT, LogReader, LogWriter
from interlock.trust.memory import MemoryEventStore
from interlock.trust.note import Signer
from interlock.trust.ports import SequencedStore
from interlock.trust.sshsig import Key

pytestmark = pytest.mark.process  # every test syncs many files

SIGNER = Signer("interlock/test", Key.generate())


def new(number: int) -> NewEvent:
    return NewEvent(
        time_ns=number,
        type="release.proposed",
        actor="ada",
        origin="test",
        object="service/fraud",
        outcome="success",
        body={"number": number},
    )


def unsynced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def sequencer(
    store: SequencedStore,
    folder: Path,
    clock: ManualClock | None = None,
    holder: str = "one",
    write: Callable[[Path, bytes], None] = unsynced,
) -> Sequencer:
    return Sequencer(store, LogWriter(folder, SIGNER, write), clock or ManualClock(), holder)


def logged(folder: Path) -> list[Event]:
    """The verified log's events; each exactly once."""
    report = verify_folder(folder, SIGNER.verifier.to_text(), wait=lambda seconds: None)
    assert report.verified, report.errors
    reader = LogReader.open(folder, SIGNER.verifier)
    events = [parse_entry(entry, index) for index, entry in enumerate(reader.entries())]
    assert len({event.id for event in events}) == len(events)
    return events


def fold(store: SequencedStore) -> list[Event]:
    return store.sequenced(0, 10_000)


def test_events_get_into_the_log_in_the_order_of_their_ids(tmp_path: Path) -> None:
    store = MemoryEventStore()
    store.append_many([new(n) for n in range(5)])
    one = sequencer(store, tmp_path)
    assert one.run_once() == 5
    assert one.run_once() == 0
    last = store.append(new(5))
    assert one.integrate_until(last.id) == 5
    assert logged(tmp_path) == fold(store)
    assert [event.body["number"] for event in logged(tmp_path)] == list(range(6))


class _Kill(Exception):
    """The process dies here."""


class Dying(MemoryEventStore):
    """A store whose process dies around the assignment of indexes."""

    def __init__(self) -> None:
        super().__init__()
        self.die = ""

    def integrate(self, assigned: Sequence[tuple[int, int]]) -> None:
        if self.die == "before":
            raise _Kill
        super().integrate(assigned)
        if self.die == "after":
            raise _Kill


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_the_assignment_loses_and_doubles_nothing(when: str, tmp_path: Path) -> None:
    store = Dying()
    store.append_many([new(n) for n in range(3)])
    sequencer(store, tmp_path).run_once()
    store.append_many([new(n) for n in range(3, 6)])
    store.die = when
    with pytest.raises(_Kill):
        sequencer(store, tmp_path).run_once()
    store.die = ""
    store.append(new(6))
    sequencer(store, tmp_path).run_once()
    assert [event.body["number"] for event in logged(tmp_path)] == list(range(7))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5), st.booleans()), min_size=1, max_size=12))
def test_any_series_of_kills_at_writes_ends_in_one_whole_log(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, int, bool]]
) -> None:
    folder, store, number = tmp_path_factory.mktemp("log") / "log", MemoryEventStore(), 0
    for events, writes, finished in lives:
        left = writes

        def write(path: Path, data: bytes, finished: bool = finished) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                if finished:
                    unsynced(path, data)
                raise _Kill
            unsynced(path, data)

        store.append_many([new(number + n) for n in range(events)])
        number += events
        try:
            sequencer(store, folder, write=write).run_once()
        except _Kill:
            continue
    sequencer(store, folder).run_once()
    assert [event.body["number"] for event in logged(folder)] == list(range(number))
    assert logged(folder) == fold(store)


def test_a_full_disk_stops_the_log_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    room = [False]

    def write(path: Path, data: bytes) -> None:
        if not room[0] and path.name != CHECKPOINT:
            raise OSError(28, "No space left on device")
        unsynced(path, data)

    store = MemoryEventStore()
    one = sequencer(store, tmp_path, write=write)
    first = store.append(new(0))
    with pytest.raises(UnreachableError, match="No space"):
        one.run_once()
    store.append(new(1))
    room[0] = True
    assert one.integrate_until(first.id) == 0
    assert [event.body["number"] for event in logged(tmp_path)] == [0, 1]


def test_a_database_restored_from_an_old_backup_gets_back_what_the_log_holds(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = SqlEventStore.open(path)
    store.append_many([new(n) for n in range(3)])
    sequencer(store, tmp_path / "log").run_once()
    store.close()
    backup = path.read_bytes()
    store = SqlEventStore.open(path)
    store.append_many([new(n) for n in range(3, 300)])
    sequencer(store, tmp_path / "log").run_once()
    store.close()
    for leftover in tmp_path.glob("events.db-*"):
        leftover.unlink()
    path.write_bytes(backup)
    store = SqlEventStore.open(path)
    acknowledged = store.append(new(9_999))  # before the sequencer noticed: it must not be lost either
    sequencer(store, tmp_path / "log").run_once()
    *events, last = logged(tmp_path / "log")
    assert [event.body["number"] for event in events] == [*range(300), acknowledged.body["number"]]
    assert (last.type, last.body) == ("log.replayed", {"events": 297, "log_size": 300})
    assert logged(tmp_path / "log") == fold(store)
    store.close()


def test_an_event_changed_in_the_database_is_found(tmp_path: Path) -> None:
    store = MemoryEventStore()
    store.append_many([new(n) for n in range(3)])
    sequencer(store, tmp_path).run_once()
    forged = MemoryEventStore()
    forged.append_many([new(0), new(77), new(2)])
    forged.integrate([(1, 0), (2, 1), (3, 2)])
    one = sequencer(forged, tmp_path)
    for _ in range(3):
        with pytest.raises(IntegrityError, match="event 2 differs from entry 1"):
            one.run_once()
    assert [event.body for event in forged.after(0, ["log.damage.found"])] == [
        {"finding": "event 2 differs from entry 1 of the log"}
    ], "an event, once"


def test_an_older_log_put_back_is_completed_when_the_database_still_knows(tmp_path: Path) -> None:
    store = MemoryEventStore()
    store.append_many([new(n) for n in range(3)])
    sequencer(store, tmp_path / "log").run_once()
    shutil.copytree(tmp_path / "log", tmp_path / "older")
    store.append_many([new(n) for n in range(3, 9)])
    sequencer(store, tmp_path / "log").run_once()
    newest = (tmp_path / "log" / CHECKPOINT).read_text().split("\n")[:3]
    shutil.rmtree(tmp_path / "log")
    shutil.copytree(tmp_path / "older", tmp_path / "log")
    sequencer(store, tmp_path / "log").run_once()
    assert (tmp_path / "log" / CHECKPOINT).read_text().split("\n")[:3] == newest, "the same tree, not a fork"


def test_an_older_checkpoint_under_a_living_sequencer_is_refused(tmp_path: Path) -> None:
    store = MemoryEventStore()
    one = sequencer(store, tmp_path)
    store.append(new(0))
    one.run_once()
    older = (tmp_path / CHECKPOINT).read_bytes()
    store.append(new(1))
    one.run_once()
    (tmp_path / CHECKPOINT).write_bytes(older)
    with pytest.raises(IntegrityError, match="older checkpoint"):
        one.run_once()


def test_two_sequencers_take_turns_by_lease_and_write_one_log(tmp_path: Path) -> None:
    store, clock = MemoryEventStore(), ManualClock()
    one, two = (sequencer(store, tmp_path, clock, holder) for holder in ("one", "two"))
    event = store.append(new(0))
    assert one.run_once() == 1
    waiting = store.append(new(1))
    assert two.run_once() == 0, "the other one holds the lease"
    with pytest.raises(UnreachableError):
        two.integrate_until(waiting.id)
    for turn, holder in enumerate((two, one, two)):
        clock.advance(LEASE_NS / NS_PER_S + 1)
        store.append(new(2 + turn))
        holder.run_once()
    assert one.integrate_until(event.id) == 0
    assert logged(tmp_path) == fold(store)
    assert len(logged(tmp_path)) == 5


def test_an_entry_is_the_same_bytes_in_the_database_and_the_log(tmp_path: Path) -> None:
    store = SqlEventStore.open(tmp_path / "events.db")
    store.append(new(1))
    sequencer(store, tmp_path / "log", write=write_atomic).run_once()
    (entry,) = LogReader.open(tmp_path / "log", SIGNER.verifier).entries()
    assert entry == entry_bytes(fold(store)[0])
    store.close()
