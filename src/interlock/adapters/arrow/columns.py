"""Between Arrow tables and the plain columns of `serving.bulk`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from interlock.base.errors import UsageError
from interlock.serving import bulk

_TIME = pa.timestamp("ns", tz="UTC")


def raw(table: pa.Table) -> dict[str, Any]:
    """The columns of raw transactions as `serving.bulk.take` wants them.

    A column `event_time` of instants (any timestamp; one without a zone is UTC) becomes `event_ns`.
    """
    found: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name)
        if name == "event_time" and pa.types.is_timestamp(column.type):
            found[bulk.EVENT_NS] = instants(column)
        else:
            found[name] = plain(column)
    return found


def plain(column: Any) -> list[Any]:
    """The values as Python's; None for a null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type) or (pa.types.is_integer(column.type) and not column.null_count):
        values: list[Any] = column.to_numpy().tolist()  # some ten times as fast as to_pylist
        return values
    found: list[Any] = column.to_pylist()
    return found


def instants(column: Any) -> npt.NDArray[np.int64]:
    """Timestamps as int64 nanoseconds; `bulk.NO_TIME` for a null or a time beyond their range."""
    times = pc.cast(column, _TIME, safe=False) if column.type != _TIME else column
    seconds = pc.cast(column, pa.timestamp("s", tz="UTC"), safe=False).cast(pa.int64())
    # Nanoseconds overflow silently in 1677 and 2262: what is that far away is no event's time.
    near = pc.and_(pc.greater_equal(seconds, 0), pc.less(seconds, 2**33))
    kept = pc.if_else(pc.fill_null(near, False), times.cast(pa.int64()), bulk.NO_TIME)
    found: npt.NDArray[np.int64] = pc.fill_null(kept, bulk.NO_TIME).to_numpy()
    return found


def vectors(table: pa.Table, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [n, len(names)], NaN for a null.

    Raises:
        UsageError: a column is missing or not float32.
    """
    found = np.empty((table.num_rows, len(names)), np.float32)
    refuse_other_vectors([(field.name, str(field.type)) for field in table.schema], names)
    for index, name in enumerate(names):
        found[:, index] = table.column(name).to_numpy()
    return found


def refuse_other_vectors(columns: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
    """Refuse columns that are not the model's.

    Args:
        columns: (name, Arrow type) of the input.
        names: the model's features.

    Raises:
        UsageError: a feature is missing, or of another type than float32: a cast would change bits unseen.
    """
    known = dict(columns)
    missing = [name for name in names if name not in known]
    if missing:
        raise UsageError(f"vectors without {', '.join(missing[:5])}", "give every feature of the model as a column")
    other = [name for name in names if known[name] != "float"]
    if other:
        raise UsageError(f"features that are not float32: {', '.join(other[:5])}", "cast them when you compute them")


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
