"""From inputs and integers to the model's float32 vector: one function online, offline and in recompute.

The same inputs give the same bytes everywhere: integers are divided in float64, and every column
is rounded to float32 once, at the end. The clock is the edge's; the client's own timestamp is
not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.base.errors import UsageError
from interlock.features.definition import Column, FeatureSet

Inputs = Sequence[Mapping[str, Any]]

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_THURSDAY = 3  # 1970-01-01, counted from Monday


def assemble(
    feature_set: FeatureSet,
    inputs: Inputs,
    values: npt.NDArray[np.int64],
    edge_ms: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Vectors of a batch.

    Args:
        feature_set: names the columns and their order.
        inputs: n mappings with the request's fields (`amount`, `mcc`, `country`).
        values: int64 [n, feature_set.value_count], as the store returns them.
        edge_ms: int64 [n], the edge's receive times.

    Returns:
        float32 [n, feature_set.width].

    Raises:
        UsageError: shapes that do not fit.
    """
    amounts = np.array([one["amount"] for one in inputs], dtype=np.float64)
    columns = {c.source: [one.get(c.source) for one in inputs] for c in feature_set.columns if c.op in _REQUEST}
    return assemble_columns(feature_set, columns, amounts, values, edge_ms)


def assemble_columns(
    feature_set: FeatureSet,
    inputs: Mapping[str, Sequence[Any] | npt.NDArray[Any]],
    amounts: npt.NDArray[Any],
    values: npt.NDArray[np.int64],
    edge_ms: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """`assemble` for inputs that already are columns (training sets)."""
    count = len(amounts)
    if values.shape != (count, feature_set.value_count) or edge_ms.shape != (count,):
        raise UsageError("values or times do not fit the batch", "pass one row per transaction")
    vectors = np.empty((count, feature_set.width), np.float32)
    _fill_velocities(feature_set, values, vectors)
    amount = np.asarray(amounts, np.float64)
    for index, column in enumerate(feature_set.columns):
        if column.op == "velocity":
            continue
        if column.op in _REQUEST:
            vectors[:, index] = _REQUEST[column.op](column, inputs[column.source])
        elif column.op in _CLOCK:
            vectors[:, index] = _CLOCK[column.op](edge_ms)
        else:
            vectors[:, index] = _ratio(feature_set, column, amount, values)
    return vectors


def _fill_velocities(feature_set: FeatureSet, values: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
    """All velocity columns in one copy."""
    targets = [i for i, c in enumerate(feature_set.columns) if c.op == "velocity"]
    sources = [feature_set.offset(c.source) for c in feature_set.columns if c.op == "velocity"]
    if not targets:
        return
    if targets == list(range(targets[0], targets[0] + len(targets))) and sources == list(range(values.shape[1])):
        vectors[:, targets[0] : targets[0] + len(targets)] = values
    else:
        vectors[:, targets] = values[:, sources]


def _number(column: Column, found: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if isinstance(found, np.ndarray) and found.dtype.kind in "if":
        return found.astype(np.float64)
    default = float(column.default)
    return np.array([default if one is None or one == "" else float(one) for one in found], np.float64)


def _equals(column: Column, found: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    default, argument = float(column.default), column.argument
    return np.array([default if one is None else float(one == argument) for one in found], np.float64)


def _hour(edge_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return edge_ms // _HOUR_MS % 24


def _weekday(edge_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return (edge_ms // _DAY_MS + _THURSDAY) % 7


def _ratio(
    feature_set: FeatureSet, column: Column, amount: npt.NDArray[np.float64], values: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    at = feature_set.offset(column.source)
    if column.op == "amount_over_mean":
        # `source` names the sum; its count stands just before it.
        upper, lower = amount * values[:, at - 1], values[:, at]
    else:
        upper, lower = values[:, at].astype(np.float64), values[:, feature_set.offset(column.argument)]
    out = np.full(len(amount), float(column.default))
    np.divide(upper, lower, out=out, where=lower > 0)
    return out


_REQUEST = {"input": _number, "equals": _equals}
_CLOCK = {"hour": _hour, "weekday": _weekday}
