"""The SQL schema and its migrations. Beside `events` and `leases` every table can be rebuilt.

A migration is a list of statements per dialect; `migrations` records which have run. A released
migration is never edited.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, MetaData, String, Table, text

METADATA = MetaData()

# SQLite's rowid alias must be INTEGER; AUTOINCREMENT is what keeps it from using an id twice.
EVENTS = Table(
    "events",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time_ns", BigInteger, nullable=False),
    Column("type", String(64), nullable=False),
    Column("actor", String(512), nullable=False),
    Column("origin", String(512), nullable=False),
    Column("object", String(512), nullable=False),
    Column("outcome", String(512), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("log_index", BigInteger, nullable=True, unique=True),
    sqlite_autoincrement=True,
)
Index("events_by_type", EVENTS.c.type, EVENTS.c.id)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("holder", String(512), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
)

MIGRATIONS = Table("migrations", METADATA, Column("version", Integer, primary_key=True))

_CONTENT = ("time_ns", "type", "actor", "origin", "object", "outcome", "body")
_CHANGED = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in _CONTENT)

# Append-only by trigger: a slip of the hand is refused. Who drops the trigger is found by the log.
_SQLITE_GUARDS = (
    "CREATE TRIGGER events_no_delete BEFORE DELETE ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END",
    f"CREATE TRIGGER events_no_update BEFORE UPDATE ON events WHEN OLD.log_index IS NOT NULL OR {_CHANGED} "
    "BEGIN SELECT RAISE(ABORT, 'events are never changed'); END",
)
_POSTGRES_GUARDS = (
    "CREATE OR REPLACE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'events are never changed or deleted'; END $$",
    "CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION events_refuse()",
    "CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW "
    f"WHEN (OLD.log_index IS NOT NULL OR {_CHANGED.replace(' IS NOT ', ' IS DISTINCT FROM ')}) "
    "EXECUTE FUNCTION events_refuse()",
)


def migrate(connection: Connection) -> None:
    """Bring the database to this schema; does nothing when it is there already."""
    MIGRATIONS.create(connection, checkfirst=True)
    done = {row.version for row in connection.execute(MIGRATIONS.select())}
    for version, step in enumerate((_first,), start=1):
        if version not in done:
            step(connection)
            connection.execute(MIGRATIONS.insert().values(version=version))


def _first(connection: Connection) -> None:
    EVENTS.create(connection, checkfirst=True)
    LEASES.create(connection, checkfirst=True)
    guards = {"sqlite": _SQLITE_GUARDS, "postgresql": _POSTGRES_GUARDS}.get(connection.dialect.name, ())
    for statement in guards:
        connection.execute(text(statement))
