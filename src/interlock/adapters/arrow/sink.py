"""Parquet out: the scored rows, the rejected ones, and the pieces of work between.

Contract. Equal rows give equal bytes, so that an output can be compared by digest. A local target
appears whole or not at all (temporary file, fsync, rename); an object store's object appears when
its upload is complete. What lies under a work folder is its owner's alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from interlock.adapters.arrow.source import locate
from interlock.base.errors import UnreachableError
from interlock.base.files import replacing
from interlock.serving.bulk import Scored

METADATA = b"interlock"
_PRIVATE = 0o600
_PIECE = 8 * 1_048_576

_PLAIN = [
    pa.field("transaction_id", pa.string()),
    pa.field("score", pa.float32()),
    pa.field("decision", pa.string()),
    pa.field("model_version", pa.string()),
    pa.field("bundle", pa.string()),
    pa.field("threshold_set", pa.string()),
]
REJECTS = pa.schema([pa.field("part", pa.string()), pa.field("row", pa.int64()), pa.field("reason", pa.string())])
TAKEN = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        *(pa.field(kind, pa.string()) for kind in ("card", "terminal", "device", "ip")),
        pa.field("amount", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("currency", "mcc", "country")),
        pa.field("event_ns", pa.int64()),
    ]
)


def output_schema(width: int | None, metadata: bytes = b"") -> pa.Schema:
    """Columns of scored rows; with `width` also the vector. `metadata` stands under the key `interlock`."""
    fields = [*_PLAIN, *([pa.field("vector", pa.list_(pa.float32(), width))] if width else [])]
    return pa.schema(fields, {METADATA: metadata} if metadata else None)


def scored_batch(
    ids: Sequence[str | None] | pa.Array, scored: Scored, names: tuple[str, str, str], schema: pa.Schema
) -> pa.RecordBatch:
    """Scored rows.

    Args:
        ids: transaction ids.
        scored: what came out.
        names: model version, bundle and threshold set.
        schema: of `output_schema`.
    """
    count = len(scored.scores)
    columns = [
        pa.array(ids, pa.string()) if not isinstance(ids, pa.Array) else ids,
        pa.array(scored.scores, pa.float32()),
        pa.array(scored.decisions, pa.string()),
        *(pa.repeat(pa.scalar(name, pa.string()), count) for name in names),
    ]
    if "vector" in schema.names:
        flat = pa.array(np.ascontiguousarray(scored.vectors).reshape(-1), pa.float32())
        columns.append(pa.FixedSizeListArray.from_arrays(flat, scored.vectors.shape[1]))
    return pa.record_batch(columns, schema=schema)


def rejects(part: str, rows: Sequence[int], reasons: Sequence[str]) -> pa.Table:
    """Rejected rows by part and place in it."""
    return pa.table([pa.repeat(pa.scalar(part), len(rows)), list(rows), list(reasons)], schema=REJECTS)


def taken(inputs: Mapping[str, Any], event_ns: npt.NDArray[np.int64]) -> pa.Table:
    """Tokenised rows, as a piece of work."""
    return pa.table({**inputs, "event_ns": event_ns}, schema=TAKEN)


def write(path: Path, table: pa.Table | pa.RecordBatch) -> None:
    """One piece of work, whole and durable."""
    with replacing(path, _PRIVATE) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        writer.write(table)


def join(paths: Iterable[Path], schema: pa.Schema, target: Path) -> None:
    """Pieces of work as one file, a row group for each that has rows."""
    with replacing(target, _PRIVATE) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for path in paths:
            table = pq.read_table(path, schema=schema.remove_metadata())
            if table.num_rows:
                writer.write_table(table.replace_schema_metadata(schema.metadata))


def publish(path: Path, place: str) -> None:
    """Copy a finished file to a local path or a URI.

    Raises:
        UnreachableError: the place does not take it.
    """
    target, name = locate(place)
    try:
        if isinstance(target, fs.LocalFileSystem):
            with path.open("rb") as source, replacing(Path(name)) as file:
                while piece := source.read(_PIECE):
                    file.write(piece)
            return
        with path.open("rb") as source, target.open_output_stream(name) as stream:
            while piece := source.read(_PIECE):
                stream.write(piece)
    except OSError as error:
        raise UnreachableError(
            f"the output cannot be written ({type(error).__name__})", "check the place and your rights, and run again"
        ) from error


def fetch(place: str) -> bytes | None:
    """The bytes at a place, or None where there is nothing."""
    target, name = locate(place)
    try:
        with target.open_input_stream(name) as stream:
            found: bytes = stream.read()
            return found
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreachableError(f"the output's place cannot be read ({type(error).__name__})", "check it") from error


def reasons(path: Path) -> list[str]:
    """The reasons in a piece of rejected rows."""
    found: list[str] = pq.read_table(path, columns=["reason"]).column(0).to_pylist()
    return found


def digest(place: str) -> str | None:
    """`sha256:` of the bytes at a path or URI; None where there is nothing."""
    target, name = locate(place)
    found = hashlib.sha256()
    try:
        with target.open_input_stream(name) as stream:
            while piece := stream.read(_PIECE):
                found.update(piece)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreachableError(
            f"a place cannot be read ({type(error).__name__})", "check it and your rights"
        ) from error
    return f"sha256:{found.hexdigest()}"
