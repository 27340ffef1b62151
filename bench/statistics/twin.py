"""The product's guards, for many runs at once.

Contract. `events` and `calls` are counts [runs, looks, 100 groups], one step of 5 s a look; the
candidate owns the first `CANARY` groups (its share of the buckets stands still), the champion the
rest. Every function says what `analysis.sequential`, `analysis.dispersion` and
`rollout.guards.judge` would say after look t, from everything up to and including t;
`tests/bench/test_statistics.py` compares them look by look. `first` leaves out what cannot decide:
E ≥ 1/α needs the likelihood ratio at its maximum to reach φ·log(1/α), and φ is never below 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from interlock.analysis.dispersion import FLOOR, MIN_BATCHES, WIDTHS
from interlock.analysis.sequential import MIN_EVENTS, THETA_MAX, THETAS
from interlock.decision.counts import GROUPS
from interlock.rollout.arms import MIN_CARDS

CANARY = 10
LOOK_S = 5
NEVER = np.inf

Counts = NDArray[np.integer]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """One event-share test.

    Attributes:
        stream: the name of the counts that it reads.
        theta0, alpha: margin and budget.
        swapped: the arms exchanged: a rate too low, or (θ₀ = 1/M) harm excluded.
        dispersion: `product`, `none` (φ = 1), `time` (over time alone).
        theta_max: the largest alternative.
        downwards: the guard watches for a rate that is too low: the champion's cards must be many enough,
            else the candidate's.
    """

    stream: str
    theta0: float
    alpha: float
    swapped: bool = False
    dispersion: str = "product"
    theta_max: float = THETA_MAX
    downwards: bool = False


@dataclass(frozen=True)
class Block:
    """Counts of some runs, and what is summed over them once."""

    events: Counts
    calls: Counts

    def _arm(self, counts: Counts, candidate: bool) -> NDArray[np.int64]:
        part = counts[:, :, :CANARY] if candidate else counts[:, :, CANARY:]
        return part.sum(axis=2, dtype=np.int64)

    @cached_property
    def steps(self) -> tuple[NDArray[np.int64], ...]:
        """Per look, int64 [runs, looks]: candidate events and calls, champion events and calls."""
        return (
            self._arm(self.events, True),
            self._arm(self.calls, True),
            self._arm(self.events, False),
            self._arm(self.calls, False),
        )

    @cached_property
    def totals(self) -> tuple[NDArray[np.int64], ...]:
        """`steps`, cumulative."""
        return tuple(np.cumsum(each, axis=1) for each in self.steps)

    @cached_property
    def over_time(self) -> Floats:
        """`dispersion.over_time` after each look, [runs, looks]; 0 where there is no estimate."""
        half = self.events[:, :, CANARY::2].sum(axis=2, dtype=np.int64)
        half_calls = self.calls[:, :, CANARY::2].sum(axis=2, dtype=np.int64)
        _, _, events, calls = self.steps
        return _largest(half, events, half_calls, calls)

    def over_groups(self, runs: NDArray[np.intp], looks: NDArray[np.intp]) -> Floats:
        """`dispersion.over_groups` for pairs of run and look; 0 where there is no estimate."""
        groups = slice(CANARY, None)
        events, calls = (self._cumulative(counts, groups, runs, looks) for counts in (self.events, self.calls))
        known = ((calls > 0).sum(axis=1) >= MIN_BATCHES) & (events.sum(axis=1) > 0)
        return np.where(known, _between(events, calls), 0.0)

    def enough(self, rule: Rule, runs: NDArray[np.intp], looks: NDArray[np.intp]) -> NDArray[np.bool_]:
        """`rollout.arms.enough` for pairs of run and look; only the product asks for cards."""
        if rule.dispersion != "product":
            return np.ones(len(runs), np.bool_)
        groups = slice(CANARY, None) if rule.downwards else slice(0, CANARY)
        events, calls = (self._cumulative(counts, groups, runs, looks) for counts in (self.events, self.calls))
        excess = _between(events, calls) - 1 - 2 * np.sqrt(2 / ((calls > 0).sum(axis=1) - 1))
        with np.errstate(divide="ignore"):
            cards = np.where(excess > 0, events.sum(axis=1) / np.maximum(excess, 1e-300), np.inf)
        return cards >= MIN_CARDS

    def _cumulative(
        self, counts: Counts, groups: slice, runs: NDArray[np.intp], looks: NDArray[np.intp]
    ) -> NDArray[np.int64]:
        """Counts by group up to a look, int64 [pairs, groups]."""
        found = np.zeros((len(runs), len(range(GROUPS)[groups])), np.int64)
        for run in np.unique(runs):
            of_run = runs == run
            found[of_run] = np.cumsum(counts[run, :, groups], axis=0, dtype=np.int64)[looks[of_run]]
        return found

    def phi(self, rule: Rule, runs: NDArray[np.intp], looks: NDArray[np.intp]) -> Floats:
        """φ as the rule takes it, for pairs of run and look."""
        if rule.dispersion == "none":
            return np.ones(len(runs))
        phi = np.maximum(FLOOR, self.over_time[runs, looks])
        if rule.dispersion == "time":
            return phi
        return np.maximum(phi, self.over_groups(runs, looks))

    def ratios(self, rule: Rule, runs: NDArray[np.intp], looks: NDArray[np.intp], thetas: Floats) -> Floats:
        """log-likelihood ratios of `thetas` (one row for each pair of run and look, or for all) against θ₀."""
        sides = (each[runs, looks].astype(np.float64)[:, None] for each in self._sides(rule))
        suspected, calls, other, other_calls = sides
        odds = calls / other_calls
        spread = np.log1p(odds * thetas) - np.log1p(odds * rule.theta0)
        return suspected * (np.log(thetas / rule.theta0) - spread) - other * spread

    def log_e(self, rule: Rule, runs: NDArray[np.intp], looks: NDArray[np.intp], phi: Floats) -> Floats:
        """`EventShareTest.log_e` for pairs of run and look."""
        thetas = np.geomspace(rule.theta0, rule.theta_max, THETAS + 1)[None, 1:]
        scaled = self.ratios(rule, runs, looks, thetas) / phi[:, None]
        top = scaled.max(axis=1)
        return top + np.log(np.exp(scaled - top[:, None]).mean(axis=1))

    def first(self, rule: Rule) -> Floats:
        """Seconds until the rule rejects, [runs]; `NEVER` where it does not."""
        suspected, calls, other, other_calls = self._sides(rule)
        enough = (suspected + other >= MIN_EVENTS) & (calls > 0) & (other_calls > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            best = suspected * other_calls / (other * calls)
        runs, looks = np.nonzero(enough & (best > rule.theta0))
        best = np.minimum(best[runs, looks], rule.theta_max)
        least = 1.0 if rule.dispersion == "none" else FLOOR
        # The maximum over θ bounds the mean: below the bound at the smallest φ no look can reject.
        bound = self.ratios(rule, runs, looks, best[:, None])[:, 0] / least >= -np.log(rule.alpha)
        runs, looks = runs[bound], looks[bound]
        seconds = np.full(len(suspected), NEVER)
        size = 4096
        for start in range(0, len(runs), size):
            some, at = runs[start : start + size], looks[start : start + size]
            open_yet = np.isinf(seconds[some])
            some, at = some[open_yet], at[open_yet]
            rejects = self.log_e(rule, some, at, self.phi(rule, some, at)) >= -np.log(rule.alpha)
            some, at = some[rejects], at[rejects]
            rejects = self.enough(rule, some, at)
            np.minimum.at(seconds, some[rejects], (at[rejects] + 1.0) * LOOK_S)
        return seconds

    def _sides(self, rule: Rule) -> tuple[NDArray[np.int64], ...]:
        candidate, calls, champion, champion_calls = self.totals
        if rule.swapped:
            return champion, champion_calls, candidate, calls
        return candidate, calls, champion, champion_calls


def _largest(part: Floats, total: Floats, part_calls: Floats, calls: Floats) -> Floats:
    """The largest estimate over batch widths after each step, [runs, steps]; 0 where there is none."""
    runs, steps = total.shape
    found = np.zeros((runs, steps))
    for width in WIDTHS:
        whole = steps // width
        if whole < MIN_BATCHES:
            continue
        folded = (each[:, : whole * width].reshape(runs, whole, width).sum(axis=2) for each in (part, total))
        k, n = folded
        k_calls, n_calls = (
            each[:, : whole * width].reshape(runs, whole, width).sum(axis=2) for each in (part_calls, calls)
        )
        used = (n > 0) & (k_calls > 0) & (k_calls < n_calls)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = k_calls / n_calls
            square = np.where(used, (k - n * share) ** 2 / (n * share * (1 - share)), 0.0)
            batches = np.cumsum(used, axis=1)
            estimate = np.where(batches >= MIN_BATCHES, np.cumsum(square, axis=1) / batches, 0.0)
        after = np.repeat(estimate, width, axis=1)[:, : steps - width + 1]
        found[:, width - 1 : width - 1 + after.shape[1]] = np.maximum(
            found[:, width - 1 : width - 1 + after.shape[1]], after
        )
    return found


def _between(events: NDArray[np.int64], calls: NDArray[np.int64]) -> Floats:
    """φ over groups, [pairs]; 0 without an event."""
    used = calls > 0
    total = events.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = calls / calls.sum(axis=1, keepdims=True)
        square = np.where(used, (events - total * share) ** 2 / (total * share * (1 - share)), 0.0)
        found: Floats = np.nan_to_num(square.sum(axis=1) / used.sum(axis=1))
    return found


def z_test(block: Block, alpha: float = 0.01) -> Floats:
    """Seconds until a one-sided two-proportion z-test, repeated at every look, first says "worse"."""
    candidate, calls, champion, champion_calls = block.totals
    pooled = (candidate + champion) / (calls + champion_calls)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(pooled * (1 - pooled) * (1 / calls + 1 / champion_calls))
        z = (candidate / calls - champion / champion_calls) / error
    critical = {0.01: 2.3263478740408408}[alpha]
    return _first_true((candidate + champion >= MIN_EVENTS) & (z >= critical))


def argo_like(block: Block, band: float = 0.3, window: int = 12, failures: int = 4) -> Floats:
    """Seconds until the rate over one minute has lain ±30 % off the champion's for the fourth time."""
    runs, looks = block.steps[0].shape
    whole = looks // window
    folded = [each[:, : whole * window].reshape(runs, whole, window).sum(axis=2) for each in block.steps]
    candidate, calls, champion, champion_calls = folded
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (candidate / calls) / (champion / champion_calls)
    off = np.cumsum(np.abs(ratio - 1) > band, axis=1) >= failures
    return _first_true(off, window)


def _first_true(found: NDArray[np.bool_], width: int = 1) -> Floats:
    if not found.shape[1]:
        return np.full(len(found), NEVER)
    first = found.argmax(axis=1)
    return np.where(found.any(axis=1), (first + 1.0) * LOOK_S * width, NEVER)
