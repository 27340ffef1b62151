"""One contract, every event store: the SQL table and the in-memory one."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import NullPool, create_engine

from interlock.adapters.sql.events import SqlEventStore
from interlock.adapters.sql.schema import METADATA
from interlock.base.errors import IntegrityError, RefusedError, UsageError
from interlock.trust.event import Event, NewEvent, stored
from interlock.trust.memory import MemoryEventStore
from interlock.trust.ports import SequencedStore

SECOND = 1_000_000_000


def new(number: int, kind: str = "release.proposed") -> NewEvent:
    return NewEvent(
        time_ns=1_790_000_000 * SECOND + number,
        type=kind,
        actor="alice",
        origin="test",
        object="service/fraud",
        outcome="success",
        body={"number": number, "text": "é"},
    )


# A further database to try, such as postgresql+psycopg://…/test; its tables are dropped before each test.
ELSEWHERE = os.environ.get("INTERLOCK_TEST_DATABASE")


@pytest.fixture(params=["sqlite", "memory", *(["elsewhere"] if ELSEWHERE else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SequencedStore]:
    if request.param == "memory":
        yield MemoryEventStore()
        return
    if request.param == "elsewhere" and ELSEWHERE:
        METADATA.drop_all(create_engine(ELSEWHERE, poolclass=NullPool))
        opened = SqlEventStore(ELSEWHERE)
    else:
        opened = SqlEventStore.open(tmp_path / "home" / "events.db")
    yield opened
    opened.close()


def test_events_come_back_as_they_were_appended_in_the_order_of_their_ids(store: SequencedStore) -> None:
    appended = [store.append(new(n)) for n in range(5)]
    assert store.after(0) == appended
    assert [event.id for event in appended] == sorted({event.id for event in appended})
    assert store.after(appended[1].id) == appended[2:]
    assert store.after(0, limit=2) == appended[:2]


def test_reading_by_type_leaves_other_types_out(store: SequencedStore) -> None:
    store.append(new(1))
    other = store.append(new(2, "release.refused"))
    assert store.after(0, types=["release.refused", "control.started"]) == [other]
    assert store.after(0, types=[]) == []


def test_append_many_is_all_or_nothing(store: SequencedStore) -> None:
    with pytest.raises(AttributeError):
        store.append_many([new(1), None])  # type: ignore[list-item]
    assert store.after(0) == []
    assert len(store.append_many([new(1), new(2)])) == 2


def test_log_indexes_are_assigned_once_and_never_shared(store: SequencedStore) -> None:
    a, b, c = store.append_many([new(1), new(2), new(3)])
    store.integrate([(a.id, 0), (b.id, 1)])
    assert [event.log_index for event in store.sequenced(0)] == [0, 1]
    assert store.sequenced(1)[0].id == b.id
    assert store.unsequenced() == [c]
    for wrong in ([(c.id, 1)], [(a.id, 2)], [(999, 2)], [(c.id, 2), (b.id, 3)]):
        with pytest.raises(IntegrityError):
            store.integrate(wrong)
    assert store.unsequenced() == [c], "a refused assignment leaves nothing behind"


def test_a_lease_has_one_holder_and_its_epoch_grows_with_each_change_of_holder(store: SequencedStore) -> None:
    assert store.lease("sequencer", "one", 0, 10) == 1
    assert store.lease("sequencer", "two", 5, 10) is None
    assert store.lease("sequencer", "one", 9, 10) == 1, "renewed until 19"
    assert store.lease("sequencer", "two", 18, 10) is None
    assert store.lease("sequencer", "two", 19, 10) == 2
    assert store.lease("sequencer", "two", 20, 0) == 2, "given back"
    assert store.lease("sequencer", "one", 20, 10) == 3
    assert store.lease("reconciler", "two", 20, 10) == 1, "leases are independent"


def test_who_has_lost_its_lease_appends_nothing(store: SequencedStore) -> None:
    assert store.lease("controller", "one", 0, 10) == 1
    assert len(store.append_many([new(1)], lease=("controller", 1))) == 1
    assert store.lease("controller", "two", 11, 10) == 2
    for epoch in (1, 3):
        with pytest.raises(RefusedError, match="lease"):
            store.append_many([new(2)], lease=("controller", epoch))
    with pytest.raises(RefusedError, match="lease"):
        store.append_many([new(2)], lease=("another", 1))
    store.append_many([new(3)], lease=("controller", 2))
    assert [event.body["number"] for event in store.after(0)] == [1, 3]


def test_of_two_threads_that_want_a_free_lease_one_gets_it(store: SequencedStore) -> None:
    got: list[int | None] = []
    threads = [
        threading.Thread(target=lambda name=name: got.append(store.lease("one", name, 0, 10)))
        for name in ("a", "b", "c", "d")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(epoch or 0 for epoch in got) == [0, 0, 0, 1]


def test_threads_append_without_losing_or_doubling_an_event(store: SequencedStore) -> None:
    def work(base: int) -> None:
        for n in range(20):
            store.append(new(base + n))

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = store.after(0)
    assert len(events) == 80
    assert len({event.body["number"] for event in events}) == 80


def test_events_that_only_the_log_holds_are_restored(store: SequencedStore) -> None:
    kept = store.append(new(1))
    store.integrate([(kept.id, 0)])
    lost = [stored(new(n), kept.id + n, n) for n in (1, 2)]
    assert store.restore([msgspec.structs.replace(kept, log_index=0), *lost]) == 2
    assert store.sequenced(1) == lost
    assert store.restore(lost) == 0, "restoring again changes nothing"
    assert store.append(new(9)).id > lost[-1].id


def test_an_acknowledged_event_gives_its_id_to_the_log_and_is_not_lost(store: SequencedStore) -> None:
    acknowledged = store.append(new(5))
    from_log = [stored(new(1), acknowledged.id, 0), stored(new(2), acknowledged.id + 1, 1)]
    store.restore(from_log)
    assert store.sequenced(0) == from_log
    assert [event.body for event in store.unsequenced()] == [acknowledged.body]


def test_a_database_that_contradicts_the_log_is_not_overwritten(store: SequencedStore) -> None:
    event = store.append(new(1))
    store.integrate([(event.id, 0)])
    with pytest.raises(IntegrityError):
        store.restore([stored(new(2), event.id, 0)])
    with pytest.raises(IntegrityError):
        store.restore([stored(new(2), event.id + 1, 0)])
    with pytest.raises(IntegrityError):
        store.restore([stored(new(2), event.id + 1)])


def wrong_type() -> NewEvent:
    return new(1, "release.maybe")


def wrong_actor() -> NewEvent:
    return msgspec.structs.replace(new(1), actor="")


def wrong_body() -> NewEvent:
    return msgspec.structs.replace(new(1), body={"at_ns": 1 << 60})


def too_large() -> NewEvent:
    return msgspec.structs.replace(new(1), body={"evidence": "x" * 70_000})


@pytest.mark.parametrize("make", [wrong_type, wrong_actor, wrong_body, too_large])
def test_a_malformed_event_never_reaches_a_store(make: Callable[[], NewEvent]) -> None:
    with pytest.raises(UsageError):
        make()


def test_what_was_appended_is_there_when_the_database_is_opened_again(tmp_path: Path) -> None:
    first = SqlEventStore.open(tmp_path / "events.db")
    event: Event = first.append(new(1))
    first.close()
    again = SqlEventStore.open(tmp_path / "events.db")
    assert again.after(0) == [event]
    again.close()


@pytest.mark.parametrize("statement", ["DELETE FROM events", "UPDATE events SET actor = 'mallory'"])
def test_the_table_refuses_to_change_what_it_holds(tmp_path: Path, statement: str) -> None:
    store = SqlEventStore.open(tmp_path / "events.db")
    store.append(new(1))
    store.close()
    with sqlite3.connect(tmp_path / "events.db") as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
