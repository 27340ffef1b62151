"""The guards: one row each, judged on the workers' own counters.

Every guard is an event-share test (`analysis.sequential`) on cumulative counts of this rollout's
generations, φ from the champion alone (`analysis.dispersion`). Latency compares equal batch sizes:
its strata are the batch-size bins. While the candidate is a shadow, its flags are the champion's
flags plus what turned stricter minus what turned milder over the same transactions (π = ½; the
pairs make this conservative).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from interlock.analysis import dispersion
from interlock.analysis.sequential import EventShareTest, Evidence
from interlock.analysis.sequential import Look as Part
from interlock.base.verdict import Verdict, worst
from interlock.decision.counts import BATCH_BINS, ERRORS, FLAGGED, MISSES, REQUESTS, SLOW, ArmCounts, ShadowCounts
from interlock.rollout.plan import GuardSetting


@dataclass(frozen=True)
class Arms:
    """Cumulative counts of one generation: both arms, or the champion and a shadow."""

    champion: ArmCounts
    candidate: ArmCounts | None = None
    shadow: ShadowCounts | None = None


@dataclass(frozen=True)
class Guard:
    """A watched quantity."""

    name: str
    count: int
    margin: float
    strata: Callable[[Arms, int], list[Part]]
    downwards: bool = False


@dataclass(frozen=True)
class Series:
    """One guard's counts of the champion per 5 s step: of every second card group, and of all."""

    half_events: dispersion.Counts
    events: dispersion.Counts
    half_calls: dispersion.Counts
    calls: dispersion.Counts


@dataclass(frozen=True)
class GuardLook:
    """One guard at one look: what it saw and what it says.

    Attributes:
        guard: its name.
        verdict: fail, error, inconclusive or pass.
        log_e, bound: log E of the harm test against log(1/α).
        candidate, champion: events.
        dispersion: φ.
        log_e_clear, bound_clear: log E of the reverse test, and what excludes the harm.
        cleared: harm is excluded.
        warns: its failure is shown and changes nothing.
    """

    guard: str
    verdict: str
    log_e: float
    bound: float
    candidate: int
    champion: int
    dispersion: float
    log_e_clear: float = 0.0
    bound_clear: float = 0.0
    cleared: bool = False
    warns: bool = False


@dataclass(frozen=True)
class Look:
    """All guards at one instant; kept as evidence."""

    at_ns: int
    generation: int
    verdict: Verdict
    candidate_requests: int
    champion_requests: int
    guards: tuple[GuardLook, ...]

    @property
    def breached(self) -> tuple[str, ...]:
        """Names of the guards that fail and are not only a warning."""
        return tuple(look.guard for look in self.guards if look.verdict == Verdict.FAIL.word and not look.warns)

    @property
    def unclear(self) -> tuple[str, ...]:
        """Names of the guards whose harm is not excluded yet; warnings do not count."""
        return tuple(look.guard for look in self.guards if not look.cleared and not look.warns)


def _pooled(arms: Arms, count: int) -> list[Part]:
    if arms.shadow is not None:
        return _shadowed(arms.champion, arms.shadow, count)
    if arms.candidate is None:
        return []
    return [_part(arms.candidate.values[:, :, :], arms.champion.values[:, :, :], count)]


def _by_batch(arms: Arms, count: int) -> list[Part]:
    if arms.candidate is None:
        return []
    both = arms.candidate.values, arms.champion.values
    return [_part(both[0][b : b + 1], both[1][b : b + 1], count) for b in range(len(BATCH_BINS))]


def _part(candidate: dispersion.Counts, champion: dispersion.Counts, count: int) -> Part:
    return Part(
        int(candidate[:, :, count].sum()),
        int(candidate[:, :, REQUESTS].sum()),
        int(champion[:, :, count].sum()),
        int(champion[:, :, REQUESTS].sum()),
    )


def _shadowed(champion: ArmCounts, shadow: ShadowCounts, count: int) -> list[Part]:
    requests = champion.total(REQUESTS)
    if requests == 0 or shadow.pairs == 0 or count not in (FLAGGED, ERRORS):
        return []
    same = round(champion.total(count) * min(1.0, shadow.pairs / requests))
    theirs = shadow.errors if count == ERRORS else max(0, same + shadow.up - shadow.down)
    return [Part(theirs, shadow.pairs, same, shadow.pairs)]


GUARDS: tuple[Guard, ...] = (
    Guard("errors", ERRORS, 2.0, _pooled),
    Guard("misses", MISSES, 2.0, _pooled),
    Guard("latency", SLOW, 1.3, _by_batch),
    Guard("flag_up", FLAGGED, 1.3, _pooled),
    Guard("flag_down", FLAGGED, 1.3, _pooled, downwards=True),
)
HARMS = (2.0, 10.0)
"""Ratios for which a look states its power."""


def defaults(budget: float) -> dict[str, GuardSetting]:
    """Every guard with its default margin and an equal part of the budget."""
    return {guard.name: GuardSetting(guard.margin, budget / len(GUARDS)) for guard in GUARDS}


def judge(
    arms: Mapping[int, Arms], series: Mapping[str, Series], settings: Mapping[str, GuardSetting], at: tuple[int, int]
) -> Look:
    """All guards on all generations of a rollout.

    Args:
        arms: cumulative counts by generation; within one the weights stand still, so that its
            observed share is the share of every event in it.
        series: the champion over time, by guard.
        settings: margin and α by guard.
        at: (wall time ns, current generation).
    """
    looks = tuple(_judge_one(guard, arms, series.get(guard.name), settings[guard.name]) for guard in GUARDS)
    now_ns, generation = at
    current = arms.get(generation)
    return Look(
        now_ns,
        generation,
        worst(Verdict[look.verdict.upper()] for look in looks),
        _candidate_requests(current) if current is not None else 0,
        current.champion.total(REQUESTS) if current is not None else 0,
        looks,
    )


def powers(arms: Mapping[int, Arms], look: Look, settings: Mapping[str, GuardSetting]) -> dict[str, dict[str, float]]:
    """What a rollout could have caught so far: by guard, ratio of harm to probability."""
    champion = sum(each.champion.total(REQUESTS) for each in arms.values())
    candidate = sum(_candidate_requests(each) for each in arms.values())
    if champion == 0:
        return {}
    found = {}
    for each in look.guards:
        setting = settings[each.guard]
        test = EventShareTest(setting.margin, setting.alpha)
        odds = candidate / champion
        found[each.guard] = {f"{h:g}": round(test.power(h, each.champion, odds, each.dispersion), 3) for h in HARMS}
    return found


def _judge_one(guard: Guard, arms: Mapping[int, Arms], series: Series | None, setting: GuardSetting) -> GuardLook:
    parts = [part for each in arms.values() for part in guard.strata(each, guard.count)]
    test = EventShareTest(setting.margin, setting.alpha)
    evidence = Evidence()
    for part in parts:
        evidence = test.add(evidence, part.swapped() if guard.downwards else part)
    over_time = None
    if series is not None:
        over_time = dispersion.over_time(series.half_events, series.events, series.half_calls, series.calls)
    phi = dispersion.phi((over_time, _over_groups(guard, arms)))
    return GuardLook(
        guard.name,
        test.verdict(evidence, phi).word,
        round(test.log_e(evidence, phi), 4),
        round(test.threshold, 4),
        sum(part.candidate_events for part in parts),
        sum(part.champion_events for part in parts),
        round(phi, 4),
    )


def _over_groups(guard: Guard, arms: Mapping[int, Arms]) -> float | None:
    if not arms:
        return None
    values = np.sum([each.champion.values for each in arms.values()], axis=0)
    return dispersion.over_groups(values[:, :, guard.count].sum(axis=0), values[:, :, REQUESTS].sum(axis=0))


def _candidate_requests(arms: Arms) -> int:
    if arms.shadow is not None:
        return arms.shadow.pairs
    return arms.candidate.total(REQUESTS) if arms.candidate is not None else 0
