"""Synthetic traffic for simulated rollouts: cards that differ for ever, and counts per look and arm.

Contract. Nothing here is random but through the generator that is handed in. A card has an activity
(lognormal, mean 1) and a propensity to be flagged (gamma, mean 1); a salt assigns cards to the 100
bucket groups, and a candidate owns the groups below its share. Given its cards, a group's calls are
Poisson and its events binomial; errors, misses and slow calls do not depend on the card. A *burst*
multiplies the event rates of each group, for `burst_s` seconds, by a gamma factor of mean 1 whose
variance is `burst_var` for a tenth of the groups (ten times as large for one). A *shock* is one
factor for everybody, as day and night are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from interlock.base.errors import UsageError
from interlock.decision.counts import COUNTS, FLAGGED, GROUPS, REQUESTS, SLOW, Ints
from interlock.decision.table import BUCKETS

Floats = NDArray[np.float64]

BASE = {"errors": 0.0005, "misses": 0.001, "degraded": 0.0005, "slow": 0.05, "flagged": 0.005}
"""Share of the champion's calls; `slow` is 5 % by definition: τ is the champion's p95."""
SIGMA = 0.4
"""Spread of the model time's logarithm, from which a ratio of p95 becomes a ratio of slow calls."""
_Z95 = 1.6448536269514722


@dataclass(frozen=True)
class Traffic:
    """What meets a rollout.

    Attributes:
        tps: requests a second.
        cards: how many send them; 0: all groups alike, no card effect.
        base: rate of each count among the champion's calls.
        harm: by count, how many times the champion's rate the candidate has (1: none). For `latency` it is the ratio
            of the 95th percentiles of model time.
        activity: spread (σ) of the logarithm of a card's activity.
        spread: variance of a card's propensity to be flagged, mean 1.
        burst_var, burst_s: see the module; 0: none.
        shock: depth of the shared wave, 0 to 1.
    """

    tps: float = 1_000.0
    cards: int = 100_000
    base: Mapping[str, float] = field(default_factory=lambda: dict(BASE))
    harm: Mapping[str, float] = field(default_factory=dict)
    activity: float = 1.0
    spread: float = 2.0
    burst_var: float = 0.0
    burst_s: float = 5.0
    shock: float = 0.0

    def __post_init__(self) -> None:
        """Refuse names that nothing counts, and numbers that are no rates."""
        for name in (*self.base, *self.harm):
            if name not in (*COUNTS[1:], "latency"):
                raise UsageError(f"nothing counts {name}", f"name one of: latency, {', '.join(COUNTS[1:])}")
        if not self.tps > 0 or self.cards < 0:
            raise UsageError("no traffic", "give a positive rate, and cards of 0 or more")
        if any(not 0 <= rate <= 1 for rate in self.base.values()) or any(not x > 0 for x in self.harm.values()):
            raise UsageError("rates lie between 0 and 1, and a harm is a positive ratio", "write it as flags=2")

    def ratio(self, count: int) -> float:
        """How many times the champion's rate of `count` the candidate has."""
        if count == SLOW and "latency" in self.harm:
            return slow_ratio(self.harm["latency"])
        return self.harm.get(COUNTS[count], 1.0)


@dataclass(frozen=True)
class Population:
    """Cards, and the groups that a salt puts them in.

    Attributes:
        weights: float64[cards], activity, mean 1.
        flags: float64[cards], activity times propensity.
        calls: float64[groups], calls a second.
        propensity: float64[groups], how often its calls are flagged, relative to the average call.
    """

    tps: float
    weights: Floats
    flags: Floats
    calls: Floats
    propensity: Floats

    def salted(self, rng: np.random.Generator) -> Population:
        """The same cards under another salt."""
        return _grouped(self.tps, self.weights, self.flags, rng)


def population(traffic: Traffic, rng: np.random.Generator) -> Population:
    """Draw the cards of some traffic and a salt."""
    if not traffic.cards:
        alike = np.ones(GROUPS)
        return Population(traffic.tps, alike, alike, alike * traffic.tps / GROUPS, alike)
    weights = rng.lognormal(0.0, traffic.activity, traffic.cards)
    weights /= weights.mean()
    flags = weights * rng.gamma(1 / traffic.spread, traffic.spread, traffic.cards) if traffic.spread else weights
    return _grouped(traffic.tps, weights, flags, rng)


def _grouped(tps: float, weights: Floats, flags: Floats, rng: np.random.Generator) -> Population:
    groups = rng.integers(0, GROUPS, len(weights), dtype=np.uint8)
    calls = np.bincount(groups, weights, GROUPS)
    flagged = np.bincount(groups, flags, GROUPS)
    relative = np.divide(flagged, calls, out=np.zeros(GROUPS), where=calls > 0) * (weights.sum() / flags.sum())
    return Population(tps, weights, flags, calls * tps / weights.sum(), relative)


class Synthetic:
    """One rollout's worth of synthetic traffic, look after look."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator) -> None:
        self._traffic = traffic
        self._rng = rng
        self._population = population(traffic, rng)
        self._at = 0.0
        self._burst = np.ones(GROUPS)
        self._burst_until = 0.0

    def look(self, share: int, seconds: float) -> tuple[Ints, Ints]:
        """What both arms counted in the next `seconds` while the candidate owned `share` of 10,000 buckets.

        Returns:
            The champion's and the candidate's counts, int64 [groups, counts] each.
        """
        owned = np.clip(share * GROUPS / BUCKETS - np.arange(GROUPS), 0.0, 1.0)
        calls = self._population.calls * seconds * self._shock()
        burst = self._bursting()
        self._at += seconds
        return self._counts(calls * (1 - owned), burst, False), self._counts(calls * owned, burst, True)

    def pairs(self, seconds: float) -> tuple[Ints, Ints]:
        """The same of a shadow: what the champion answered, and what the shadow would have, over the same calls."""
        champion, _ = self.look(0, seconds)
        shadow = champion.copy()
        for count in range(1, len(COUNTS)):
            ratio = self._traffic.ratio(count)
            if ratio > 1:
                free = champion[:, REQUESTS] - champion[:, count]
                rate = min(1.0, (ratio - 1) * self._rate(count))
                shadow[:, count] += self._rng.binomial(free, rate)
            elif ratio < 1:
                shadow[:, count] = self._rng.binomial(champion[:, count], ratio)
        return champion, shadow

    def _rate(self, count: int) -> float:
        return self._traffic.base.get(COUNTS[count], 0.0)

    def _counts(self, calls: Floats, burst: Floats, candidate: bool) -> Ints:
        found = np.zeros((GROUPS, len(COUNTS)), np.int64)
        found[:, REQUESTS] = self._rng.poisson(calls)
        for count in range(1, len(COUNTS)):
            rate = self._rate(count) * burst
            if count == FLAGGED:
                rate = rate * self._population.propensity
            if candidate:
                rate = rate * self._traffic.ratio(count)
            found[:, count] = self._rng.binomial(found[:, REQUESTS], np.minimum(rate, 1.0))
        return found

    def _shock(self) -> float:
        return 1 + self._traffic.shock * math.sin(2 * math.pi * self._at / 3_600)

    def _bursting(self) -> Floats:
        variance = self._traffic.burst_var * 10
        if variance and self._at >= self._burst_until:
            self._burst = self._rng.gamma(1 / variance, variance, GROUPS)
            self._burst_until = self._at + self._traffic.burst_s
        return self._burst


def slow_ratio(ratio: float, sigma: float = SIGMA) -> float:
    """How many times more calls exceed the champion's p95 when the candidate's p95 is `ratio` times as long.

    Model times are lognormal: P(X > τ) = 1 − Φ(z₉₅ − ln(ratio)/σ), against 5 %.
    """
    beyond = 0.5 * math.erfc((_Z95 - math.log(ratio) / sigma) / math.sqrt(2))
    return beyond / 0.05
