"""A policy played against traffic that nobody has to fear: how often it errs, how soon it sees.

Contract. Pure: everything random comes from the source of traffic. A play goes through the real
machine (`rollout.step`) and the real guards (`guards.judge`) on the counts that both arms would
have had, one look after the other; effects succeed at once, no source is ever missing, nobody
pauses. What is left out is said by `left_out`. A play ends when the rollout is decided, when only a
person could go on (held), or at the time limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np

from interlock.analysis.interval import clopper_pearson
from interlock.base.clock import NS_PER_S
from interlock.decision.counts import (
    BATCH_BINS,
    COUNTS,
    ERRORS,
    FLAGGED,
    MISSES,
    REQUESTS,
    ArmCounts,
    Ints,
    ShadowCounts,
)
from interlock.rollout import guards
from interlock.rollout.evidence import STEP_S
from interlock.rollout.guards import Arms, Series, Terms
from interlock.rollout.plan import Plan
from interlock.rollout.recorded import Recorded, Recording
from interlock.rollout.states import FINAL, State
from interlock.rollout.step import step
from interlock.rollout.streams import Synthetic, Traffic
from interlock.rollout.values import Admitted, Begun, Looked, Outcome, Rollout, Target

LOOKS_PER_PART = 60
SLOWEST_S = 15.0
_TAU_NS = 1
"""The sources say themselves which calls were slow: the threshold's value is of no matter here."""


class Source(Protocol):
    """Traffic: what each arm counts in the next seconds, int64 [100 card groups, counts] each."""

    def look(self, share: int, seconds: float) -> tuple[Ints, Ints]:
        """The champion's and the candidate's counts while the candidate owns `share` of 10,000 buckets."""
        ...

    def pairs(self, seconds: float) -> tuple[Ints, Ints]:
        """What the champion answered, and what the candidate as its shadow would have, over the same calls."""
        ...


@dataclass(frozen=True)
class Played:
    """One play.

    Attributes:
        outcome: `settled`, `rolled_back`, `held` or `unfinished`.
        seconds: until it ended.
        majority_s: until the candidate had more than half of the traffic; None: it never had.
        detected_s: from the candidate's first transaction to the breach; None: there was none.
        caught_in: the state in which it was seen.
        reason: what failed, or what it waits for.
        candidate_requests: that the candidate answered.
        harmed: of those, events more than the champion would have had, in expectation.
    """

    outcome: str
    seconds: float
    majority_s: float | None
    detected_s: float | None
    caught_in: str
    reason: str
    candidate_requests: int
    harmed: float


@dataclass(frozen=True)
class Summary:
    """Many plays of one policy on one kind of traffic."""

    runs: int
    settled: int
    rolled_back: int
    held: int
    unfinished: int
    rolled_back_share: float
    interval: tuple[float, float]
    detected_s: dict[str, float | None]
    majority_s: dict[str, float | None]
    settled_s: dict[str, float | None]
    harmed: dict[str, float | None]
    reasons: dict[str, int]
    caught_in: dict[str, int]
    times: tuple[float, ...] = field(default=(), repr=False)
    """Detection times, sorted: what a plot shows."""


def look_seconds(plan: Plan) -> float:
    """Seconds between two looks that suit a plan: its shortest part has 60, but they are 1, 5, 10 or 15 s apart."""
    parts = [part for part in (plan.shadow_s, *(each.for_s for each in plan.steps), plan.watch_s) if part > 0]
    steps = min(min(parts, default=0.0) / LOOKS_PER_PART, SLOWEST_S) // STEP_S
    return max(steps * STEP_S, 1.0)


def limit_seconds(plan: Plan) -> float:
    """Seconds after which every play of a plan is over, or held."""
    return plan.shadow_s + sum(each.for_s for each in plan.steps) + plan.watch_s + 2 * plan.deadline_s + SLOWEST_S


def left_out(plan: Plan) -> list[str]:
    """What of a policy is not played, in words."""
    found = []
    if plan.slos:
        found.append("limits (slo) do not fail; absolute ones say what is harmless")
    if plan.shadow_s:
        found.append("a shadow without harm decides as the champion does: nothing flips either way")
    if plan.experiment is not None:
        found.append("an experiment is not stopped early: it lasts its whole period")
    return found


def play(plan: Plan, source: Source, look_s: float, limit_s: float, ratios: Sequence[float] = ()) -> Played:
    """One rollout of `plan` on the traffic of `source`.

    Args:
        plan: the policy; `advance` must be set.
        source: one rollout's traffic.
        look_s: seconds between two looks: 5 s or less, or a multiple of that.
        limit_s: seconds after which the play ends.
        ratios: by count, how many times the champion's rate the candidate truly has; empty: 1 for all.
    """
    # A guard without a part of the budget only warns: it changes nothing here, and takes time.
    paid = {name: each for name, each in plan.guards.items() if each.alpha > 0}
    plan = msgspec.structs.replace(plan, guards=paid)
    counted = _Counted(ratios or (1.0,) * len(COUNTS))
    rollout = _performed(_begun(plan), 0)
    now = 0.0
    while not _over(rollout) and now < limit_s:
        now += look_s
        left = look_s
        while left > 0:  # dispersion is taken over steps of five seconds
            counted.take(rollout, source, min(left, STEP_S))
            left -= STEP_S
        now_ns = round(now * NS_PER_S)
        rollout, _ = step(rollout, _looked(plan, rollout, counted, now_ns), now_ns)
        rollout = _performed(rollout, now_ns)
    return _played(rollout, counted, now)


def summarise(plays: Iterable[Played]) -> Summary:
    """What many plays say together; the interval is Clopper and Pearson's at 95 %."""
    every = list(plays)
    of = {name: [each for each in every if each.outcome == name] for name in _OUTCOMES}
    back = of["rolled_back"]
    times = sorted(each.detected_s for each in back if each.detected_s is not None)
    return Summary(
        runs=len(every),
        settled=len(of["settled"]),
        rolled_back=len(back),
        held=len(of["held"]),
        unfinished=len(of["unfinished"]),
        rolled_back_share=len(back) / len(every),
        interval=clopper_pearson(len(back), len(every)),
        detected_s=_spread(times),
        majority_s=_spread([each.majority_s for each in every if each.majority_s is not None]),
        settled_s=_spread([each.seconds for each in of["settled"]]),
        harmed=_spread([each.harmed for each in every]),
        reasons=_tally(each.reason for each in every if each.reason),
        caught_in=_tally(each.caught_in for each in back),
        times=tuple(times),
    )


@dataclass(frozen=True)
class Setting:
    """What is played, often.

    Attributes:
        plan: the policy; `advance` must be set.
        traffic: synthetic traffic, or the harm that is put on a recording.
        recording: recorded traffic; None: synthetic.
        seed: of the whole; every play has a generator of its own, made of it and its number.
        look_s: seconds between two looks.
        limit_s: seconds after which a play ends.
    """

    plan: Plan
    traffic: Traffic
    recording: Recording | None
    seed: int
    look_s: float
    limit_s: float


def plays(setting: Setting, numbers: Iterable[int]) -> list[Played]:
    """The plays of these numbers; the same whoever plays them, in whatever order."""
    ratios = [setting.traffic.ratio(count) for count in range(len(COUNTS))]
    found = []
    for number in numbers:
        rng = np.random.default_rng([setting.seed, number])
        source: Source
        if setting.recording is None:
            source = Synthetic(setting.traffic, rng)
        else:
            source = Recorded(setting.recording, setting.traffic.harm, rng)
        found.append(play(setting.plan, source, setting.look_s, setting.limit_s, ratios))
    return found


_OUTCOMES = ("settled", "rolled_back", "held", "unfinished")


class _Counted:
    """Cumulative counts of one play: by generation, and the champion's by step of five seconds."""

    def __init__(self, ratios: Sequence[float]) -> None:
        self._ratios = np.array(ratios)
        self._champions: dict[int, Ints] = {}
        self._candidates: dict[int, Ints] = {}
        self._shadows: dict[int, ShadowCounts] = {}
        self._steps: list[Ints] = []
        self._step: Ints = np.zeros((2, len(COUNTS)), np.int64)
        self._stepped_s = 0.0
        self.first_s: float | None = None
        self.now_s = 0.0
        self.harmed = 0.0

    def take(self, rollout: Rollout, source: Source, seconds: float) -> None:
        """What is counted in the next seconds under the table in force."""
        generation = rollout.generation
        if rollout.shape == "shadow":
            champion, shadow = source.pairs(seconds)
            before = self._shadows.get(generation, ShadowCounts())
            self._shadows[generation] = before.plus(_paired(champion, shadow))
        else:
            champion, candidate = source.look(rollout.share, seconds)
            if rollout.share:
                self._add(self._candidates, generation, candidate)
                excess = np.maximum(1 - 1 / self._ratios, 0.0)
                self.harmed += float(candidate.sum(axis=0)[1:] @ excess[1:])
        if self.first_s is None and rollout.shape in ("shadow", "split"):
            self.first_s = self.now_s
        self.now_s += seconds
        self._add(self._champions, generation, champion)
        self._stepping(champion, seconds)

    def arms(self) -> dict[int, Arms]:
        """By generation, where the champion met a candidate or a shadow."""
        met = sorted({*self._candidates, *self._shadows})
        return {
            g: Arms(_arm(self._champions[g]), _optional(self._candidates.get(g)), self._shadows.get(g)) for g in met
        }

    def series(self) -> dict[str, Series]:
        """The champion over time, by guard."""
        if not self._steps:
            return {}
        steps = np.stack(self._steps)
        half, whole = steps[:, 0], steps[:, 1]
        return {
            each.name: Series(half[:, each.count], whole[:, each.count], half[:, REQUESTS], whole[:, REQUESTS])
            for each in guards.GUARDS
        }

    def requests(self, generation: int | None = None) -> int:
        """Requests that the candidate answered, under one generation or in all."""
        wanted = (each for g, each in self._candidates.items() if generation in (None, g))
        return sum(int(each[:, REQUESTS].sum()) for each in wanted)

    @staticmethod
    def _add(found: dict[int, Ints], generation: int, more: Ints) -> None:
        found[generation] = found[generation] + more if generation in found else more

    def _stepping(self, champion: Ints, seconds: float) -> None:
        self._step = self._step + np.stack([champion[::2].sum(axis=0), champion.sum(axis=0)])
        self._stepped_s += seconds
        if self._stepped_s >= STEP_S - 1e-9:
            self._steps.append(self._step)
            self._step, self._stepped_s = np.zeros_like(self._step), 0.0


def _begun(plan: Plan) -> Rollout:
    rollout = Rollout(
        id="simulated", service="simulated", commit="", folder="", version="", wish="", salt="", started_ns=0
    )
    rollout, _ = step(rollout, Begun(), 0)
    champion, candidate = (Target(name, name, name, name) for name in ("champion", "candidate"))
    return step(rollout, Admitted(candidate, plan, champion, 0), 0)[0]


def _performed(rollout: Rollout, now_ns: int) -> Rollout:
    """Every effect succeeds at once."""
    while rollout.pending:
        rollout, _ = step(rollout, Outcome(rollout.pending[0].n), now_ns)
    return rollout


def _over(rollout: Rollout) -> bool:
    return rollout.state in FINAL or (rollout.state is State.HELD and rollout.hold in ("person", "inconclusive"))


def _looked(plan: Plan, rollout: Rollout, counted: _Counted, now_ns: int) -> Looked:
    at, terms = (now_ns, rollout.generation), Terms(plan.clear_alpha, plan.slos)
    look = guards.judge(counted.arms(), counted.series(), plan.guards, at, terms=terms)
    return Looked(
        breach=", ".join(look.breached),
        candidate_requests=counted.requests(rollout.generation),
        tau_ns=_TAU_NS,
        unclear=", ".join(look.unclear),
    )


def _played(rollout: Rollout, counted: _Counted, now: float) -> Played:
    # An experiment that the champion wins goes back without a breach: it is settled, on the champion.
    back = rollout.state is State.ROLLED_BACK and bool(rollout.breach_ns)
    outcome = "rolled_back" if back else "settled" if rollout.state in FINAL else "unfinished"
    if rollout.state is State.HELD:
        outcome = "held"
    begun = counted.first_s or 0.0
    return Played(
        outcome,
        now,
        rollout.majority_ns / NS_PER_S if rollout.majority_ns else None,
        rollout.breach_ns / NS_PER_S - begun if back else None,
        rollout.caught_in if back else "",
        rollout.reason,
        counted.requests(),
        counted.harmed,
    )


def _arm(values: Ints) -> ArmCounts:
    whole = np.zeros((len(BATCH_BINS), *values.shape), np.int64)
    whole[0] = values
    return ArmCounts(whole)


def _optional(values: Ints | None) -> ArmCounts | None:
    return None if values is None else _arm(values)


def _paired(champion: Ints, shadow: Ints) -> ShadowCounts:
    """Pairs in which as few decisions differ as the counts of each group allow."""
    ours, theirs = champion[:, FLAGGED], shadow[:, FLAGGED]
    errors = int(shadow[:, ERRORS].sum())
    return ShadowCounts(
        pairs=int(champion[:, REQUESTS].sum()) - errors,
        up=int(np.maximum(theirs - ours, 0).sum()),
        down=int(np.maximum(ours - theirs, 0).sum()),
        kept=int(np.minimum(ours, theirs).sum()),
        errors=errors,
        misses=int(shadow[:, MISSES].sum()),
    )


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median and 95th percentile of what was seen."""
    if not values:
        return {"p50": None, "p95": None}
    return {f"p{q:g}": round(float(np.percentile(values, q, method="higher")), 3) for q in (50, 95)}


def _tally(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items(), key=lambda each: -each[1]))
