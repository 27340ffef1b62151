"""Recompute the integers that a decision saw, from the base and the logged events.

The order of an entity's events is the applied sequence that the store gave them. Every number
from the base on must be there exactly once: a hole is a `Gap`, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError
from interlock.features import reducer
from interlock.features.definition import FeatureSet, Velocity


class Logged(NamedTuple):
    """One logged event of one entity."""

    epoch: int
    seq: int
    event_ms: int
    amount: int


@dataclass(frozen=True)
class History:
    """What is known of one entity.

    Attributes:
        base: `(event_ms, amount)` of the base snapshot's events in order: sequence 1..n of `base_epoch`.
        logged: events after the base, in any order; exact duplicates are fine.
        base_epoch: epoch of the loaded states.
    """

    base: Sequence[tuple[int, int]] = ()
    logged: Sequence[Logged] = ()
    base_epoch: int = field(default=1)


class Gap(IntegrityError):
    """The sequence of one entity has a hole, or two different events claim one number."""

    def __init__(self, entity: str, epoch: int, seq: int, problem: str) -> None:
        super().__init__(
            f"{entity} sequence {epoch}/{seq} {problem}", "repair it from the stored vectors, or publish it as lost"
        )
        self.entity = entity
        self.epoch = epoch
        self.seq = seq


def recompute(
    feature_set: FeatureSet,
    histories: Mapping[str, History],
    applied: Mapping[str, tuple[int, int]],
    event_ms: int,
) -> npt.NDArray[np.int64]:
    """The values that the event with these applied positions saw.

    Args:
        feature_set: the definition.
        histories: per entity kind, the history of that event's entity.
        applied: per entity kind, the (epoch, seq) that the event was given.
        event_ms: the event's edge time.

    Returns:
        int64 [feature_set.value_count].

    Raises:
        Gap: an event before it is missing.
    """
    values: list[int] = []
    for velocity in feature_set.velocities:
        kind = velocity.entity
        values += _values(velocity, histories.get(kind, History()), applied[kind], event_ms)
    return np.array(values, np.int64)


def _values(velocity: Velocity, history: History, target: tuple[int, int], event_ms: int) -> tuple[int, ...]:
    epoch, seq = target
    # A state that was created online, or again after it expired, starts empty in an epoch of its own.
    events = list(history.base) if epoch == history.base_epoch else []
    later = _by_seq(velocity.entity, history.logged, epoch)
    if seq <= len(events):
        raise Gap(velocity.entity, epoch, seq, "lies inside the base")
    for number in range(len(events) + 1, seq):
        found = later.get(number)
        if found is None:
            raise Gap(velocity.entity, epoch, number, "is missing")
        events.append((found.event_ms, found.amount))
    # What lies a horizon behind the latest event is in no kept tile: leaving it out only saves time.
    latest = max((at for at, _ in events), default=0)
    near = [event for event in events if event[0] >= latest - velocity.horizon_s * 1000]
    return reducer.read(velocity, reducer.fold(velocity, near), event_ms)


def _by_seq(entity: str, logged: Sequence[Logged], epoch: int) -> dict[int, Logged]:
    found: dict[int, Logged] = {}
    for event in logged:
        if event.epoch == epoch and found.setdefault(event.seq, event) != event:
            raise Gap(entity, epoch, event.seq, "was given to two different events")
    return found
