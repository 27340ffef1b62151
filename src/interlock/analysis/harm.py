"""Harm and its exclusion: one question about two arms, asked in both directions at every look.

Contract. The *harm test* asks whether the candidate's rate exceeds θ₀ times the champion's, at α.
The *reverse test* must reject that it is M times or more before a release may go on by evidence:
the same e-process with the arms exchanged and θ₀ = 1/M, the same dispersion, at its own α. Its
alternatives end at 1.25: what is to be shown is that the arms are alike, and weight on arms that
differ tenfold would only delay it.

Evidence has two parts. Transactions split between the arms give event shares (`sequential`); pairs
of a shadow and the answer beside it give flips (`paired`). A rollout meets its shadow first, so half
of the capital is bet on the flips and half waits for the split,

    E = (½ E_flips + ½) · E_shares

which is one e-process with one α, fails in the shadow alone when E_flips is large enough, and is
never blinded by a shadow that looked well by more than a factor of two.

Where events are too rare for a ratio, harm is excluded absolutely: the candidate's rate lies below a
limit, whatever the champion's is (`rate`). Harm then means M times *and* at the limit or above; the
mean of the two e-processes is one against both, at the same α.

`enough` says whether the events come from cards enough to be judged at all; few events (< 20) or few
cards are *inconclusive for lack of evidence*, and exclude nothing by their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from interlock.analysis.paired import Flips, FlipTest
from interlock.analysis.rate import RareTest
from interlock.analysis.sequential import MIN_EVENTS, THETA_MAX, EventShareTest, Evidence, Look
from interlock.base.verdict import Verdict

ALIKE = 1.25
NO_FLIPS = Flips()


@dataclass(frozen=True)
class Question:
    """What is asked of one quantity.

    Attributes:
        theta0: the ratio of rates that is accepted.
        alpha: the chance of ever failing a candidate at it.
        harm: M, the ratio that is to be excluded.
        clear_alpha: the chance of ever excluding a harm that is there.
        downwards: the harm is a rate that is too low.
        limit: the rate below which the candidate does no harm whatever its ratio; None: there is none.
    """

    theta0: float
    alpha: float
    harm: float
    clear_alpha: float
    downwards: bool = False
    limit: float | None = None


@dataclass(frozen=True)
class Seen:
    """What was counted.

    Attributes:
        parts: looks under equal conditions, of both arms.
        flips: pairs of the shadow and the answers.
        rare: the candidate's (events, calls) for the absolute limit.
    """

    parts: Sequence[Look] = ()
    flips: Flips = NO_FLIPS
    rare: tuple[int, int] = (0, 0)

    @property
    def candidate(self) -> int:
        """Events of the candidate."""
        return sum(part.candidate_events for part in self.parts) + self.flips.kept + self.flips.up

    @property
    def champion(self) -> int:
        """Events of the champion."""
        return sum(part.champion_events for part in self.parts) + self.flips.kept + self.flips.down

    @property
    def events(self) -> int:
        """Events of the split, and pairs that either flagged."""
        return sum(part.candidate_events + part.champion_events for part in self.parts) + self.flips.events

    def swapped(self) -> Seen:
        """The arms exchanged."""
        return Seen([part.swapped() for part in self.parts], self.flips.swapped())


@dataclass(frozen=True)
class Finding:
    """The answer: log E against its bound in both directions."""

    verdict: Verdict
    log_e: float
    bound: float
    log_e_clear: float
    bound_clear: float
    cleared: bool


def find(question: Question, seen: Seen, phi: float, enough: bool) -> Finding:
    """Ask a question of what was counted.

    Args:
        question: margins, budgets.
        seen: counts, cumulative.
        phi: dispersion, at least 1.
        enough: cards enough are behind the counts.
    """
    bound, bound_clear = -math.log(question.alpha), -math.log(question.clear_alpha)
    against = seen.swapped() if question.downwards else seen
    judgeable = enough and seen.events >= MIN_EVENTS
    log_e = _log_e(against, question.theta0, phi)
    clear = _log_e(against.swapped(), 1 / question.harm, phi, ALIKE) if judgeable else 0.0
    if question.limit is not None:
        rare = RareTest(question.limit).log_e(*seen.rare, phi) if enough else 0.0
        clear = _log_mean(clear, rare)
    verdict = Verdict.INCONCLUSIVE
    if judgeable:
        verdict = Verdict.FAIL if log_e >= bound else Verdict.PASS
    cleared = verdict is not Verdict.FAIL and clear >= bound_clear
    return Finding(verdict, log_e, bound, clear, bound_clear, cleared)


def _log_e(seen: Seen, theta0: float, phi: float, theta_max: float = THETA_MAX) -> float:
    """log E that the first arm's rate exceeds theta0 times the second's."""
    test = EventShareTest(theta0, 0.5, theta_max)  # its own α is not looked at here
    evidence = Evidence()
    for part in seen.parts:
        evidence = test.add(evidence, part)
    return _log_mean(FlipTest(theta0).log_e(seen.flips, phi), 0.0) + test.log_e(evidence, phi)


def _log_mean(one: float, two: float) -> float:
    top = max(one, two)
    return top + math.log((math.exp(one - top) + math.exp(two - top)) / 2)
