"""A history with its labels, as columns in memory: what a snapshot becomes before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.base.errors import UsageError
from interlock.features.definition import FeatureSet
from interlock.features.offline import Engine, Events, compute
from interlock.features.vector import assemble_columns


@dataclass(frozen=True)
class Frame:
    """Rows in applied order.

    Attributes:
        events: entities, edge time and amount.
        inputs: the request's other fields by name, each [n].
        labels: bool [n].
        groups: columns that are only reported on (segments, fairness), never features.
    """

    events: Events
    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.bool_]
    groups: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        """Refuse columns of different length and clocks that go back."""
        sizes = {len(self.events.event_ms), len(self.labels), *(len(values) for values in self.inputs.values())}
        if len(sizes) != 1 or not len(self.labels):
            raise UsageError("the snapshot's columns do not fit each other, or are empty", "write the snapshot again")
        if (np.diff(self.events.event_ms) < 0).any():
            raise UsageError("the snapshot's rows are not in time order", "sort them by event time")

    def __len__(self) -> int:
        """Rows."""
        return len(self.labels)

    @property
    def days(self) -> NDArray[np.float64]:
        """Days since the first row, float64 [n]."""
        days: NDArray[np.float64] = (self.events.event_ms - self.events.event_ms[0]) / 86_400_000
        return days


def vectors(frame: Frame, features: FeatureSet, engine: Engine | None = None) -> NDArray[np.float32]:
    """The vector that the scorer would have assembled for each row, float32 [n, width]."""
    values = compute(features, frame.events, engine)
    inputs = {**frame.inputs, "amount": frame.events.amount}
    return assemble_columns(features, inputs, frame.events.amount, values, frame.events.event_ms)
