"""What the load generator has seen: counts, failures with their times, latencies, versions.

Pure bookkeeping: times are handed in. Every second of wall time has a row, every failure its
own instant, so that failures can be counted per release afterwards.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import msgspec

from interlock.base.clock import NS_PER_S

BINS_PER_OCTAVE = 16
"""Latency bins grow by 2^(1/16): a quantile read from them is at most 4.4 % too high."""

_KEPT_SECONDS = 900
_KEPT_FAILURES = 10_000
_KEPT_PER_VERSION = 64
_SAMPLE_EVERY = 25


class Prediction(msgspec.Struct):
    """The part of a reply that the generator looks at."""

    transaction_id: str
    decision_id: str
    decision: str
    model_version: str | None
    degraded: bool = False


class Reply(msgspec.Struct):
    """A reply of `POST /v1/models/<service>:predict`."""

    predictions: list[Prediction]


def latency_bin(seconds: float) -> int:
    """The bin of a latency: bin 0 is a microsecond or less."""
    return max(0, math.ceil(math.log2(max(seconds, 1e-6) * 1e6) * BINS_PER_OCTAVE))


def quantile_ms(bins: Counter[int], share: float) -> float | None:
    """Upper edge, in milliseconds, of the bin that holds the quantile; None without data."""
    wanted = share * bins.total()
    for index in sorted(bins):
        wanted -= bins[index]
        if wanted <= 0:
            return round(float(2 ** (index / BINS_PER_OCTAVE)) / 1000, 3)
    return None


class Tally:
    """Counts of one load generator."""

    def __init__(self) -> None:
        self.sent = 0
        self.answered = 0
        self.failed = 0
        self.kinds: Counter[str] = Counter()
        self.latency: Counter[int] = Counter()
        self.seconds: deque[dict[str, int]] = deque(maxlen=_KEPT_SECONDS)
        self.failures: deque[tuple[int, str]] = deque(maxlen=_KEPT_FAILURES)
        self.versions: dict[str, Counter[str]] = {}
        self.samples: dict[str, deque[tuple[str, str]]] = {}
        self._recent: deque[tuple[Counter[int], Counter[str]]] = deque(maxlen=3)

    def second(self, now_ns: int) -> dict[str, int]:
        """The row of the wall-clock second that holds `now_ns`."""
        at = now_ns // NS_PER_S
        if not self.seconds or self.seconds[-1]["at"] != at:
            self.seconds.append({"at": at, "sent": 0, "answered": 0, "failed": 0})
            self._recent.append((Counter(), Counter()))
        return self.seconds[-1]

    def send(self, now_ns: int) -> None:
        """A request was due and has been handed to a connection."""
        self.sent += 1
        self.second(now_ns)["sent"] += 1

    def fail(self, now_ns: int, kind: str) -> None:
        """A request failed, and why."""
        self.failed += 1
        self.kinds[kind] += 1
        self.failures.append((now_ns, kind))
        self.second(now_ns)["failed"] += 1

    def answer(self, now_ns: int, seconds: float, predictions: Sequence[Prediction]) -> None:
        """A request was answered `seconds` after it was due."""
        self.answered += 1
        row = self.second(now_ns)
        row["answered"] += 1
        index = latency_bin(seconds)
        latency, versions = self._recent[-1]
        latency[index] += 1
        self.latency[index] += 1
        for prediction in predictions:
            version = prediction.model_version or "fallback"
            versions[version] += 1
            self._count(version, prediction)

    def _count(self, version: str, prediction: Prediction) -> None:
        counts = self.versions.setdefault(version, Counter())
        counts["answered"] += 1
        counts["flagged"] += prediction.decision != "APPROVE"
        counts["degraded"] += prediction.degraded
        if counts["answered"] % _SAMPLE_EVERY == 1 and not prediction.degraded:
            kept = self.samples.setdefault(version, deque(maxlen=_KEPT_PER_VERSION))
            kept.append((prediction.transaction_id, prediction.decision_id))

    def progress(self, now_ns: int, done: bool = False) -> dict[str, Any]:
        """Everything as plain JSON values."""
        latency: Counter[int] = Counter()
        versions: Counter[str] = Counter()
        for bins, seen in list(self._recent)[:-1] or list(self._recent):
            latency += bins
            versions += seen
        return {
            "schema": 1,
            "now_ns": now_ns,
            "done": done,
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "kinds": dict(self.kinds),
            "failures": [list(failure) for failure in self.failures],
            "seconds": list(self.seconds),
            "latency_ms": _quantiles(self.latency),
            "latency_bins": {str(index): count for index, count in sorted(self.latency.items())},
            "recent": {"latency_ms": _quantiles(latency), "versions": dict(versions)},
            "versions": {version: dict(counts) for version, counts in self.versions.items()},
            "samples": {version: [list(pair) for pair in kept] for version, kept in self.samples.items()},
        }


def _quantiles(bins: Counter[int]) -> dict[str, float | None]:
    return {name: quantile_ms(bins, share) for name, share in _SHARES.items()}


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
