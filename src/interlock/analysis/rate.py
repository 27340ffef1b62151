"""Is an event rate below an absolute limit, at any look? For events too rare for a ratio of two arms.

Contract. Over n calls with k events, each call an event with probability p, the null hypothesis is
p ≥ L. With p_j = r_j L, r_j log-spaced in [1/100, 1), and dispersion φ,

    E = Σ_j w_j [(p_j/L)^k ((1−p_j)/(1−L))^(n−k)]^(1/φ)

is a mixture of likelihood ratios. Each is largest in expectation at p = L among all p ≥ L, where it
is a martingale of mean 1, so that with φ = 1 and independent calls P(E ever ≥ 1/α) ≤ α under the
null, at every look (Ville's inequality; Robbins, Ann. Math. Stat. 41, 1970, mixtures of likelihood
ratios; Waudby-Smith & Ramdas, JRSS-B 86, 2024, for one-sided means). φ > 1 makes it a
quasi-likelihood, as in `sequential`. Only sums of counts are needed: what one look added and what
all looks added give the same E.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from interlock.analysis.sequential import log_mean_exp

RATES = 20


@dataclass(frozen=True)
class RareTest:
    """A test against one limit.

    Attributes:
        limit: L, the rate that must be excluded; above 0, below 1.
    """

    limit: float

    def __post_init__(self) -> None:
        """Refuse a limit that is no rate."""
        if not 0 < self.limit < 1:
            raise ValueError("a limit must lie between 0 and 1")

    def log_e(self, events: int, calls: int, phi: float) -> float:
        """log E against "the rate is at or above the limit".

        Raises:
            ValueError: counts that cannot be, or a dispersion below 1.
        """
        if not 0 <= events <= calls:
            raise ValueError("events are among the calls")
        if not phi >= 1:
            raise ValueError("a dispersion below 1 would overstate the evidence")
        rates = self.limit * np.geomspace(0.01, 1.0, RATES + 1)[:-1]
        ratios = events * np.log(rates / self.limit) + (calls - events) * (np.log1p(-rates) - math.log1p(-self.limit))
        return log_mean_exp(ratios / phi)
