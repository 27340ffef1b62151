"""The event-share e-process: is an event rate of the candidate worse than the champion's, at any look?

Contract. Given that an event (an error, a slow call, a flag …) occurred, it belongs to the
candidate with probability p(θ) = πθ / (πθ + 1 − π), where θ is the ratio of the two arms' event
rates and π the candidate's *observed* share of calls in that look. The null hypothesis is θ ≤ θ₀.
Over looks s with k_c,s candidate and k_b,s champion events, and dispersion φ,

    E = Σ_j w_j Π_s [p_s(θ_j)/p_s(θ₀)]^(k_c,s/φ) [(1−p_s(θ_j))/(1−p_s(θ₀))]^(k_b,s/φ)

with θ_j log-spaced in (θ₀, 20] and uniform weights. With φ = 1 and independent events E is a
test martingale under the null, so P(E ever ≥ 1/α) ≤ α at every look and under changing weights
(Ville's inequality; Lindon & Malek, NeurIPS 2022; Lindon et al., KDD 2022, arXiv 2205.14762).
φ > 1 makes it a quasi-likelihood: what it achieves is checked by simulation, not by the theorem.

Everything is kept as sums of logarithms per θ_j, *undivided* by φ, so that φ can be estimated
anew at every look over all that was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from interlock.base.verdict import Verdict

THETAS = 40
THETA_MAX = 20.0
MIN_EVENTS = 20


@dataclass(frozen=True)
class Look:
    """What one look added: counts of both arms since the look before, equal conditions.

    Attributes:
        candidate_events, candidate_calls: of the suspected arm.
        champion_events, champion_calls: of the arm it is compared with.
    """

    candidate_events: int
    candidate_calls: int
    champion_events: int
    champion_calls: int

    def swapped(self) -> Look:
        """The same look with the arms exchanged: the test for a rate that is too *low*."""
        return Look(self.champion_events, self.champion_calls, self.candidate_events, self.candidate_calls)


@dataclass(frozen=True)
class Evidence:
    """All looks so far: the log-likelihood ratio of each θ_j (undivided by φ), and the events."""

    ratios: tuple[float, ...] = (0.0,) * THETAS
    candidate_events: int = 0
    champion_events: int = 0

    @property
    def events(self) -> int:
        """Events of both arms."""
        return self.candidate_events + self.champion_events


@dataclass(frozen=True)
class EventShareTest:
    """A test against one margin.

    Attributes:
        theta0: the ratio of rates that is still accepted (the margin); above 0, below 20.
        alpha: the error budget: the chance of ever rejecting a candidate at the margin.
        theta_max: the largest alternative; 20, or less where large ratios are not what is looked for.
    """

    theta0: float
    alpha: float
    theta_max: float = THETA_MAX

    def __post_init__(self) -> None:
        """Refuse a margin or a budget that makes no test."""
        if not 0 < self.theta0 < self.theta_max:
            raise ValueError(f"theta0 must lie between 0 and {self.theta_max}")
        if not 0 < self.alpha < 1:
            raise ValueError("alpha must lie between 0 and 1")

    @property
    def thetas(self) -> NDArray[np.float64]:
        """The 40 alternatives, float64[40], log-spaced in (θ₀, theta_max]."""
        return _thetas(self.theta0, self.theta_max)

    @property
    def threshold(self) -> float:
        """log(1/α): reject at or above it."""
        return -math.log(self.alpha)

    def add(self, evidence: Evidence, look: Look) -> Evidence:
        """The evidence after one more look.

        A look in which an arm had no calls says nothing about the share and adds nothing.

        Raises:
            ValueError: a count is negative (deltas across a reset must not come here).
        """
        if min(look.candidate_events, look.candidate_calls, look.champion_events, look.champion_calls) < 0:
            raise ValueError("counts of a look are never negative")
        if not look.candidate_calls or not look.champion_calls:
            return evidence
        odds = look.candidate_calls / look.champion_calls
        # log p(θ)/p(θ₀) and log (1−p(θ))/(1−p(θ₀)) with p = oθ/(oθ+1), o = π/(1−π)
        spread = np.log1p(odds * self.thetas) - math.log1p(odds * self.theta0)
        to_candidate = np.log(self.thetas / self.theta0) - spread
        added = look.candidate_events * to_candidate - look.champion_events * spread
        ratios = np.asarray(evidence.ratios) + added
        return Evidence(
            tuple(ratios.tolist()),
            evidence.candidate_events + look.candidate_events,
            evidence.champion_events + look.champion_events,
        )

    def log_e(self, evidence: Evidence, phi: float) -> float:
        """log E at dispersion φ ≥ 1."""
        if not phi >= 1:
            raise ValueError("a dispersion below 1 would overstate the evidence")
        return log_mean_exp(np.asarray(evidence.ratios) / phi)

    def verdict(self, evidence: Evidence, phi: float) -> Verdict:
        """FAIL when the margin is rejected, else PASS; INCONCLUSIVE below 20 events."""
        if evidence.events < MIN_EVENTS:
            return Verdict.INCONCLUSIVE
        return Verdict.FAIL if self.log_e(evidence, phi) >= self.threshold else Verdict.PASS

    def power(self, harm: float, champion_events: int, odds: float, phi: float) -> float:
        """The chance that this much traffic would have revealed a rate `harm` times the champion's.

        A lower bound of the any-time power: only the last look is judged. Counts are spread over
        a fixed grid of quantiles instead of random draws, so the same input gives the same figure.

        Args:
            harm: the ratio of rates to detect.
            champion_events: events the champion had.
            odds: candidate calls divided by champion calls.
            phi: the dispersion used by the test and assumed of the counts.
        """
        if champion_events <= 0 or odds <= 0:
            return 0.0
        events = champion_events * (1 + odds * harm)
        share = odds * harm / (odds * harm + 1)
        spread = math.sqrt(phi * events * share * (1 - share))
        quantiles = _grid()
        seen = events * share + spread * quantiles
        calls, whole = 1_000_000, round(events)
        if whole < MIN_EVENTS:
            return 0.0
        counts = np.clip(np.rint(seen), 0, math.floor(events))[:, None]
        spreads = np.log1p(round(calls * odds) / calls * self.thetas) - math.log1p(
            round(calls * odds) / calls * self.theta0
        )
        scaled = (
            counts * (np.log(self.thetas / self.theta0) - spreads) - np.maximum(0, whole - counts) * spreads
        ) / phi
        top = scaled.max(axis=1)
        found = int((top + np.log(np.exp(scaled - top[:, None]).mean(axis=1)) >= self.threshold).sum())
        return found / len(quantiles)


def log_mean_exp(values: NDArray[np.float64]) -> float:
    """log of the mean of exp(values), float64[n]: a mixture with equal weights."""
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).mean()))


@lru_cache(maxsize=64)
def _thetas(theta0: float, theta_max: float) -> NDArray[np.float64]:
    found = np.geomspace(theta0, theta_max, THETAS + 1)[1:]
    found.flags.writeable = False
    return found


@cache
def _grid() -> NDArray[np.float64]:
    """201 standard normal quantiles at equal steps of probability."""
    return _normal_quantile((np.arange(201) + 0.5) / 201)


def _normal_quantile(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard normal quantiles by bisection of erf: exact enough, and without scipy in a guard."""
    low = np.full_like(probabilities, -9.0)
    high = np.full_like(probabilities, 9.0)
    erf = np.vectorize(math.erf)
    for _ in range(60):
        middle = (low + high) / 2
        below = 0.5 * (1 + erf(middle / math.sqrt(2))) < probabilities
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2
