"""The benchmark's arithmetic, pure: schedules, percentiles, the search for a rate, ratios."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

P95_BAR_MS = 35.0

RATIOS = {
    "full_cpu_vs_empty_granian": ("interlock-full", "floor-granian"),
    "kserve_feast_cpu_vs_full": ("kserve-feast", "interlock-full"),
    "kserve_cpu_vs_tensor": ("kserve", "interlock-tensor"),
}
"""Ratio → (the contestant above the line, the one below it), of server CPU a request."""

VARIANTS = {
    "full_pipelined_cpu_vs_empty_granian": ("interlock-full-pipelined", "floor-granian"),
    "kserve_feast_onnx_cpu_vs_full": ("kserve-feast-onnx", "interlock-full"),
    "kserve_onnx_cpu_vs_tensor": ("kserve-onnx", "interlock-tensor"),
    "kserve_cpu_vs_tensor_binary": ("kserve", "interlock-tensor-binary"),
    "kserve_cpu_vs_grpc": ("kserve", "interlock-grpc"),
    "mlserver_cpu_vs_tensor": ("mlserver", "interlock-tensor"),
    "fastapi_xgboost_cpu_vs_tensor": ("fastapi-xgboost", "interlock-tensor"),
}
"""The same against variants, the peers' most favourable ones among them."""


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of ascending values: a value that really occurred (0 for none)."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latencies(found_ns: Sequence[int]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    ordered = sorted(found_ns)
    return {f"p{share}_ms": round(percentile(ordered, share / 100) / 1e6, 3) for share in (50, 95, 99)}


def due(rate: float, elapsed_ns: int) -> int:
    """How many requests a constant rate has scheduled by then: as many as `scheduled_ns` is not later for."""
    if elapsed_ns < 0:
        return 0
    number = math.floor(elapsed_ns * rate / 1e9)
    # The quotient is off by one where a due time was rounded to its nanosecond.
    return number + 1 + (scheduled_ns(rate, number + 1) <= elapsed_ns) - (scheduled_ns(rate, number) > elapsed_ns)


def scheduled_ns(rate: float, number: int) -> int:
    """When request `number` (from 0) is due, after the start."""
    return round(number * 1e9 / rate)


@dataclass(frozen=True)
class Search:
    """Bisection for the highest rate that holds: raised until one fails, then halved.

    Attributes:
        good: the highest rate that held (0: none yet).
        bad: the lowest that did not (infinite: none yet).
        step: how far to go up while none has failed.
        grain: the search is over when `bad - good` is no more.
    """

    start: float
    step: float
    grain: float
    good: float = 0.0
    bad: float = math.inf

    def next(self) -> float | None:
        """The next rate to try, or None when it is over."""
        if not self.good and math.isinf(self.bad):
            return self.start
        if math.isinf(self.bad):
            return self.good + self.step
        if self.bad - self.good <= self.grain:
            return None
        if not self.good and self.bad - self.step > 0:
            return self.bad - self.step
        return (self.good + self.bad) / 2

    def told(self, rate: float, held: bool) -> Search:
        """The search after a try."""
        good, bad = (max(self.good, rate), self.bad) if held else (self.good, min(self.bad, rate))
        return Search(self.start, self.step, self.grain, good, bad)


def held(result: Mapping[str, Any]) -> bool:
    """Whether an open-loop run met its bar: everything that was due was answered well, 95 % of it in time."""
    return not result["failed"] and result["answered"] == result["scheduled"] and result["p95_ms"] <= P95_BAR_MS


def ratios(
    rows: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, tuple[str, str]] = RATIOS
) -> dict[str, float | None]:
    """The named ratios of server CPU; None where a contestant gave no figure."""
    found: dict[str, float | None] = {}
    for name, (upper, lower) in wanted.items():
        above, below = (rows.get(one, {}).get("cpu_us") for one in (upper, lower))
        found[name] = round(above / below, 3) if above and below else None
    return found
