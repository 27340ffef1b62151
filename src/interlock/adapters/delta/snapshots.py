"""Dataset snapshots: Delta tables of tokenised events, named by a digest over every value.

The digest is BLAKE2b-128 over the canonical Arrow form: the schema (names and types, in order),
then column by column the values, null positions and lengths, independent of how the rows are
chunked, padded, dictionary-encoded or stored. Any changed, moved, added or lost row changes it.

MUSTs: a snapshot holds tokens, never card numbers (`tokenise` refuses to pass other fields on);
`read` returns rows only after their digest has been verified against the snapshot's own; the
snapshot's metadata file is written last and durably, so a crash leaves no half snapshot.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from interlock.base.canonical import canonical
from interlock.base.clock import NS_PER_MS
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.files import write_atomic
from interlock.features.definition import ENTITY_KINDS, FeatureSet
from interlock.features.offline import Events, build_states
from interlock.features.online import Base
from interlock.privacy.pan import refuse_sensitive

_FORMAT = 1
_PREFIX = "blake2b-128:"
_METADATA = "interlock-snapshots"
_RAW_COLUMN = {"card": "pan", "terminal": "terminal_id", "device": "device_id", "ip": "ip"}
_ROW = "row"
_KEPT = ("transaction_id", "amount", "currency", "mcc", "country", "merchant", "age_group", "label", "scenario")


class EntityTokeniser(Protocol):
    """What `privacy.token.Tokeniser` offers."""

    def card(self, text: str) -> str:
        """Token of a card number."""
        ...

    def entity(self, kind: str, value: str) -> str:
        """Token of another entity."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """One immutable state of a table.

    Attributes:
        table: name of the table.
        version: Delta version.
        digest: `blake2b-128:` and 32 hex digits over all rows.
        rows: how many.
        columns: (name, Arrow type) in order.
        first_ns: earliest event time.
        last_ns: latest event time.
        source: where the rows came from, in words.
    """

    table: str
    version: int
    digest: str
    rows: int
    columns: tuple[tuple[str, str], ...]
    first_ns: int
    last_ns: int
    source: str

    def to_json(self) -> dict[str, Any]:
        """The metadata file's content."""
        body = asdict(self)
        # Nanoseconds exceed what canonical JSON holds exactly.
        body |= {"first_ns": str(self.first_ns), "last_ns": str(self.last_ns)}
        body |= {"format": _FORMAT, "columns": [list(c) for c in self.columns]}
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Snapshot:
        """The snapshot that `to_json` wrote.

        Raises:
            IntegrityError: it is not one.
        """
        try:
            if body["format"] != _FORMAT:
                raise IntegrityError("a snapshot of an unknown format", "read it with the version that wrote it")
            return cls(
                table=str(body["table"]),
                version=int(body["version"]),
                digest=str(body["digest"]),
                rows=int(body["rows"]),
                columns=tuple((str(name), str(kind)) for name, kind in body["columns"]),
                first_ns=int(body["first_ns"]),
                last_ns=int(body["last_ns"]),
                source=str(body["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError("a malformed snapshot", "write the snapshot again") from error


def tokenise(columns: Mapping[str, npt.NDArray[Any]], tokeniser: EntityTokeniser) -> pa.Table:
    """Raw transactions as a table of tokens: `card, terminal, device, ip`, the inputs, the labels.

    Every distinct value is tokenised once. Columns that are not known are left out.

    Raises:
        UsageError: an entity, the amount or the time is missing.
    """
    missing = [name for name in (*_RAW_COLUMN.values(), "amount", "event_time") if name not in columns]
    if missing:
        raise UsageError(f"transactions without {', '.join(missing)}", "add the columns")
    tokens = {kind: _tokens(kind, columns[_RAW_COLUMN[kind]], tokeniser) for kind in ENTITY_KINDS}
    rest = {name: pa.array(columns[name]) for name in _KEPT if name in columns}
    at = pa.array(np.asarray(columns["event_time"], np.int64), pa.int64())
    return pa.table({"event_time": at} | tokens | rest)


def _tokens(kind: str, values: npt.NDArray[Any], tokeniser: EntityTokeniser) -> pa.Array:
    distinct, codes = np.unique(values, return_inverse=True)
    one = tokeniser.card if kind == "card" else lambda value: tokeniser.entity(kind, value)
    return pa.array([one(value) for value in distinct.tolist()]).take(pa.array(codes))


def digest_table(table: pa.Table) -> str:
    """`blake2b-128:<32 hex>` over schema and values; see the module's contract.

    Raises:
        UsageError: a column's type has no canonical form here.
    """
    table = table.combine_chunks()
    found = hashlib.blake2b(digest_size=16)
    found.update(b"interlock-arrow-1\0")
    found.update(canonical([table.num_rows, [[f.name, str(_plain_type(f.type))] for f in table.schema]]))
    for column in table.columns:
        _digest_column(found, column)
    return _PREFIX + found.hexdigest()


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    return kind


def _digest_column(found: hashlib.blake2b, column: pa.ChunkedArray) -> None:
    plain = column.cast(_plain_type(column.type)).combine_chunks()
    if isinstance(plain, pa.ChunkedArray):
        plain = pa.concat_arrays(plain.chunks) if plain.num_chunks else pa.array([], plain.type)
    nulls = np.packbits(plain.is_null().to_numpy(zero_copy_only=False)) if plain.null_count else np.empty(0, np.uint8)
    found.update(canonical([plain.null_count]) + nulls.tobytes())
    kind = plain.type
    if pa.types.is_large_string(kind):
        whole = plain.fill_null("")
        found.update(pc.binary_length(whole).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        # Joining gives the used bytes alone, whatever the offsets and the padding were.
        found.update("".join(whole.to_pylist()).encode())
    elif pa.types.is_boolean(kind):
        found.update(np.packbits(plain.fill_null(False).to_numpy(zero_copy_only=False)).tobytes())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = plain.fill_null(0).to_numpy(zero_copy_only=False)
        found.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    else:
        raise UsageError("a column type without canonical form", "store integers, floats, booleans or strings")


def write_snapshot(folder: Path, table: pa.Table, name: str, source: str) -> Snapshot:
    """Write the table as the next version of the Delta table at `folder`, and describe it.

    Raises:
        UsageError: it has no rows, or columns that the existing table has not.
    """
    if not table.num_rows or "event_time" not in table.column_names:
        raise UsageError("a snapshot needs rows with an event_time", "check the source")
    refuse_sensitive(table.column_names)
    if {"pan", _ROW} & set(table.column_names):
        raise UsageError("a snapshot with card numbers, or with a column `row`", "tokenise the transactions first")
    folder.mkdir(parents=True, exist_ok=True)
    numbered = table.append_column(_ROW, pa.array(np.arange(table.num_rows, dtype=np.int64)))
    try:
        write_deltalake(str(folder), numbered, mode="overwrite")
    except (DeltaError, ValueError) as error:
        raise UsageError(
            f"the table refused these rows ({type(error).__name__})", "keep the schema, or write another table"
        ) from error
    version = DeltaTable(str(folder)).version()
    # The digest is of what a reader gets, so that a fault in writing shows here and not in an audit.
    stored = _load(folder, version)
    digest = digest_table(stored)
    if digest != digest_table(table):
        raise IntegrityError("the table reads back other rows than were written", "check the disk, write again")
    times = table.column("event_time")
    snapshot = Snapshot(
        table=name,
        version=version,
        digest=digest,
        rows=table.num_rows,
        columns=tuple((f.name, str(_plain_type(f.type))) for f in table.schema),
        first_ns=pc.min(times).as_py(),
        last_ns=pc.max(times).as_py(),
        source=source,
    )
    write_atomic(_metadata_path(folder, version), canonical(snapshot.to_json()))
    return snapshot


def snapshots(folder: Path) -> list[Snapshot]:
    """Every described version, oldest first."""
    paths = sorted((folder / _METADATA).glob("*.json"))
    return [Snapshot.from_json(json.loads(path.read_bytes())) for path in paths]


def latest(folder: Path) -> Snapshot:
    """The newest snapshot.

    Raises:
        UsageError: there is none.
    """
    found = snapshots(folder)
    if not found:
        raise UsageError("no snapshot in this table", "write one first")
    return found[-1]


def read(folder: Path, snapshot: Snapshot) -> pa.Table:
    """The snapshot's rows, verified.

    Raises:
        IntegrityError: the version is gone, or its rows are not those of the digest.
    """
    try:
        table = _load(folder, snapshot.version)
    except (DeltaError, OSError) as error:
        raise IntegrityError("a snapshot's files are missing", "restore the table's files") from error
    if table.num_rows != snapshot.rows or digest_table(table) != snapshot.digest:
        raise IntegrityError("a snapshot's rows are not those of its digest", "restore the table's files")
    return table


def events_of(table: pa.Table) -> Events:
    """A snapshot's rows as the events of `features.offline`, in the snapshot's order."""
    entities = {kind: np.asarray(table.column(kind).to_pylist()) for kind in ENTITY_KINDS if kind in table.column_names}
    return Events(
        entities=entities,
        event_ms=table.column("event_time").to_numpy() // NS_PER_MS,
        amount=table.column("amount").to_numpy().astype(np.int64),
    )


def states_of(
    feature_set: FeatureSet, snapshot: Snapshot, table: pa.Table, epoch: int = 1
) -> tuple[Iterator[tuple[str, str, bytes]], Base]:
    """What `OnlineStore.load` takes: the states after the snapshot's events, and the base that names it.

    Args:
        feature_set: the definition.
        snapshot: whose verified rows `table` holds (see `read`).
        table: the rows.
        epoch: of the loaded states; the events are its sequence 1..n per entity.
    """
    base = Base(snapshot.digest, feature_set.set_hash, epoch, snapshot.rows)
    return build_states(feature_set, events_of(table), epoch), base


def _metadata_path(folder: Path, version: int) -> Path:
    return folder / _METADATA / f"{version:010d}.json"


def _load(folder: Path, version: int) -> pa.Table:
    # Files and row groups come back in any order: the stored row number restores ours.
    stored = DeltaTable(str(folder), version=version).to_pyarrow_table()
    return stored.take(pc.sort_indices(stored.column(_ROW))).drop_columns([_ROW])
