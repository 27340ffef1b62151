"""Do two arms' scores have the same shape, where it matters? PSI on fixed bins, with its own critical value.

Contract. Both arms count scores in the same fixed bins. Those are merged at the champion's quantiles
50, 75, 90, 95, 98, 99, 99.5 and 99.9 % and at the decision thresholds, each taken as the nearest
fixed edge at or above it, so that nothing is interpolated; a merged bin in which either arm expects
fewer than 5 scores is joined with the one below it. Then

    PSI = Σ_i (p_i − q_i) ln(p_i/q_i)

with p_i, q_i the arms' shares, half a count added to each bin. Without a difference PSI is
asymptotically χ²_{B−1} (1/n + 1/m) (Yurdakul & Naranjo, J. Risk Model Validation 14, 2020); a
dispersion φ multiplies it, since scores of one card resemble each other.

Looks are many: the look at which the smaller arm had n scores is given α' = α/(n(n+1)), which adds up
to α over all looks with different n (a union bound; no count of looks need be kept). What is
significant may still not matter: below the *floor* it is called the same. Decile PSI and its .10/.25
cannot see fraud: half a percent of scores that jump above 0.7 move it by 0.0005.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.50, 0.75, 0.90, 0.95, 0.98, 0.99, 0.995, 0.999)
MIN_EXPECTED = 5
FLOOR = 0.005
"""PSI that matters: the top 0.1 % of scores becoming 0.45 %, or the top 1 % becoming 1.9 %, reach it."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """One comparison.

    Attributes:
        psi: the index.
        critical: what chance alone would exceed with probability α'.
        bins: how many bins were compared; below 2 nothing can be said.
        champion, candidate: scores.
    """

    psi: float
    critical: float
    bins: int
    champion: int
    candidate: int


def compare(champion: Counts, candidate: Counts, cuts: Sequence[int], alpha: float, phi: float) -> Shape:
    """Compare two histograms over the same fixed bins.

    Args:
        champion, candidate: int64[bins], cumulative.
        cuts: numbers of the bins that end at a decision threshold (`edge_at`).
        alpha: the chance of ever calling equal arms different, over all looks.
        phi: dispersion, at least 1.
    """
    n, m = int(champion.sum()), int(candidate.sum())
    if not n or not m:
        return Shape(0.0, math.inf, 0, n, m)
    one, two = merged(champion, candidate, cuts)
    bins = len(one)
    if bins < 2:
        return Shape(0.0, math.inf, bins, n, m)
    smaller = min(n, m)
    limit = chi2_quantile(alpha / (smaller * (smaller + 1.0)), bins - 1)
    return Shape(psi(one, two), limit * phi * (1 / n + 1 / m), bins, n, m)


def psi(one: Counts, two: Counts) -> float:
    """The population stability index of two counts over the same bins, half a count added to each."""
    p, q = one + 0.5, two + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def edge_at(edges: Sequence[float], value: float) -> int:
    """The number of the last bin below the nearest edge at or above `value` (bin i ends at edges[i])."""
    return int(np.searchsorted(np.asarray(edges), value, side="left"))


def merged(champion: Counts, candidate: Counts, cuts: Sequence[int]) -> tuple[Counts, Counts]:
    """Both histograms, merged at the champion's quantiles and at `cuts`, sparse bins joined downwards."""
    last = len(champion) - 1
    filled = np.cumsum(champion)
    ends = {int(np.searchsorted(filled, share * filled[-1])) for share in QUANTILES} | set(cuts)
    starts = [0, *sorted(end + 1 for end in ends if end < last)]
    one, two = np.add.reduceat(champion, starts), np.add.reduceat(candidate, starts)
    total = one.sum() + two.sum()
    least = min(one.sum(), two.sum()) / total
    kept: list[tuple[int, int]] = []
    above = (0, 0)
    for pair in zip(one[::-1].tolist(), two[::-1].tolist(), strict=True):
        above = (above[0] + pair[0], above[1] + pair[1])
        if (above[0] + above[1]) * least >= MIN_EXPECTED:
            kept.append(above)
            above = (0, 0)
    if kept:
        kept[-1] = (kept[-1][0] + above[0], kept[-1][1] + above[1])
    rows = np.array(kept[::-1], np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def chi2_tail(value: float, degrees: int) -> float:
    """P(χ² ≥ value) with whole degrees of freedom: finite sums, exact far into the tail.

    Source: Abramowitz & Stegun, 26.4.4 (even) and 26.4.5 (odd).
    """
    if value <= 0:
        return 1.0
    half = value / 2
    first = 0.0 if degrees % 2 == 0 else 0.5
    found = math.erfc(math.sqrt(half)) if degrees % 2 else 0.0
    for step in range(degrees // 2):
        place = first + step
        found += math.exp(place * math.log(half) - half - math.lgamma(place + 1))
    return min(1.0, found)


def chi2_quantile(tail: float, degrees: int) -> float:
    """The value that χ² exceeds with probability `tail`; without SciPy, which no controller carries.

    Raises:
        ValueError: no probability, or no degree of freedom.
    """
    if not 0 < tail < 1 or degrees < 1:
        raise ValueError("a tail lies between 0 and 1, and degrees of freedom start at 1")
    low, high = 0.0, float(degrees)
    while chi2_tail(high, degrees) > tail:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if chi2_tail(middle, degrees) > tail else (low, middle)
    return high
