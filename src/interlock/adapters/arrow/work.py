"""The pieces of work of a batch, read back as columns of integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from interlock.adapters.arrow.columns import plain
from interlock.adapters.arrow.sink import write

Ints = npt.NDArray[np.int64]
_INPUTS = ("amount", "currency", "mcc", "country", "event_ns")


def numbers(paths: Sequence[Path], name: str) -> Ints:
    """One integer column of all pieces, int64 [n]."""
    parts = [pq.read_table(path, columns=[name]).column(0).to_numpy() for path in paths]
    return np.concatenate(parts).astype(np.int64, copy=False) if parts else np.empty(0, np.int64)


def codes(paths: Sequence[Path], name: str, before: npt.NDArray[Any] | None = None) -> Ints:
    """One text column of all pieces as integer codes, after those of `before`: equal texts, equal codes."""
    chunks = [chunk for path in paths for chunk in pq.read_table(path, columns=[name]).column(0).chunks]
    if before is not None and len(before):
        chunks.insert(0, pa.array(before.tolist(), pa.string()))
    encoded = pa.chunked_array(chunks, pa.string()).dictionary_encode().unify_dictionaries()
    parts = [chunk.indices.to_numpy() for chunk in encoded.chunks]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


def inputs(path: Path) -> tuple[pa.Array, dict[str, Any], Ints]:
    """Of one piece: transaction ids, the request's fields that a vector is made of, and event times (ns)."""
    table = pq.read_table(path)
    fields: dict[str, Any] = {name: plain(table.column(name)) for name in ("currency", "mcc", "country")}
    fields["amount"] = table.column("amount").to_numpy().copy()  # Arrow's memory is not ours to write to
    return table.column("transaction_id").combine_chunks(), fields, table.column("event_ns").to_numpy()


def note_repeats(path: Path, paths: Sequence[Path], rows: Ints, firsts: Ints) -> None:
    """Write, for repeated rows, the fields of the transaction that was answered first.

    Args:
        path: where to.
        paths: all pieces.
        rows: int64 [k], ascending: places of the repeated rows among all.
        firsts: int64 [k]: places of the rows they repeat.
    """
    found = [pq.read_table(each, columns=list(_INPUTS)) for each in paths] if len(rows) else []
    fields = pa.concat_tables(found).take(pa.array(firsts)) if found else pa.table({})
    write(path, fields.append_column("row", pa.array(rows)))


def repeats(path: Path) -> tuple[Ints, dict[str, Any]]:
    """What `note_repeats` wrote: the rows, and the fields."""
    table = pq.read_table(path)
    return table.column("row").to_numpy(), {name: plain(table.column(name)) for name in _INPUTS}
