"""What workers count and controllers judge: cumulative, per (generation, arm), never interpolated.

Contract. Counts only grow while a worker lives; a new worker has a new reset id. A reader takes
differences: a changed reset id, a vanished key or a smaller number is a *reset* and is flagged,
never read as negative traffic. Packed bytes carry their own version; the edges below are part of
it. Model time goes into fixed bins, one entry per model call, and scores into fixed bins, one entry
per row that the arm itself answered: any quantile of several workers is taken over counts rather
than averaged, and is always an edge.

*Flagged* is anything but APPROVE. Approvals are therefore not counted beside it: a row that its own
arm answered is flagged or approved, so the approval rate is 1 − the flag rate, and one test of the
flag rate in either direction is a test of both.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError
from interlock.decision.table import BUCKETS

Ints = npt.NDArray[np.int64]

COUNTS = ("requests", "errors", "misses", "degraded", "slow", "flagged", "nulls")
REQUESTS, ERRORS, MISSES, DEGRADED, SLOW, FLAGGED, NULLS = range(len(COUNTS))
BATCH_BINS = ("1", "2-4", "5-16", ">16")
GROUPS = 100
TIME_EDGES: tuple[int, ...] = tuple(round(1_000 * 2 ** (step / 8)) for step in range(193))
"""Nanoseconds, 1 µs to 16.8 s in steps of 2^(1/8); bin i holds edges[i-1] <= t < edges[i]."""
DELTA_EDGES: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5)
"""Edges of |score difference| between a shadow and the answer."""


def _score_edges() -> tuple[float, ...]:
    places = [step / 8 for step in range(-96, -32)] + [step / 16 for step in range(-64, 129)]
    return tuple(float(f"{1 / (1 + math.exp(-place)):.12g}") for place in places)


SCORE_EDGES: tuple[float, ...] = _score_edges()
"""257 edges of scores, even in log-odds: steps of 1/8 from −12 to −4 (a score below 0.02 is known to
13 %), then of 1/16 to +8, so that both tails are resolved and the upper one most: 81 edges above 0.95.
Written to twelve digits, which every machine computes alike; bin i holds edges[i-1] <= score <
edges[i], and what is no probability falls into the first or the last."""

_ARM_SHAPE = (len(BATCH_BINS), GROUPS, len(COUNTS))
_TIME_SHAPE = (len(BATCH_BINS), len(TIME_EDGES) + 1)
_SCORE_CELLS = len(SCORE_EDGES) + 1
_ARM_CELLS = int(np.prod(_ARM_SHAPE))
_TIME_CELLS = int(np.prod(_TIME_SHAPE))
_ARM_FORMAT = 3
_SHADOW_FORMAT = 4
_SHADOW_HEAD = struct.Struct("<B6qd")


def batch_bin(size: int) -> int:
    """The bin of a batch of `size` requests: 1, 2–4, 5–16, more."""
    if size > 16:
        return 3
    return 0 if size <= 1 else 1 if size <= 4 else 2


def group_of(bucket: int) -> int:
    """The card-bucket group, 0 … 99, of a bucket."""
    return bucket * GROUPS // BUCKETS


class ArmCounts:
    """Counts of one arm under one generation.

    Attributes:
        values: int64 [4 batch bins, 100 groups, 7 counts].
        times: int64 [4 batch bins, len(TIME_EDGES) + 1], one entry per model call.
        scores: int64 [len(SCORE_EDGES) + 1], one entry per row that this arm answered.
    """

    __slots__ = ("_flat", "_score_flat", "_time_flat", "scores", "times", "values")

    def __init__(self, values: Ints | None = None, times: Ints | None = None, scores: Ints | None = None) -> None:
        self.values: Ints = np.zeros(_ARM_SHAPE, np.int64) if values is None else values
        self.times: Ints = np.zeros(_TIME_SHAPE, np.int64) if times is None else times
        self.scores: Ints = np.zeros(_SCORE_CELLS, np.int64) if scores is None else scores
        # A memoryview adds one in 60 ns where an array's item assignment takes four times that.
        self._flat = self.values.reshape(-1).data
        self._time_flat = self.times.reshape(-1).data
        self._score_flat = self.scores.data

    def add(self, count: int, batch: int, group: int, by: int = 1) -> None:
        """Add to one cell: `count` is one of REQUESTS … NULLS, `batch` a bin, `group` 0 … 99."""
        self._flat[(batch * GROUPS + group) * len(COUNTS) + count] += by

    def time(self, batch: int, ns: int) -> None:
        """Note the model time of one call in batch bin `batch`."""
        self._time_flat[batch * _TIME_SHAPE[1] + bisect_right(TIME_EDGES, ns)] += 1

    def score(self, score: float) -> None:
        """Note the score of one row that this arm answered."""
        self._score_flat[bisect_right(SCORE_EDGES, score)] += 1

    def total(self, count: int) -> int:
        """The sum of one count over bins and groups."""
        return int(self.values[:, :, count].sum())

    def pack(self) -> bytes:
        """One version byte, then values, times and scores as int64 little-endian."""
        parts = (self.values, self.times, self.scores)
        return bytes([_ARM_FORMAT]) + b"".join(part.astype("<i8").tobytes() for part in parts)

    @classmethod
    def unpack(cls, data: bytes) -> ArmCounts:
        """Counts from their packed bytes.

        Raises:
            IntegrityError: another version or length.
        """
        if len(data) != 1 + 8 * (_ARM_CELLS + _TIME_CELLS + _SCORE_CELLS) or data[0] != _ARM_FORMAT:
            raise IntegrityError("packed counts of another version", "run workers and controller of one version")
        cells = np.frombuffer(data, "<i8", offset=1).astype(np.int64)
        values, times, scores = np.split(cells, (_ARM_CELLS, _ARM_CELLS + _TIME_CELLS))
        return cls(values.reshape(_ARM_SHAPE), times.reshape(_TIME_SHAPE), scores)

    def plus(self, other: ArmCounts) -> ArmCounts:
        """The sum of two arms' counts, as a new object."""
        return ArmCounts(self.values + other.values, self.times + other.times, self.scores + other.scores)

    def since(self, old: ArmCounts) -> ArmCounts | None:
        """What came after `old`, or None when a count shrank: then they are not one series."""
        values, times, scores = self.values - old.values, self.times - old.times, self.scores - old.scores
        if min(values.min(), times.min(), scores.min()) < 0:
            return None
        return ArmCounts(values, times, scores)


@dataclass
class ShadowCounts:
    """Paired outcomes of a shadow beside the answers it was compared with.

    Attributes:
        pairs: transactions scored by both.
        up: the shadow was stricter (a later decision in APPROVE < STEP_UP < REVIEW < DECLINE).
        down: the shadow was milder.
        kept: both flagged it with the same decision; with `up` and `down` all that a test of the
            flips needs, from the same pairs.
        errors: the shadow raised.
        misses: the shadow exceeded its deadline or was not run for lack of room.
        largest: the largest |score difference|.
        deltas: int64 [len(DELTA_EDGES) + 1] histogram of |score difference|.
        scores: int64 [len(SCORE_EDGES) + 1] histogram of the shadow's scores.
    """

    pairs: int = 0
    up: int = 0
    down: int = 0
    kept: int = 0
    errors: int = 0
    misses: int = 0
    largest: float = 0.0
    deltas: Ints = field(default_factory=lambda: np.zeros(len(DELTA_EDGES) + 1, np.int64))
    scores: Ints = field(default_factory=lambda: np.zeros(_SCORE_CELLS, np.int64))

    def add(self, score: float, answered: float, rank: int, answered_rank: int) -> None:
        """Note one pair: the shadow's score and the rank of its decision (0: APPROVE) beside the answer's."""
        size = abs(score - answered)
        self.pairs += 1
        self.up += rank > answered_rank
        self.down += rank < answered_rank
        self.kept += rank == answered_rank > 0
        self.largest = max(self.largest, size)
        self.deltas[bisect_right(DELTA_EDGES, size)] += 1
        self.scores[bisect_right(SCORE_EDGES, score)] += 1

    def pack(self) -> bytes:
        """Version byte, six int64, one float64, then the histograms, all little-endian."""
        head = _SHADOW_HEAD.pack(_SHADOW_FORMAT, *self._counts(), self.largest)
        return head + self.deltas.astype("<i8").tobytes() + self.scores.astype("<i8").tobytes()

    @classmethod
    def unpack(cls, data: bytes) -> ShadowCounts:
        """Counts from their packed bytes.

        Raises:
            IntegrityError: another version or length.
        """
        bins = len(DELTA_EDGES) + 1
        if len(data) != _SHADOW_HEAD.size + 8 * (bins + _SCORE_CELLS) or data[0] != _SHADOW_FORMAT:
            raise IntegrityError("packed shadow counts of another version", "run one version everywhere")
        _, *steps, largest = _SHADOW_HEAD.unpack_from(data)
        cells = np.frombuffer(data, "<i8", offset=_SHADOW_HEAD.size).astype(np.int64)
        return _shadow(steps, largest, cells[:bins], cells[bins:])

    def plus(self, other: ShadowCounts) -> ShadowCounts:
        """The sum of two workers' counts."""
        steps = [one + two for one, two in zip(self._counts(), other._counts(), strict=True)]
        largest = max(self.largest, other.largest)
        return _shadow(steps, largest, self.deltas + other.deltas, self.scores + other.scores)

    def since(self, old: ShadowCounts) -> ShadowCounts | None:
        """What came after `old`, or None when a count shrank; `largest` stays the largest of all."""
        deltas, scores = self.deltas - old.deltas, self.scores - old.scores
        steps = [new - before for new, before in zip(self._counts(), old._counts(), strict=True)]
        if min(*steps, deltas.min(), scores.min()) < 0:
            return None
        return _shadow(steps, self.largest, deltas, scores)

    def _counts(self) -> tuple[int, ...]:
        return self.pairs, self.up, self.down, self.kept, self.errors, self.misses


def _shadow(steps: Sequence[int], largest: float, deltas: Ints, scores: Ints) -> ShadowCounts:
    pairs, up, down, kept, errors, misses = steps
    return ShadowCounts(pairs, up, down, kept, errors, misses, largest, deltas, scores)


class WorkerCounts(msgspec.Struct, frozen=True):
    """One worker's packed counts.

    Attributes:
        worker: the worker's name, unique for its life.
        reset_id: changes whenever the counts start from zero.
        arms: `"<service>/<generation>/<arm>"` to packed ArmCounts.
        shadows: the same keys to packed ShadowCounts.
    """

    worker: str
    reset_id: str
    arms: dict[str, bytes] = {}
    shadows: dict[str, bytes] = {}


def key(service: str, generation: int, arm: str) -> str:
    """The key of an arm's counts."""
    return f"{service}/{generation}/{arm}"


def parse_key(text: str) -> tuple[str, int, str]:
    """(service, generation, arm) of a key."""
    service, generation, arm = text.split("/")
    return service, int(generation), arm


@dataclass(frozen=True)
class Delta:
    """What one worker counted between two readings.

    Attributes:
        arms: new ArmCounts by key; after a reset everything since that reset.
        shadows: new ShadowCounts by key.
        reset: the source restarted or shrank in between: a judge pauses on it.
    """

    arms: dict[str, ArmCounts]
    shadows: dict[str, ShadowCounts]
    reset: bool


_C = TypeVar("_C", ArmCounts, ShadowCounts)


def delta(old: WorkerCounts | None, new: WorkerCounts) -> Delta:
    """The difference of two readings of one worker; the first reading has no `old` and is no reset.

    A key that the worker no longer reports (a drained generation) is not a reset.
    """
    same = old is None or old.reset_id == new.reset_id
    before = old if old is not None and same else WorkerCounts(new.worker, new.reset_id)
    arms, arms_shrank = _differences(ArmCounts, before.arms, new.arms)
    shadows, shadows_shrank = _differences(ShadowCounts, before.shadows, new.shadows)
    return Delta(arms, shadows, not same or arms_shrank or shadows_shrank)


def _differences(kind: type[_C], old: Mapping[str, bytes], new: Mapping[str, bytes]) -> tuple[dict[str, _C], bool]:
    found: dict[str, _C] = {}
    shrank = False
    for name, packed in new.items():
        current = kind.unpack(packed)
        change = current.since(kind.unpack(old[name])) if name in old else current
        found[name] = current if change is None else change
        shrank |= change is None
    return found, shrank
