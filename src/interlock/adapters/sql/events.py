"""The `events` table: the one place where control decisions become true.

SQLite (WAL, synchronous=FULL, so a commit is an fsync of the write-ahead log) or any database
that SQLAlchemy Core speaks to. Every write is one transaction that takes the write lock first
(BEGIN IMMEDIATE, or an advisory lock): two processes on one database wait for each other for up to 10 s and then get
UnreachableError, never half a write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, create_engine, event, func, select, update
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import IntegrityError as RowConflict

from interlock.adapters.sql.schema import EVENTS, LEASES, migrate
from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError
from interlock.trust.event import Event, NewEvent, entry_bytes, stored

_REMEDY = "stop the sequencer and compare the database with the log"
_BUSY_S = 10
# One writer at a time: on PostgreSQL ids are taken before commit, and who reads "id > last" would skip late ones.
_ADVANCE = "SELECT setval(pg_get_serial_sequence('events', 'id'), (SELECT max(id) FROM events))"
_FIRST = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7310584013)"}


class SqlEventStore:
    """Implements `SequencedStore` on a SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        self._engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine)
        with self._writing() as connection:
            migrate(connection)

    @classmethod
    def open(cls, path: Path) -> SqlEventStore:
        """The SQLite database at `path`, created when missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{path}")

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _translated(), self._engine.begin() as connection:
            if (first := _FIRST.get(connection.dialect.name)) is not None:
                connection.exec_driver_sql(first)
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _translated(), self._engine.connect() as connection:
            yield connection

    def append(self, event: NewEvent) -> Event:
        """Store one event; durable on return."""
        return self.append_many([event])[0]

    def append_many(self, events: Sequence[NewEvent], lease: tuple[str, int] | None = None) -> list[Event]:
        """Store all of them in one transaction; durable on return."""
        with self._writing() as connection:
            if lease is not None:
                epoch = connection.execute(select(LEASES.c.epoch).where(LEASES.c.name == lease[0])).scalar_one_or_none()
                if epoch != lease[1]:
                    raise RefusedError("somebody else has taken the lease", "stop this one, or wait for its lease")
            return [_insert(connection, new) for new in events]

    def after(self, event_id: int, types: Collection[str] | None = None, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a greater id, ascending."""
        query = select(EVENTS).where(EVENTS.c.id > event_id).order_by(EVENTS.c.id).limit(limit)
        if types is not None:
            query = query.where(EVENTS.c.type.in_(sorted(types)))
        with self._reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def unsequenced(self, limit: int = 1000) -> list[Event]:
        """The first `limit` events without a log index, by id."""
        query = select(EVENTS).where(EVENTS.c.log_index.is_(None)).order_by(EVENTS.c.id).limit(limit)
        with self._reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def sequenced(self, from_index: int, limit: int = 1000) -> list[Event]:
        """The first `limit` events with a log index of `from_index` or more, by index."""
        query = select(EVENTS).where(EVENTS.c.log_index >= from_index).order_by(EVENTS.c.log_index).limit(limit)
        with self._reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def integrate(self, assigned: Sequence[tuple[int, int]]) -> None:
        """Set log indexes, all in one transaction."""
        try:
            with self._writing() as connection:
                for event_id, index in assigned:
                    done = connection.execute(
                        update(EVENTS)
                        .where(EVENTS.c.id == event_id, EVENTS.c.log_index.is_(None))
                        .values(log_index=index)
                    )
                    if done.rowcount != 1:
                        raise IntegrityError("an event is unknown or has a log index already", _REMEDY)
        except RowConflict as error:
            raise IntegrityError("a log index is taken", _REMEDY) from error

    def restore(self, events: Sequence[Event]) -> int:
        """Insert events which the log holds and this database lost."""
        with self._writing() as connection:
            missing = [wanted for wanted in events if not _has(connection, wanted)]
            ceiling = max((wanted.id for wanted in events), default=0)
            for wanted in missing:
                _give_way(connection, wanted.id, ceiling)
                connection.execute(EVENTS.insert().values(id=wanted.id, log_index=wanted.log_index, **_content(wanted)))
            if missing and connection.dialect.name == "postgresql":
                connection.exec_driver_sql(_ADVANCE)  # explicit ids do not move its sequence
            return len(missing)

    def lease(self, name: str, holder: str, now_ns: int, ttl_ns: int) -> int | None:
        """Take, renew or (with a `ttl_ns` of 0) give back a lease."""
        with self._writing() as connection:
            query = select(LEASES).where(LEASES.c.name == name).with_for_update()
            row = connection.execute(query).one_or_none()
            if row is None:
                connection.execute(
                    LEASES.insert().values(name=name, holder=holder, epoch=1, expires_ns=now_ns + ttl_ns)
                )
                return 1
            if row.holder != holder and row.expires_ns > now_ns:
                return None
            epoch: int = row.epoch + (row.holder != holder)
            connection.execute(
                update(LEASES)
                .where(LEASES.c.name == name)
                .values(holder=holder, epoch=epoch, expires_ns=now_ns + ttl_ns)
            )
            return epoch


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # Autocommit mode: the driver must not open transactions of its own before BEGIN IMMEDIATE.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_S * 1000}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RowConflict:
        raise
    except OperationalError as error:
        raise UnreachableError(
            "the events database did not answer", "check its disk, its path and who holds its lock"
        ) from error
    except DBAPIError as error:
        raise IntegrityError("the events database refused the statement", _REMEDY) from error
    except SQLAlchemyError as error:
        raise UnreachableError("the events database did not answer", "check the database's URL") from error


def _insert(connection: Connection, new: NewEvent) -> Event:
    done = connection.execute(EVENTS.insert().values(**_content(new)))
    if done.inserted_primary_key is None:
        raise IntegrityError("the database gave a new event no id", _REMEDY)
    return stored(new, int(done.inserted_primary_key[0]))


def _content(item: NewEvent | Event) -> dict[str, Any]:
    names = ("time_ns", "type", "actor", "origin", "object", "outcome")
    return {**{name: getattr(item, name) for name in names}, "body": canonical(item.body)}


def _event(row: Row[Any]) -> Event:
    return Event(
        id=row.id,
        time_ns=row.time_ns,
        type=row.type,
        actor=row.actor,
        origin=row.origin,
        object=row.object,
        outcome=row.outcome,
        body=msgspec.json.decode(row.body, type=dict[str, Any]),
        log_index=row.log_index,
    )


def _has(connection: Connection, wanted: Event) -> bool:
    """Whether the database holds exactly this event; a contradiction raises."""
    if wanted.log_index is None:
        raise IntegrityError("only events with a log index are restored", _REMEDY)
    either = (EVENTS.c.id == wanted.id) | (EVENTS.c.log_index == wanted.log_index)
    for row in connection.execute(select(EVENTS).where(either)):
        here = _event(row)
        if here.log_index is None:
            continue
        if here.log_index == wanted.log_index and entry_bytes(here) == entry_bytes(wanted):
            return True
        raise IntegrityError("the database contradicts the log", _REMEDY)
    return False


def _give_way(connection: Connection, event_id: int, ceiling: int) -> None:
    """Move an acknowledged event off an id that the log's event needs."""
    highest = connection.execute(select(func.max(EVENTS.c.id))).scalar() or 0
    new_id = max(highest, ceiling) + 1
    connection.execute(update(EVENTS).where(EVENTS.c.id == event_id).values(id=new_id))
