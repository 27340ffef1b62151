"""What the arms counted, in the shapes that the tests take: strata, pairs, groups, rare events.

Counts are cumulative over the generations of one rollout; within a generation the weights stand still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interlock.analysis import dispersion
from interlock.analysis.paired import Flips
from interlock.analysis.sequential import Look
from interlock.decision.counts import (
    BATCH_BINS,
    COUNTS,
    ERRORS,
    FLAGGED,
    GROUPS,
    REQUESTS,
    SCORE_EDGES,
    SLOW,
    TIME_EDGES,
    ArmCounts,
    Ints,
    ShadowCounts,
)

SHADOW, SPLIT = "shadow", "split"
MIN_CARDS = 10


@dataclass(frozen=True)
class Arms:
    """Cumulative counts of one generation: both arms, or the champion and a shadow.

    Where the candidate answers, its answers are judged, whatever else is scored beside them.
    """

    champion: ArmCounts
    candidate: ArmCounts | None = None
    shadow: ShadowCounts | None = None

    @property
    def phase(self) -> str:
        """What this generation does with the candidate."""
        return SPLIT if self.candidate is not None else SHADOW

    @property
    def paired(self) -> ShadowCounts | None:
        """The shadow, where the candidate is one."""
        return self.shadow if self.candidate is None else None


@dataclass(frozen=True)
class Series:
    """One guard's counts of the champion per 5 s step: of every second card group, and of all."""

    half_events: dispersion.Counts
    events: dispersion.Counts
    half_calls: dispersion.Counts
    calls: dispersion.Counts


def parts(arms: Arms, count: int) -> list[Look]:
    """Looks under equal conditions within one generation."""
    if arms.candidate is None:
        return [_shadow_errors(arms.champion, arms.shadow)] if arms.shadow is not None and count == ERRORS else []
    both = arms.candidate.values, arms.champion.values
    if count == SLOW:
        return [_part(both[0][b : b + 1], both[1][b : b + 1], SLOW) for b in range(len(BATCH_BINS))]
    return [_part(*both, count)]


def _part(candidate: Ints, champion: Ints, count: int) -> Look:
    return Look(
        int(candidate[:, :, count].sum()),
        int(candidate[:, :, REQUESTS].sum()),
        int(champion[:, :, count].sum()),
        int(champion[:, :, REQUESTS].sum()),
    )


def _shadow_errors(champion: ArmCounts, shadow: ShadowCounts) -> Look:
    """A shadow that raises makes no pair, so its calls are pairs and errors."""
    return Look(shadow.errors, shadow.pairs + shadow.errors, champion.total(ERRORS), champion.total(REQUESTS))


def flips(arms: Sequence[Arms]) -> Flips:
    """The pairs of all shadows."""
    found = Flips()
    for each in arms:
        if (shadow := each.paired) is not None:
            found = found.plus(Flips(shadow.up, shadow.down, shadow.kept))
    return found


def scores(arms: Arms) -> Ints:
    """The candidate's histogram of scores, as an arm or as a shadow."""
    if arms.candidate is not None:
        return arms.candidate.scores
    return arms.shadow.scores if arms.shadow is not None else np.zeros(len(SCORE_EDGES) + 1, np.int64)


def rare(arms: Sequence[Arms], count: int) -> tuple[int, int]:
    """(events, calls) of the candidate."""
    events = calls = 0
    for each in arms:
        if (shadow := each.paired) is not None and count == FLAGGED:
            events, calls = events + shadow.kept + shadow.up, calls + shadow.pairs
        for part in parts(each, count):
            events, calls = events + part.candidate_events, calls + part.candidate_calls
    return events, calls


def slow(arms: Sequence[Arms], limit_ns: float) -> tuple[int, int]:
    """(model calls over a limit, model calls) of the candidate, whether τ was known or not.

    The bin that holds the limit counts as over it.
    """
    times = [each.candidate.times.sum(axis=0) for each in arms if each.candidate is not None]
    if not times:
        return 0, 0
    total = np.sum(times, axis=0)
    return int(total[np.searchsorted(TIME_EDGES, limit_ns, side="right") :].sum()), int(total.sum())


@dataclass(frozen=True)
class Groups:
    """int64 [100 card groups, counts] of both arms, over batch bins and generations."""

    champion: Ints
    candidate: Ints

    @classmethod
    def of(cls, arms: Sequence[Arms]) -> Groups:
        """The sums of a rollout's generations."""
        candidates = [each.candidate for each in arms if each.candidate is not None]
        return cls(_by_group([each.champion for each in arms]), _by_group(candidates))

    def phi(self, count: int, series: Series | None) -> float:
        """The dispersion of a count: the champion's, over time and over card groups.

        While the champion keeps fewer than 20 groups, the candidate's stand in for them: what its own
        cards do may raise φ too far, never lower it.
        """
        over_time = None
        if series is not None:
            over_time = dispersion.over_time(series.half_events, series.events, series.half_calls, series.calls)
        known = self.champion if _used(self.champion) >= dispersion.MIN_BATCHES else self.candidate
        return dispersion.phi((over_time, dispersion.over_groups(known[:, count], known[:, REQUESTS])))

    def enough(self, count: int, downwards: bool) -> bool:
        """Whether cards enough are behind a count to judge it.

        φ must be known over 20 card groups of an arm, and the events must come from 10 effective cards:
        of the arm whose rate would be too high, where that has 5 groups, else of the other.
        """
        if max(_used(self.champion), _used(self.candidate)) < dispersion.MIN_BATCHES:
            return False
        for suspect in (self.champion, self.candidate) if downwards else (self.candidate, self.champion):
            cards = dispersion.effective_cards(suspect[:, count], suspect[:, REQUESTS])
            if cards is not None:
                return cards >= MIN_CARDS
        return False


def _used(groups: Ints) -> int:
    return int((groups[:, REQUESTS] > 0).sum())


def _by_group(arms: Sequence[ArmCounts]) -> Ints:
    found = np.zeros((GROUPS, len(COUNTS)), np.int64)
    for each in arms:
        found += each.values.sum(axis=0)
    return found


def candidate_requests(arms: Arms) -> int:
    """Transactions that met the candidate: answered, or scored beside."""
    if arms.candidate is not None:
        return arms.candidate.total(REQUESTS)
    return arms.shadow.pairs if arms.shadow is not None else 0
