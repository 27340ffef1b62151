"""Tokenised transactions as Parquet, the bytes that `interlock score` reads. Equal rows give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from interlock.base.errors import IntegrityError

_TEXTS = ("transaction_id", "card", "terminal_id", "device_id", "ip", "currency", "mcc", "country")
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _TEXTS),
        pa.field("amount", pa.int64()),
        pa.field("event_ns", pa.int64()),
    ]
)


def encode(rows: Sequence[dict[str, Any]]) -> bytes:
    """The rows as one Parquet file; a field that a row lacks is null."""
    plain = [{**row, "event_ns": int(row["event_ns"])} for row in rows]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(plain, SCHEMA), out, compression="zstd")
    return out.getvalue()


def decode(data: bytes) -> list[dict[str, Any]]:
    """The rows of `encode`, without their nulls.

    Raises:
        IntegrityError: no such file.
    """
    try:
        table = pq.read_table(io.BytesIO(data), schema=SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError("not a Parquet file of transactions", "copy it anew") from error
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
