"""Does a shadow decide more strictly than the answers beside it, at any look? McNemar with a margin.

Contract. Every transaction is decided twice: a *flip* is a pair that differs, up (the shadow is
stricter) or down (milder); a pair that both flagged with the same decision is *kept*. The champion's
count is kept + down, the shadow's kept + up, and the null hypothesis is that the shadow's rate is at
most θ₀ times the champion's:

    P(up) ≤ θ₀ P(down) + (θ₀ − 1) P(kept)

So a payoff of +1 for a pair that moved up, −θ₀ for one that moved down and −(θ₀ − 1) for one that
was kept has no positive mean, and betting a part λ of the capital on it is a fair game at best:

    E = Σ_j w_j [(1+λ_j)^up (1−λ_jθ₀)^down (1−λ_j(θ₀−1))^kept]^(1/φ),   λ_j in (0, 1/θ₀)

With φ = 1 and independent pairs P(E ever ≥ 1/α) ≤ α under the null at every look, whatever the rates
(Ville's inequality; Waudby-Smith & Ramdas, JRSS-B 86, 2024, betting for bounded means; mixture over
40 bets). With θ₀ = 1 the kept pairs drop out and this is McNemar's test in sequential form: a flip
goes either way with probability ½, against (1+λ)/2 (McNemar, Psychometrika 12, 1947). Without a
margin any harmless difference is found in the end, hence θ₀. φ > 1 as in `sequential`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlock.analysis.sequential import log_mean_exp

BETS = 40


@dataclass(frozen=True)
class Flips:
    """Pairs that matter to the test.

    Attributes:
        up: the shadow was stricter.
        down: it was milder.
        kept: both flagged, with the same decision.
    """

    up: int = 0
    down: int = 0
    kept: int = 0

    @property
    def events(self) -> int:
        """Pairs that at least one of the two flagged."""
        return self.up + self.down + self.kept

    def swapped(self) -> Flips:
        """The same pairs with the arms exchanged."""
        return Flips(self.down, self.up, self.kept)

    def plus(self, other: Flips) -> Flips:
        """The sum of two counts."""
        return Flips(self.up + other.up, self.down + other.down, self.kept + other.kept)


@dataclass(frozen=True)
class FlipTest:
    """A test against one margin.

    Attributes:
        theta0: the accepted ratio of the shadow's rate to the champion's; above 0. Below 1 it is the
            reverse test on exchanged arms.
    """

    theta0: float

    def __post_init__(self) -> None:
        """Refuse a margin that makes no test."""
        if not self.theta0 > 0:
            raise ValueError("theta0 must be above 0")

    def log_e(self, flips: Flips, phi: float) -> float:
        """log E at dispersion φ ≥ 1.

        Raises:
            ValueError: a negative count, or a dispersion below 1.
        """
        if min(flips.up, flips.down, flips.kept) < 0:
            raise ValueError("counts of pairs are never negative")
        if not phi >= 1:
            raise ValueError("a dispersion below 1 would overstate the evidence")
        bets = np.arange(1, BETS + 1) / (BETS + 1) / self.theta0
        capital = (
            flips.up * np.log1p(bets)
            + flips.down * np.log1p(-bets * self.theta0)
            + flips.kept * np.log1p(-bets * (self.theta0 - 1))
        )
        return log_mean_exp(capital / phi)
