"""An A/B test: when it may stop, and what its arms did.

Contract. The stop rule is two event-share tests of one outcome (`analysis.sequential`) at the
experiment's margin, one for each direction, each with half of the experiment's α: the chance that
either ever stops an experiment whose arms differ by no more than the margin stays below α at every
look. Dispersion is estimated as for the guards, from the champion alone. Only generations in which
both arms answered count; a shadow answers nobody. Nothing is decided below 20 events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlock.analysis import dispersion
from interlock.analysis.sequential import MIN_EVENTS, THETA_MAX, THETAS, EventShareTest, Evidence
from interlock.analysis.sequential import Look as Part
from interlock.decision.counts import DEGRADED, ERRORS, FLAGGED, MISSES, REQUESTS
from interlock.decision.table import CANDIDATE, CHAMPION
from interlock.rollout.guards import GUARDS, Arms, Series
from interlock.rollout.plan import Experiment

OUTCOMES = {"flagged": FLAGGED, "errors": ERRORS, "misses": MISSES, "degraded": DEGRADED}
"""What an experiment may compare: the workers' counts by name."""
_GRID = 64
_Z = 1.959963984540054


@dataclass(frozen=True)
class VariantLook:
    """One arm's outcome.

    Attributes:
        requests: that it answered.
        events: of the outcome.
        rate: events per request; 0 without requests.
        low, high: of the rate, 95 % at this one moment (Wilson, counts divided by φ): to be shown. What
            holds at every moment is `ExperimentLook.ratio_low` and `ratio_high`.
    """

    requests: int
    events: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class ExperimentLook:
    """An experiment at one look.

    Attributes:
        outcome: the count that is compared.
        winner: `candidate` or `champion` once the stop rule says so, else empty.
        log_e_lower, log_e_higher: log E for "the candidate's rate is lower", "higher" than the champion's
            by more than the margin.
        bound: log(2/α): what either must reach.
        dispersion: φ.
        candidate, champion: what the arms did.
        ratio_low, ratio_high: the candidate's rate over the champion's, 1 − α at all looks together (the
            ratios that neither test rejects); 1/20 and 20 are the ends of what is told apart.
    """

    outcome: str
    winner: str
    log_e_lower: float
    log_e_higher: float
    bound: float
    dispersion: float
    candidate: VariantLook
    champion: VariantLook
    ratio_low: float
    ratio_high: float


def winner(arms: Mapping[int, Arms], series: Mapping[str, Series], experiment: Experiment) -> ExperimentLook:
    """The stop rule at one look.

    Args:
        arms: cumulative counts by generation (`Evidence.arms`).
        series: the champion over time by guard (`Evidence.series`); a missing one leaves φ to the card groups.
        experiment: outcome, wanted direction, margin and α.
    """
    count = OUTCOMES[experiment.outcome]
    parts = _parts(arms, count)
    phi = _phi(arms, series, count)
    test = EventShareTest(experiment.margin, experiment.alpha / 2)
    higher, log_higher = _reached(test, parts, phi)
    lower, log_lower = _reached(test, [part.swapped() for part in parts], phi)
    candidate_wins, champion_wins = (lower, higher) if experiment.better == "lower" else (higher, lower)
    total = _total(parts)
    return ExperimentLook(
        outcome=experiment.outcome,
        winner=CANDIDATE if candidate_wins else CHAMPION if champion_wins else "",
        log_e_lower=round(log_lower, 4),
        log_e_higher=round(log_higher, 4),
        bound=round(test.threshold, 4),
        dispersion=round(phi, 4),
        candidate=_variant(total.candidate_events, total.candidate_calls, phi),
        champion=_variant(total.champion_events, total.champion_calls, phi),
        ratio_low=round(_ratio_bound(parts, experiment.alpha / 2, phi), 4),
        ratio_high=round(1 / _ratio_bound([part.swapped() for part in parts], experiment.alpha / 2, phi), 4),
    )


def _parts(arms: Mapping[int, Arms], count: int) -> list[Part]:
    return [
        Part(
            each.candidate.total(count),
            each.candidate.total(REQUESTS),
            each.champion.total(count),
            each.champion.total(REQUESTS),
        )
        for _, each in sorted(arms.items())
        if each.candidate is not None
    ]


def _phi(arms: Mapping[int, Arms], series: Mapping[str, Series], count: int) -> float:
    name = next((guard.name for guard in GUARDS if guard.count == count), "")
    over_time = None
    if name in series:
        seen = series[name]
        over_time = dispersion.over_time(seen.half_events, seen.events, seen.half_calls, seen.calls)
    if not arms:
        return dispersion.phi((over_time,))
    values = np.sum([each.champion.values for each in arms.values()], axis=0)
    groups = dispersion.over_groups(values[:, :, count].sum(axis=0), values[:, :, REQUESTS].sum(axis=0))
    return dispersion.phi((over_time, groups))


def _reached(test: EventShareTest, parts: list[Part], phi: float) -> tuple[bool, float]:
    evidence = Evidence()
    for part in parts:
        evidence = test.add(evidence, part)
    log_e = test.log_e(evidence, phi)
    return evidence.events >= MIN_EVENTS and log_e >= test.threshold, log_e


def _ratio_bound(parts: list[Part], alpha: float, phi: float) -> float:
    """The largest ratio up to which the test for "higher" rejects every margin; 1/20 if it rejects none.

    Two passes over a grid of margins, the second between the last rejected and the next: to 0.2 %.
    """
    low, high = 1 / THETA_MAX, THETA_MAX
    if sum(part.candidate_events + part.champion_events for part in parts) < MIN_EVENTS:
        return low
    for _ in range(2):
        margins = np.geomspace(low, high, _GRID)
        kept = np.flatnonzero(_log_e(margins[1:-1], parts, phi) < -math.log(alpha))
        first = int(kept[0]) + 1 if len(kept) else _GRID - 1
        low, high = float(margins[first - 1]), float(margins[first])
    return low


def _log_e(margins: NDArray[np.float64], parts: list[Part], phi: float) -> NDArray[np.float64]:
    """log E of `EventShareTest` at many margins at once, float64[margins]."""
    thetas = np.geomspace(margins, THETA_MAX, THETAS + 1)[1:]
    ratios = np.zeros_like(thetas)
    for part in parts:
        if part.candidate_calls and part.champion_calls:
            odds = part.candidate_calls / part.champion_calls
            spread = np.log1p(odds * thetas) - np.log1p(odds * margins)
            ratios += part.candidate_events * (np.log(thetas / margins) - spread) - part.champion_events * spread
    scaled = ratios / phi
    top = scaled.max(axis=0)
    found: NDArray[np.float64] = top + np.log(np.exp(scaled - top).mean(axis=0))
    return found


def _total(parts: list[Part]) -> Part:
    return Part(
        sum(part.candidate_events for part in parts),
        sum(part.candidate_calls for part in parts),
        sum(part.champion_events for part in parts),
        sum(part.champion_calls for part in parts),
    )


def _variant(events: int, requests: int, phi: float) -> VariantLook:
    if requests == 0:
        return VariantLook(0, events, 0.0, 0.0, 1.0)
    low, high = wilson(events / requests, requests / phi)
    return VariantLook(requests, events, round(events / requests, 6), round(low, 6), round(high, 6))


def wilson(rate: float, size: float) -> tuple[float, float]:
    """The 95 % interval of a share by its score test (Wilson, JASA 1927).

    Args:
        rate: the observed share.
        size: observations, divided by their dispersion; above 0.
    """
    squared = _Z * _Z / size
    middle = (rate + squared / 2) / (1 + squared)
    half = _Z * math.sqrt(rate * (1 - rate) / size + squared / (4 * size)) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)
