"""Recorded traffic for simulated rollouts: what the champion really decided, dealt out again by card.

Contract. From decision records of the champion come rows: card, time, and what was counted about each
(error, miss, degraded, flagged, model time). A play draws as many cards as there are, with
replacement, each with its whole history; a copy of a card gets a random bucket, so that cards split
between the arms as a new salt would split them, and cards that differ go on to differ. Time runs as
recorded, from a random start, and begins again when the recording ends. A harm is put on the
candidate's rows: its extra events fall on rows without one, its model times are longer by the ratio.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError
from interlock.decision import record as records
from interlock.decision.counts import COUNTS, DEGRADED, ERRORS, FLAGGED, GROUPS, MISSES, REQUESTS, SLOW, Ints, group_of
from interlock.decision.decide import flagged
from interlock.decision.record import DecisionRecord
from interlock.decision.table import BUCKETS, CHAMPION
from interlock.rollout.evidence import QUANTILE
from interlock.rollout.streams import Traffic

MIN_ROWS = 1_000


@dataclass(frozen=True)
class Recording:
    """The champion's decisions, ordered by time.

    Attributes:
        cards: int64[n], number of the card, 0 … how many there are.
        at_s: float64[n], seconds since the first.
        seen: bool[n, counts]; `requests` is always set, `slow` not at all.
        model_ns: int64[n], 0 where no model answered.
    """

    cards: NDArray[np.int64]
    at_s: NDArray[np.float64]
    seen: NDArray[np.bool_]
    model_ns: NDArray[np.int64]

    @property
    def number(self) -> int:
        """How many cards there are."""
        return int(self.cards.max()) + 1

    @property
    def length_s(self) -> float:
        """Seconds from the first to the last, at least one."""
        return max(float(self.at_s[-1]), 1.0)

    @property
    def tps(self) -> float:
        """Requests a second, on average."""
        return len(self.at_s) / self.length_s

    @property
    def tau_ns(self) -> int:
        """The champion's p95 of model time."""
        return int(np.quantile(self.model_ns, QUANTILE, method="higher"))


def recording(source: Iterable[DecisionRecord], service: str = "") -> Recording:
    """A recording of the champion's decisions; those that the caller pinned, or gave without a card, are left out.

    Args:
        source: decision records.
        service: whose; empty: every service's.

    Raises:
        UsageError: fewer than 1,000 decisions are left.
    """
    kept = [each for each in source if _usable(each, service)]
    if len(kept) < MIN_ROWS:
        raise UsageError(
            f"{len(kept)} recorded decisions of the champion", f"record {MIN_ROWS} at least, or leave --recorded out"
        )
    kept.sort(key=lambda each: each.received_ns)
    numbers: dict[str, int] = {}
    cards = [numbers.setdefault(str(each.inputs["card"]), len(numbers)) for each in kept]
    seen = np.zeros((len(kept), len(COUNTS)), np.bool_)
    seen[:, REQUESTS] = True
    for row, each in enumerate(kept):
        seen[row, ERRORS] = bool(each.degraded & records.ERROR)
        seen[row, MISSES] = bool(each.degraded & records.MISS)
        seen[row, DEGRADED] = each.degraded not in (0, records.RESUMED)
        seen[row, FLAGGED] = flagged(each.decision)
    first = kept[0].received_ns
    at_s = np.array([(each.received_ns - first) / NS_PER_S for each in kept])
    return Recording(np.array(cards), at_s, seen, np.array([each.model_ns for each in kept]))


def _usable(each: DecisionRecord, service: str) -> bool:
    ours = not service or each.service == service
    return ours and each.arm == CHAMPION and "card" in each.inputs and not each.degraded & records.PINNED


class Recorded:
    """One rollout's worth of a recording."""

    def __init__(self, recorded: Recording, harm: Mapping[str, float], rng: np.random.Generator) -> None:
        self._rng = rng
        self._traffic = Traffic(harm=harm)
        self._length_s = recorded.length_s
        self._rate = recorded.seen.mean(axis=0)
        self._tau_ns = recorded.tau_ns
        rows, copies = _dealt(recorded, rng)
        order = np.argsort(recorded.at_s[rows], kind="stable")
        rows, copies = rows[order], copies[order]
        self._at_s = recorded.at_s[rows]
        self._seen = recorded.seen[rows]
        self._model_ns = recorded.model_ns[rows]
        self._bucket = rng.integers(0, BUCKETS, int(copies.max()) + 1)[copies]
        self._group = group_of_many(self._bucket)
        self._now_s = float(rng.uniform(0, self._length_s))

    def look(self, share: int, seconds: float) -> tuple[Ints, Ints]:
        """The champion's and the candidate's counts in the next seconds, int64 [groups, counts] each."""
        rows = self._next(seconds)
        theirs = self._bucket[rows] < share
        return self._counted(rows[~theirs], harmed=False), self._counted(rows[theirs], harmed=True)

    def pairs(self, seconds: float) -> tuple[Ints, Ints]:
        """What the champion answered, and what the candidate as its shadow would have."""
        rows = self._next(seconds)
        return self._counted(rows, harmed=False), self._counted(rows, harmed=True)

    def _next(self, seconds: float) -> NDArray[np.intp]:
        parts = []
        left = seconds
        while left > 0:
            stop = min(self._now_s + left, self._length_s)
            first, last = np.searchsorted(self._at_s, (self._now_s, stop))
            parts.append(np.arange(first, last))
            left -= max(stop - self._now_s, 1e-6)
            self._now_s = 0.0 if stop >= self._length_s else stop
        return np.concatenate(parts)

    def _counted(self, rows: NDArray[np.intp], harmed: bool) -> Ints:
        seen = self._seen[rows]
        times = self._model_ns[rows] * (self._traffic.harm.get("latency", 1.0) if harmed else 1.0)
        seen[:, SLOW] = times > self._tau_ns
        if harmed:
            for count in range(1, len(COUNTS)):
                ratio = 1.0 if count == SLOW else self._traffic.ratio(count)
                if ratio != 1:
                    seen[:, count] = self._harmed(seen[:, count], ratio, float(self._rate[count]))
        found = np.zeros((GROUPS, len(COUNTS)), np.int64)
        np.add.at(found, self._group[rows], seen)
        return found

    def _harmed(self, seen: NDArray[np.bool_], ratio: float, rate: float) -> NDArray[np.bool_]:
        if ratio < 1:
            kept: NDArray[np.bool_] = seen & (self._rng.random(len(seen)) < ratio)
            return kept
        extra = min(1.0, (ratio - 1) * rate / max(1 - rate, 1e-9))
        more: NDArray[np.bool_] = seen | (self._rng.random(len(seen)) < extra)
        return more


def group_of_many(buckets: NDArray[np.int64]) -> NDArray[np.int64]:
    """`group_of` of many buckets."""
    return np.array([group_of(bucket) for bucket in range(BUCKETS)])[buckets]


def _dealt(recorded: Recording, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the recording for as many cards as it has, drawn with replacement, and to which copy each belongs."""
    times = np.bincount(rng.integers(0, recorded.number, recorded.number), minlength=recorded.number)
    repeated = times[recorded.cards]
    rows = np.repeat(np.arange(len(recorded.cards)), repeated)
    first_copy = np.cumsum(times) - times
    within = np.arange(len(rows)) - np.repeat(np.cumsum(repeated) - repeated, repeated)
    return rows, first_copy[recorded.cards[rows]] + within
