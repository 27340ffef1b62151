"""What the controller has read from the workers' counters, for one service.

Contract. Counters are cumulative per worker; this adds up their differences, so that a replaced
worker's earlier counts stay. A reset, a missing worker or no reading at all is reported as
*missing*, never read as quiet traffic. A new controller reads the counters from their beginning
and so regains the evidence without remembering anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interlock.base.clock import NS_PER_S
from interlock.decision.counts import (
    REQUESTS,
    TIME_EDGES,
    ArmCounts,
    Ints,
    ShadowCounts,
    WorkerCounts,
    delta,
    key,
    parse_key,
)
from interlock.decision.table import CANDIDATE, CHAMPION
from interlock.rollout.guards import GUARDS, Arms, Series

STEP_S = 5
"""Length of one step of the series over which dispersion is estimated."""
QUANTILE = 0.95


class Evidence:
    """Cumulative counts of one service, by generation."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._last: dict[str, WorkerCounts] = {}
        self._arms: dict[str, ArmCounts] = {}
        self._shadows: dict[str, ShadowCounts] = {}
        self._steps: list[tuple[int, dict[int, ArmCounts]]] = []

    def feed(self, counts: Sequence[WorkerCounts], workers: int, now_ns: int) -> str:
        """Take one reading; returns what is missing from it, or an empty string.

        Feed it only while a rollout is going on: it remembers a step every five seconds.
        """
        missing = "" if len(counts) >= workers else f"{workers - len(counts)} of {workers} workers are silent"
        for one in counts:
            if self._take(one):
                missing = f"the counters of worker {one.worker} were reset"
        if workers == 0:
            missing = "no worker is alive"
        if not self._steps or now_ns - self._steps[-1][0] >= STEP_S * NS_PER_S:
            self._steps.append((now_ns, {g: arm for g, arm in self._generations(CHAMPION).items()}))
        return missing

    def arms(self, first: int) -> dict[int, Arms]:
        """Counts by generation from `first` on, where the champion met a candidate or a shadow."""
        candidates = self._generations(CANDIDATE)
        parsed = ((parse_key(name), each) for name, each in self._shadows.items())
        shadows = {generation: each for (_, generation, arm), each in parsed if arm == CANDIDATE}
        found = {}
        for generation, champion in self._generations(CHAMPION).items():
            if generation < first:
                continue
            if generation in candidates or generation in shadows:
                found[generation] = Arms(champion, candidates.get(generation), shadows.get(generation))
        return found

    def candidate_requests(self, generation: int) -> int:
        """Requests that the candidate has answered under a generation."""
        counts = self._arms.get(key(self._service, generation, CANDIDATE))
        return 0 if counts is None else counts.total(REQUESTS)

    def tau(self, generation: int, samples: int) -> int | None:
        """The champion's p95 of model time under a generation, ns; None below `samples` calls.

        The upper edge of the bin that holds the quantile: fixed edges, nothing interpolated.
        """
        counts = self._arms.get(key(self._service, generation, CHAMPION))
        if counts is None:
            return None
        times = counts.times.sum(axis=0)
        total = int(times.sum())
        if total < samples:
            return None
        bin_number = int(np.searchsorted(np.cumsum(times), QUANTILE * total))
        return TIME_EDGES[min(bin_number, len(TIME_EDGES) - 1)]

    def series(self, first: int) -> dict[str, Series]:
        """The champion over time from generation `first` on, per guard."""
        cumulative = [_summed(step, first) for _, step in self._steps]
        if len(cumulative) < 2:
            return {}
        values = np.stack(cumulative)
        return {
            guard.name: Series(
                np.diff(values[:, ::2, guard.count].sum(axis=1)),
                np.diff(values[:, :, guard.count].sum(axis=1)),
                np.diff(values[:, ::2, REQUESTS].sum(axis=1)),
                np.diff(values[:, :, REQUESTS].sum(axis=1)),
            )
            for guard in GUARDS
        }

    def forget(self) -> None:
        """Let go of a rollout's counts; what the workers counted until now is not counted again."""
        self._steps.clear()
        self._arms.clear()
        self._shadows.clear()

    def _take(self, one: WorkerCounts) -> bool:
        change = delta(self._last.get(one.worker), one)
        self._last[one.worker] = one
        for name, arm in change.arms.items():
            if parse_key(name)[0] == self._service:
                self._arms[name] = self._arms[name].plus(arm) if name in self._arms else arm
        for name, shadow in change.shadows.items():
            if parse_key(name)[0] == self._service:
                self._shadows[name] = self._shadows[name].plus(shadow) if name in self._shadows else shadow
        return change.reset

    def _generations(self, arm: str) -> dict[int, ArmCounts]:
        parsed = ((parse_key(name), counts) for name, counts in self._arms.items())
        return {generation: counts for (_, generation, which), counts in parsed if which == arm}


def _summed(step: dict[int, ArmCounts], first: int) -> Ints:
    """int64 [groups, counts] of all generations from `first` on."""
    total = ArmCounts()
    for generation, counts in step.items():
        if generation >= first:
            total = total.plus(counts)
    summed: Ints = total.values.sum(axis=0)
    return summed
