"""The guards: one row each, judged on the workers' own counters.

Contract. A guard is judged only if the plan names it. Its counts are cumulative over this rollout's
generations; within one the weights stand still. φ comes from the champion alone
(`analysis.dispersion`); the tests are in `analysis.harm` (errors, misses, latency, flags, degraded,
nulls, flips, each with its reverse test), `analysis.shape` (scores) and here (parity).

* Latency compares equal batch sizes: its strata are the batch-size bins. τ is never below
  `TAU_FLOOR_NS`: a tiny model that takes 70 µs instead of 35 harms nobody.
* An approval rate is 1 − the flag rate, so `flag_down` and `flag_up` guard it in both directions. While
  the candidate is a shadow they are judged by its flips; afterwards by both, as one e-process.
* The budget: the five guards of the fixed names take a fifth each. The others are named without
  a part (α = 0): they are judged at `WATCH_ALPHA`, shown, and *warn*. A policy that gives one of them a
  `budget` makes it roll back, and must take that from the others. Nothing is lost meanwhile: what the
  candidate's own fault degrades is an error or a miss, and flips fail under the names of the flags.
* Below 10 effective cards (of the arm whose rate would be too high; of the other where that one has
  fewer than 5 groups), or without 20 card groups to take φ from, nothing is judged: inconclusive.
* Harm is excluded by ratio, or absolutely where events are rare: a limit of the policy for that
  metric, else `RARE`. Too *few* flags are never excluded absolutely: a low rate is the harm itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interlock.analysis import harm, shape
from interlock.analysis.harm import Finding, Question, Seen
from interlock.analysis.paired import Flips
from interlock.analysis.rate import RareTest
from interlock.analysis.sequential import EventShareTest
from interlock.base.clock import NS_PER_MS
from interlock.base.verdict import Verdict, worst
from interlock.decision.counts import DEGRADED, ERRORS, FLAGGED, MISSES, NULLS, REQUESTS, SCORE_EDGES, SLOW, TIME_EDGES
from interlock.rollout import arms as counted
from interlock.rollout.arms import SHADOW, SPLIT, Groups
from interlock.rollout.arms import Arms as Arms
from interlock.rollout.arms import Series as Series
from interlock.rollout.plan import GuardSetting, Slo

TAU_FLOOR_NS = TIME_EDGES[64]
"""0.256 ms, an edge of the fixed bins: τ is never lower. Model time is a part of a reply that may take
50 ms; below a two-hundredth of that no caller can tell two models apart, and a busy machine's wake-ups would
be compared instead."""
WATCH_ALPHA = 0.002
"""α of a guard that has no part of the budget and so only warns."""
RARE = 0.001
"""The rate of errors, misses, degraded answers or null features below which a candidate does no harm."""
RARE_SLOW = 0.01
"""The share of model calls over `TAU_FLOOR_NS` below which its latency does no harm, τ known or not."""
P95_SHARE = 0.05
PARITY_LIMIT = 1e-6


@dataclass(frozen=True)
class GuardLook:
    """One guard at one look: what it saw and what it says.

    Attributes:
        guard: its name.
        verdict: fail, error, inconclusive or pass.
        log_e, bound: log E of the harm test against log(1/α). Of `score_shape`: PSI, and what it must
            exceed; of `parity`: the largest |score difference|, and what it may not exceed.
        candidate, champion: events.
        dispersion: φ.
        log_e_clear, bound_clear: log E of the reverse test, and what excludes the harm.
        cleared: harm is excluded, or this phase cannot show it.
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


@dataclass(frozen=True)
class Terms:
    """What a judgement rests on beside the counts.

    Attributes:
        clear_alpha: of the reverse tests.
        slos: limits of the policy; those that are absolute also say what is harmless.
        cuts: scores at which a decision changes.
    """

    clear_alpha: float = 0.05
    slos: Sequence[Slo] = ()
    cuts: Sequence[float] = ()


@dataclass(frozen=True)
class _Case:
    arms: Sequence[Arms]
    groups: Groups
    setting: GuardSetting
    terms: Terms
    phi: float


@dataclass(frozen=True)
class Guard:
    """A watched quantity.

    Attributes:
        name: as policies name it.
        count: the counter, also of the series for φ.
        margin: the default θ₀.
        judge: how it is judged.
        phases: where it can be seen.
        downwards: the harm is a rate that is too low.
        metric: the limit of a policy that excludes this harm; empty: none does.
        rare: the limit where the policy gives none.
        paid: it has a part of the default budget.
    """

    name: str
    count: int
    margin: float
    judge: Callable[[Guard, _Case], GuardLook]
    phases: tuple[str, ...] = (SPLIT,)
    downwards: bool = False
    metric: str = ""
    rare: float | None = None
    paid: bool = True


def _share(guard: Guard, case: _Case) -> GuardLook:
    """An event-share guard; flags add the flips of shadows."""
    flips = counted.flips(case.arms) if guard.count == FLAGGED else Flips()
    limit = _limit(guard, case.terms.slos)
    rare = counted.slow(case.arms, _slow_ns(case)) if guard.count == SLOW else counted.rare(case.arms, guard.count)
    seen = Seen([part for each in case.arms for part in counted.parts(each, guard.count)], flips, rare)
    found = harm.find(_question(guard, case, limit), seen, case.phi, case.groups.enough(guard.count, guard.downwards))
    return _look(guard, case, found, (seen.candidate, seen.champion))


def _agreement(guard: Guard, case: _Case) -> GuardLook:
    """Flips in both directions, each with half of α; harm is excluded when it is in both."""
    seen, enough = Seen(flips=counted.flips(case.arms)), case.groups.enough(guard.count, guard.downwards)
    found = [harm.find(_question(guard, case, None, down, 2), seen, case.phi, enough) for down in (False, True)]
    worse = max(found, key=lambda one: one.log_e)
    less = min(found, key=lambda one: one.log_e_clear)
    both = Finding(
        min(one.verdict for one in found),
        worse.log_e,
        worse.bound,
        less.log_e_clear,
        less.bound_clear,
        all(one.cleared for one in found),
    )
    return _look(guard, case, both, (seen.candidate, seen.champion))


def _parity(guard: Guard, case: _Case) -> GuardLook:
    """Same scores: one difference fails at once, without statistics; few pairs show nothing."""
    shadows = [each.paired for each in case.arms if each.paired is not None]
    pairs = sum(each.pairs for each in shadows)
    largest = max((each.largest for each in shadows), default=0.0)
    failed = largest > PARITY_LIMIT
    verdict = Verdict.FAIL if failed else Verdict.PASS if pairs else Verdict.INCONCLUSIVE
    clear, bound = RareTest(RARE).log_e(0, pairs, case.phi), -math.log(case.terms.clear_alpha)
    found = Finding(verdict, largest, PARITY_LIMIT, clear, bound, not failed and clear >= bound)
    return _look(guard, case, found, (pairs, pairs))


def _shape(guard: Guard, case: _Case) -> GuardLook:
    """The shape of the scores against the champion's; the margin multiplies the floor of what matters."""
    champion = np.sum([each.champion.scores for each in case.arms], axis=0)
    candidate = np.sum([counted.scores(each) for each in case.arms], axis=0)
    cuts = [shape.edge_at(SCORE_EDGES, cut) for cut in case.terms.cuts]
    found = shape.compare(champion, candidate, cuts, _alpha(case.setting), case.phi)
    bound = max(found.critical, case.setting.margin * shape.FLOOR) if found.bins > 1 else 0.0
    verdict = Verdict.INCONCLUSIVE
    if found.bins > 1:
        verdict = Verdict.FAIL if found.psi > bound else Verdict.PASS
    judged = Finding(verdict, found.psi, bound, 0.0, 0.0, verdict is Verdict.PASS)
    return _look(guard, case, judged, (found.candidate, found.champion))


GUARDS: tuple[Guard, ...] = (
    Guard("errors", ERRORS, 2.0, _share, (SHADOW, SPLIT), metric="errors", rare=RARE),
    Guard("misses", MISSES, 2.0, _share, metric="misses", rare=RARE),
    Guard("latency", SLOW, 1.3, _share, metric="p95", rare=RARE_SLOW),
    Guard("flag_up", FLAGGED, 1.3, _share, (SHADOW, SPLIT), metric="flagged"),
    Guard("flag_down", FLAGGED, 1.3, _share, (SHADOW, SPLIT), downwards=True),
    Guard("degraded", DEGRADED, 2.0, _share, metric="degraded", rare=RARE, paid=False),
    Guard("nulls", NULLS, 2.0, _share, metric="nulls", rare=RARE, paid=False),
    Guard("shadow_flips", FLAGGED, 1.3, _agreement, (SHADOW,), paid=False),
    Guard("score_shape", FLAGGED, 1.0, _shape, (SHADOW, SPLIT), paid=False),
    Guard("parity", FLAGGED, 1.0, _parity, (SHADOW,), paid=False),
)
PARITY = "parity"
_FREE = (_shape, _parity)
"""Judged without a part of the budget: the one only warns, the other is certain."""
HARMS = (2.0, 10.0)
"""Ratios for which a look states its power."""


def defaults(budget: float) -> dict[str, GuardSetting]:
    """Every guard but parity with its default margin; those of the fixed names share the budget equally."""
    part = budget / sum(guard.paid for guard in GUARDS)
    return {
        guard.name: GuardSetting(guard.margin, part if guard.paid else 0.0) for guard in GUARDS if guard.name != PARITY
    }


def spent(settings: Mapping[str, GuardSetting]) -> float:
    """The sum of the parts that may cause a false rollback: it must not exceed the budget."""
    return sum(settings[each.name].alpha for each in GUARDS if each.name in settings and each.judge not in _FREE)


def judge(
    arms: Mapping[int, Arms],
    series: Mapping[str, Series],
    settings: Mapping[str, GuardSetting],
    at: tuple[int, int],
    *,
    terms: Terms = Terms(),
) -> Look:
    """All guards that are named, on all generations of a rollout.

    Args:
        arms: cumulative counts by generation; within one the weights stand still, so that its
            observed share is the share of every event in it.
        series: the champion over time, by guard.
        settings: margin and α by guard; a guard without a setting is not judged.
        at: (wall time ns, current generation).
        terms: of the reverse tests and limits.
    """
    now_ns, generation = at
    current = arms.get(generation)
    every = tuple(arms.values())
    groups = Groups.of(every)
    looks = []
    for guard in GUARDS:
        if guard.name in settings:
            phi = groups.phi(guard.count, series.get(guard.name))
            case = _Case(every, groups, settings[guard.name], terms, phi)
            looks.append(_in_phase(guard, guard.judge(guard, case), current))
    judged = [Verdict[look.verdict.upper()] for look in looks if not look.warns]
    return Look(
        now_ns,
        generation,
        worst(judged or [Verdict.ERROR]),
        counted.candidate_requests(current) if current is not None else 0,
        current.champion.total(REQUESTS) if current is not None else 0,
        tuple(looks),
    )


def powers(arms: Mapping[int, Arms], look: Look, settings: Mapping[str, GuardSetting]) -> dict[str, dict[str, float]]:
    """What a rollout could have caught so far: by guard of the budget, ratio of harm to probability."""
    champion = sum(each.champion.total(REQUESTS) for each in arms.values())
    candidate = sum(counted.candidate_requests(each) for each in arms.values())
    shares = {guard.name for guard in GUARDS if guard.judge is _share}
    if champion == 0:
        return {}
    found = {}
    for each in look.guards:
        if each.guard not in shares or each.warns:
            continue
        setting = settings[each.guard]
        test = EventShareTest(setting.margin, setting.alpha)
        odds = candidate / champion
        found[each.guard] = {f"{h:g}": round(test.power(h, each.champion, odds, each.dispersion), 3) for h in HARMS}
    return found


def _question(
    guard: Guard, case: _Case, limit: float | None, downwards: bool | None = None, sides: int = 1
) -> Question:
    down = guard.downwards if downwards is None else downwards
    setting = case.setting
    return Question(setting.margin, _alpha(setting) / sides, setting.excluded, case.terms.clear_alpha, down, limit)


def _alpha(setting: GuardSetting) -> float:
    return setting.alpha or WATCH_ALPHA


def _look(guard: Guard, case: _Case, found: Finding, events: tuple[int, int]) -> GuardLook:
    free = guard.judge in _FREE
    digits = 9 if free else 4
    return GuardLook(
        guard.name,
        found.verdict.word,
        round(found.log_e, digits),
        round(found.bound, digits),
        *events,
        round(case.phi, 4),
        round(found.log_e_clear, 4),
        round(found.bound_clear, 4),
        found.cleared,
        guard.judge is _shape or (not free and not case.setting.alpha),
    )


def _in_phase(guard: Guard, look: GuardLook, current: Arms | None) -> GuardLook:
    """What this phase cannot show does not keep it from ending."""
    if current is None or current.phase in guard.phases or look.verdict == Verdict.FAIL.word:
        return look
    return GuardLook(**{**vars(look), "cleared": True})


def _limit(guard: Guard, slos: Sequence[Slo]) -> float | None:
    """The rate below which this guard's quantity does no harm."""
    given = [slo.above for slo in slos if guard.metric and slo.metric == guard.metric and not slo.relative]
    if guard.count == SLOW:
        return P95_SHARE if given else guard.rare
    return min([limit for limit in given if 0 < limit < 1], default=guard.rare)


def _slow_ns(case: _Case) -> float:
    """The model time below which nobody is harmed."""
    given = [slo.above * NS_PER_MS for slo in case.terms.slos if slo.metric == "p95" and not slo.relative]
    return min(given, default=TAU_FLOOR_NS)
