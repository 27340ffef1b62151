"""What the pipelines of one worker share, and what each of them counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from interlock.base.clock import Clock, EdgeClock
from interlock.base.ids import Ids
from interlock.decision.record import DecisionRecord
from interlock.features.online import OnlineStore
from interlock.serving.fence import Fence
from interlock.serving.options import ServingOptions
from interlock.serving.score_cache import ScoreCache


class Recorder(Protocol):
    """What `decision.segment.SegmentWriter` offers."""

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Write a tick's records.

        Raises:
            UnreachableError: they could not be written.
        """
        ...


@dataclass(frozen=True)
class Surroundings:
    """What every service of a worker shares.

    Attributes:
        holder: the worker's name, by which its claims are known.
        scores: known ones, or None: every row is scored.
        traced: whether requests may be.
    """

    store: OnlineStore
    recorder: Recorder
    fence: Fence
    clock: Clock
    edge: EdgeClock
    ids: Ids
    options: ServingOptions
    holder: bytes
    scores: ScoreCache | None = None
    traced: bool = False


@dataclass
class Tallies:
    """Plain counters of a service."""

    held: int = 0
    repeated: int = 0
    unrecorded: int = 0
    store_failures: int = 0
    shed: int = 0
    expired: int = 0
    pinned: int = 0
    unrouted: int = 0


TALLIES = tuple(field.name for field in fields(Tallies))
