"""Raw transactions in files: Parquet or CSV, one row each, `event_time` in UTC.

Such a file holds card numbers: it is written for its owner's eyes alone (mode 0600), and what
goes on from it into a snapshot is tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from interlock.base.errors import UsageError

Columns = dict[str, npt.NDArray[Any]]

_TIME = pa.timestamp("ns", tz="UTC")
_TEXT = ("transaction_id", "pan", "currency", "terminal_id", "device_id", "ip", "mcc", "country")


def write_transactions(path: Path, parts: Iterable[Columns]) -> int:
    """Write parts in order to `path` (`.parquet` or `.csv`); the file appears whole or not at all.

    Returns:
        Rows written.

    Raises:
        UsageError: another ending, or nothing to write.
    """
    kind = _kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    rows = 0
    writer: Any = None
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            try:
                for part in parts:
                    table = _table(part)
                    if writer is None:
                        writer = _writer(kind, file, table.schema)
                    writer.write_table(table)
                    rows += table.num_rows
            finally:
                if writer is not None:
                    writer.close()
            if writer is None:
                raise UsageError("no transactions to write", "ask for at least one day")
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return rows


def read_transactions(path: Path) -> Columns:
    """The columns of a file that `write_transactions`, or another tool, wrote; `event_time` as int64 ns.

    Raises:
        UsageError: no such file, not readable, or without the columns.
    """
    try:
        if _kind(path) == "csv":
            convert = csv.ConvertOptions(column_types=dict.fromkeys(_TEXT, pa.string()) | {"event_time": _TIME})
            table = csv.read_csv(path, convert_options=convert)
        else:
            table = pq.read_table(path)
        at = table.column("event_time").cast(_TIME).cast(pa.int64())
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        # The library's message may quote a cell, and a cell may be a card number.
        raise UsageError(
            f"not a file of transactions ({type(error).__name__})", "check its path and its columns"
        ) from None
    found = {name: _column(table.column(name)) for name in table.column_names}
    found["event_time"] = at.to_numpy()
    return found


def _kind(path: Path) -> str:
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError("transactions are written as .parquet or .csv", "end the file's name with one of them")
    return path.suffix[1:]


def _table(part: Columns) -> pa.Table:
    return pa.table(
        {name: pa.array(values, _TIME) if name == "event_time" else pa.array(values) for name, values in part.items()}
    )


def _writer(kind: str, file: Any, schema: pa.Schema) -> Any:
    return csv.CSVWriter(file, schema) if kind == "csv" else pq.ParquetWriter(file, schema, compression="zstd")


def _column(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_numpy()
    return values if values.dtype.kind != "O" else np.asarray(values.tolist())
