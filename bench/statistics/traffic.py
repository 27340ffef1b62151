"""Synthetic traffic for many runs at once: counts [runs, looks, 100 card groups] a look of 5 s.

Calls are Poisson, events Poisson given the calls. Three things make them vary more than that:

* *bursts*: the rate of each card group is multiplied, for so many seconds, by a gamma factor of
  mean 1. Its variance is stated for a tenth of the cards, the canary: that of one group is ten
  times as large. `arm` bursts multiply a whole arm instead: what one arm's own machinery does.
* *cards*: each has an activity (lognormal) and, for ever, a propensity to be flagged (gamma);
  `rollout.streams` draws both.
* *shocks*: day and night, an incident: one factor for all groups of a look, which must cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from bench.statistics.twin import CANARY, LOOK_S, Block

from interlock.decision.counts import GROUPS
from interlock.rollout.streams import Traffic, population

MANY_CARDS = 200_000
"""Beyond it a block's runs share one population: each gives it another salt, as rollouts in a row do."""


@dataclass(frozen=True)
class Burst:
    """How a rate varies: variance of the canary's factor, seconds that a factor lasts, `group` or `arm`."""

    variance: float
    seconds: int = LOOK_S
    level: str = "group"


@dataclass(frozen=True)
class Stream:
    """One kind of event: its rate per call, and how often the candidate's cards show it as a ratio to that."""

    base: float
    harm: float = 1.0
    burst: Burst | None = None
    by_card: bool = False


@dataclass(frozen=True)
class Load:
    """What all streams share: requests a second, minutes, cards (0: all groups alike), and the shared shock."""

    tps: float
    minutes: float
    cards: int = 0
    shock: float = 0.0

    @property
    def looks(self) -> int:
        """Looks of 5 s."""
        return round(self.minutes * 60 / LOOK_S)


def blocks(load: Load, streams: Mapping[str, Stream], runs: int, rng: np.random.Generator) -> dict[str, Block]:
    """Counts of `runs` independent rollouts, by stream; all streams of a run have the same calls."""
    rate, propensity = _cards(load, runs, rng)
    calls = rng.poisson(rate[:, None, :] * LOOK_S * _shocks(load, rng)[None, :, None]).astype(np.int32)
    found = {}
    for name, stream in streams.items():
        mean = calls * np.float64(stream.base)
        if stream.by_card:
            mean *= propensity[:, None, :]
        if stream.burst is not None:
            mean *= _factors(stream.burst, calls.shape[:2], rng)
        mean[:, :, :CANARY] *= stream.harm
        found[name] = Block(rng.poisson(mean).astype(np.int32), calls)
    return found


def _cards(load: Load, runs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Calls a second and relative propensity of every group, float64 [runs, groups] each."""
    if not load.cards:
        return np.full((runs, GROUPS), load.tps / GROUPS), np.ones((runs, GROUPS))
    traffic = Traffic(tps=load.tps, cards=load.cards)
    drawn = [population(traffic, rng) for _ in range(runs if load.cards <= MANY_CARDS else 1)]
    rates, propensities = [], []
    for run in range(runs):
        groups = drawn[run % len(drawn)].salted(rng)
        rates.append(groups.calls)
        propensities.append(groups.propensity)
    return np.stack(rates), np.stack(propensities)


def _shocks(load: Load, rng: np.random.Generator) -> np.ndarray:
    """One factor a look for everybody: a slow wave, and an incident of five minutes that doubles it."""
    factor = 1 + load.shock * np.sin(np.arange(load.looks) * 2 * np.pi * LOOK_S / 3_600)
    start = int(rng.integers(load.looks))
    factor[start : start + 300 // LOOK_S] *= 1 + load.shock
    return factor


def _factors(burst: Burst, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    runs, looks = shape
    width = max(1, burst.seconds // LOOK_S)
    periods = -(-looks // width)
    if burst.level == "arm":
        two = rng.gamma(1 / burst.variance, burst.variance, (runs, periods, 2))
        factor = np.concatenate(
            [np.repeat(two[:, :, i : i + 1], n, 2) for i, n in ((0, CANARY), (1, GROUPS - CANARY))], 2
        )
    else:
        variance = burst.variance * CANARY
        factor = rng.gamma(1 / variance, variance, (runs, periods, GROUPS))
    return np.repeat(factor, width, axis=1)[:, :looks]
