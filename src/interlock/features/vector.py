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
    plan = _plan(feature_set)
    amounts = np.array([one["amount"] for one in inputs], dtype=np.float64)
    columns = {source: [one.get(source) for one in inputs] for source in plan.inputs}
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
    plan = _plan(feature_set)
    vectors = np.empty((count, feature_set.width), np.float32)
    vectors[:, plan.value_targets] = values if plan.values_in_order else values[:, plan.value_sources]
    for index, column in plan.request:
        vectors[:, index] = _REQUEST[column.op](column, inputs[column.source])
    for index, column in plan.clock:
        vectors[:, index] = _CLOCK[column.op](edge_ms)
    if len(plan.ratio_targets):
        vectors[:, plan.ratio_targets] = _ratios(plan, np.asarray(amounts, np.float64), values)
    return vectors


def nulls(feature_set: FeatureSet, inputs: Inputs) -> set[int]:
    """The rows in which an input that the vector needs is missing, and a default stands in its place.

    A vector from `assemble` holds no NaN, so this is where a null feature can be seen. Velocities are
    never null: a row without them is not assembled but answered by the fallback.
    """
    found: set[int] = set()
    for source in _plan(feature_set).optional:
        column = [one.get(source) for one in inputs]
        if None in column or "" in column:
            found.update(row for row, value in enumerate(column) if value in _MISSING)
    return found


class _Plan:
    """What a feature set's columns come to, worked out once: indexes for whole-block operations."""

    def __init__(self, feature_set: FeatureSet) -> None:
        placed = list(enumerate(feature_set.columns))
        self.request = [(i, c) for i, c in placed if c.op in _REQUEST]
        self.clock = [(i, c) for i, c in placed if c.op in _CLOCK]
        self.inputs = tuple(dict.fromkeys(c.source for _, c in self.request))
        self.optional = tuple(source for source in self.inputs if source != "amount")
        velocity = [(i, feature_set.offset(c.source)) for i, c in placed if c.op == "velocity"]
        targets, self.value_sources = [i for i, _ in velocity], [source for _, source in velocity]
        self.values_in_order = self.value_sources == list(range(feature_set.value_count))
        together = bool(targets) and targets == list(range(targets[0], targets[0] + len(targets)))
        self.value_targets = slice(targets[0], targets[0] + len(targets)) if together else targets
        ratios = [(i, c) for i, c in placed if c.op in ("amount_over_mean", "share")]
        self.ratio_targets = np.array([i for i, _ in ratios], np.intp)
        self.over_mean = np.array([c.op == "amount_over_mean" for _, c in ratios], bool)
        # A mean's `source` names the sum; its count stands just before it.
        self.upper = np.array([feature_set.offset(c.source) - (c.op == "amount_over_mean") for _, c in ratios], np.intp)
        lower = [feature_set.offset(c.argument if c.op == "share" else c.source) for _, c in ratios]
        self.lower = np.array(lower, np.intp)
        self.defaults = np.array([float(c.default) for _, c in ratios])


_MISSING = (None, "")
_PLANS: dict[str, _Plan] = {}


def _plan(feature_set: FeatureSet) -> _Plan:
    found = _PLANS.get(feature_set.digest)
    if found is None:
        found = _PLANS[feature_set.digest] = _Plan(feature_set)
    return found


def _ratios(plan: _Plan, amount: npt.NDArray[np.float64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    upper = values.take(plan.upper, axis=1).astype(np.float64)
    np.multiply(upper, amount[:, None], out=upper, where=plan.over_mean)
    lower = values.take(plan.lower, axis=1)
    out = np.empty_like(upper)
    out[:] = plan.defaults
    np.divide(upper, lower, out=out, where=lower > 0)
    return out


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


_REQUEST = {"input": _number, "equals": _equals}
_CLOCK = {"hour": _hour, "weekday": _weekday}
