"""Where a proportion lies, given how often it was seen."""

from __future__ import annotations

import math
from collections.abc import Callable

_HALVINGS = 60


def clopper_pearson(hits: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided confidence interval of a proportion (Clopper & Pearson, Biometrika 26, 1934).

    Args:
        hits: how often it was seen, 0 … runs.
        runs: of how many, at least 1.
        level: of confidence.

    Raises:
        ValueError: counts that cannot be.
    """
    if not 0 <= hits <= runs or runs < 1:
        raise ValueError("hits lie between 0 and the number of runs, of which there is one at least")
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _solved(lambda p: 1 - _at_most(hits - 1, runs, p), tail, rising=True)
    high = 1.0 if hits == runs else _solved(lambda p: _at_most(hits, runs, p), tail, rising=False)
    return low, high


def _solved(tail_of: Callable[[float], float], wanted: float, rising: bool) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (tail_of(middle) < wanted) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(hits: int, runs: int, p: float) -> float:
    """P(X ≤ hits) of a binomial."""
    logs = math.log(p), math.log1p(-p)
    return math.fsum(
        math.exp(
            math.lgamma(runs + 1) - math.lgamma(k + 1) - math.lgamma(runs - k + 1) + k * logs[0] + (runs - k) * logs[1]
        )
        for k in range(hits + 1)
    )
