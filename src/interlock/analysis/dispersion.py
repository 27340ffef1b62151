"""How much more counts vary than independent events would: φ, champion against champion.

Contract. Events of one arm are split where nothing but chance should split them, and the share
that falls into a part is compared with the part's share of calls:

    φ = mean of (k − nπ)² / (nπ(1−π))

with n events in all, k of them in the part, π the part's share of the calls. 1 means independent
events. Two ways of splitting, because each sees what the other is blind to:

* over card-bucket groups: cards differ for ever, and a split by card never averages that out;
* over time: bursts. The two halves (even and odd groups) are compared in batches of 1, 3, 12 and
  60 of the caller's steps (5, 15, 60 and 300 s at 5 s looks), and the largest value is taken.

An estimate needs at least 20 batches; `phi` is the largest estimate and never below 1.5
(`docs` of the defaults: fixed names, counters and statistics). Source: field study, monitoring,
section 4; McCullagh & Nelder, Generalized Linear Models, 4.5 (quasi-likelihood).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FLOOR = 1.5
MIN_BATCHES = 20
MIN_GROUPS = 5
WIDTHS = (1, 3, 12, 60)

Counts = NDArray[np.int64]


def over_groups(events: Counts, calls: Counts) -> float | None:
    """φ over card-bucket groups.

    Args:
        events: int64[groups], cumulative events of the champion.
        calls: int64[groups], cumulative calls of the champion.

    Returns:
        The estimate, or None when fewer than 20 groups have calls or no event was seen.
    """
    used = calls > 0
    total = int(events.sum())
    if int(used.sum()) < MIN_BATCHES or total == 0:
        return None
    return _between_groups(events, calls)


def effective_cards(events: Counts, calls: Counts) -> float | None:
    """How many equally active cards would vary as much over groups as one arm's events do.

    If card i has λ_i events, groups of cards have φ = 1 + Σλ_i²/Σλ_i, and n events from K cards alike
    have Σλ_i²/Σλ_i = n/K: so K = n/(φ − 1), Kish's effective sample size (Σλ)²/Σλ² of the cards. What
    chance alone adds to φ over G groups, twice its standard error √(2/(G−1)), is not counted.

    Returns:
        The number, infinite when nothing but chance is seen; None when fewer than 5 groups have
        calls: then it cannot be told.
    """
    used = int((calls > 0).sum())
    total = int(events.sum())
    if used < MIN_GROUPS:
        return None
    excess = _between_groups(events, calls) - 1 - 2 * (2 / (used - 1)) ** 0.5 if total else 0.0
    return total / excess if excess > 0 else math.inf


def over_time(half_events: Counts, events: Counts, half_calls: Counts, calls: Counts) -> float | None:
    """φ over time batches: the largest over batch widths with at least 20 batches that saw an event.

    Args:
        half_events, half_calls: int64[steps], of the half of the groups, per time step.
        events, calls: int64[steps], of all groups, per time step.
    """
    estimates = []
    for width in WIDTHS:
        folded = [_fold(series, width) for series in (half_events, events, half_calls, calls)]
        part, total, part_calls, all_calls = folded
        used = (total > 0) & (part_calls > 0) & (part_calls < all_calls)
        if int(used.sum()) < MIN_BATCHES:
            continue
        share = part_calls[used] / all_calls[used]
        estimates.append(_mean_square(part[used].astype(np.float64), total[used].astype(np.float64), share))
    return max(estimates, default=None)


def phi(estimates: Iterable[float | None]) -> float:
    """The dispersion to use: the largest estimate there is, at least 1.5."""
    return max([FLOOR, *(value for value in estimates if value is not None)])


def _between_groups(events: Counts, calls: Counts) -> float:
    used = calls > 0
    share = calls[used] / calls.sum()
    return _mean_square(events[used].astype(np.float64), np.full(share.shape, float(events.sum())), share)


def _fold(series: Counts, width: int) -> Counts:
    whole = len(series) // width * width
    folded: Counts = series[:whole].reshape(-1, width).sum(axis=1)
    return folded


def _mean_square(part: NDArray[np.float64], total: NDArray[np.float64], share: NDArray[np.float64]) -> float:
    return float(np.mean((part - total * share) ** 2 / (total * share * (1 - share))))
