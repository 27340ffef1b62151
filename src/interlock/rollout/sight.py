"""What one look sees: guards, limits and the experiment, judged on the evidence. Pure, so that a
replay of what was kept comes to the same.

Contract. A limit that is exceeded is a breach by its name. A guard, or a limit, whose harm is not
excluded is unclear, which matters only where evidence decides. What could not be read is *missing*:
it pauses, and is never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from interlock.base.verdict import Verdict, worst
from interlock.rollout import experiment, guards, slo
from interlock.rollout.evidence import Evidence
from interlock.rollout.plan import Plan
from interlock.rollout.states import TRYING, State
from interlock.rollout.values import Looked, Rollout

SPLIT = frozenset({State.CANARY, State.WATCHING})
"""Where the candidate answers, so that limits can be known to be kept."""


class Given(msgspec.Struct, frozen=True):
    """What a look takes besides the counters.

    Attributes:
        at_ns: wall time.
        missing: what could not be read; empty: everything was.
        ready: the champion is loaded in every live worker.
        tau_samples: model calls wanted before τ is known.
        read: the scorers answered; if not, nothing is judged.
        frozen: why no share may grow now; empty: it may.
    """

    at_ns: int
    missing: str = ""
    ready: bool = True
    tau_samples: int = 200
    read: bool = True
    frozen: str = ""


@dataclass(frozen=True)
class Sight:
    """One look: what it was given, what the rollout is told, and on what grounds."""

    given: Given
    seen: Looked
    look: guards.Look | None = None
    limits: tuple[slo.SloLook, ...] = ()
    experiment: experiment.ExperimentLook | None = None

    @property
    def word(self) -> str:
        """The worst verdict of guards and limits; what is missing is never a pass."""
        found = [Verdict[limit.verdict.upper()] for limit in self.limits]
        found += [self.look.verdict] if self.look is not None else []
        found += [Verdict.INCONCLUSIVE] if self.given.missing or not found else []
        return worst(found).word

    def plain(self) -> dict[str, Any]:
        """As events hold it, apart from what journals need."""
        look = self.look
        return {
            "generation": look.generation if look is not None else None,
            "verdict": self.word,
            "requests": {
                "candidate": look.candidate_requests if look is not None else 0,
                "champion": look.champion_requests if look is not None else 0,
            },
            "guards": [vars(each) for each in look.guards] if look is not None else [],
            "limits": [vars(each) for each in self.limits],
            "experiment": self.experiment,
            "seen": self.seen,
            "given": self.given,
        }


def see(rollout: Rollout, evidence: Evidence, given: Given) -> Sight:
    """Judge a rollout on its evidence."""
    if not given.read:
        return Sight(given, Looked(missing=given.missing, frozen=given.frozen))
    plan = rollout.plan
    tau = evidence.tau(rollout.base_generation + 1, given.tau_samples)
    seen = Looked(
        missing=given.missing,
        candidate_requests=evidence.candidate_requests(rollout.generation),
        tau_ns=None if tau is None else max(tau, guards.TAU_FLOOR_NS),
        champion_ready=given.ready,
        frozen=given.frozen,
    )
    if plan is None or (rollout.state not in TRYING and rollout.state is not State.HELD):
        return Sight(given, seen)
    arms, series = evidence.arms(), evidence.series()
    cuts = tuple(cut for each in (rollout.champion, rollout.candidate) if each is not None for cut in each.cuts)
    terms = guards.Terms(clear_alpha=plan.clear_alpha, slos=plan.slos, cuts=cuts)
    look = guards.judge(arms, series, plan.guards, (given.at_ns, rollout.generation), terms=terms)
    limits = slo.judge(evidence.samples(given.at_ns, not given.missing), plan.slos, given.at_ns)
    tried = experiment.winner(arms, series, plan.experiment) if plan.experiment is not None else None
    told = msgspec.structs.replace(
        seen,
        breach=", ".join((*look.breached, *slo.breached(limits))),
        unclear=", ".join(_unclear(rollout, plan, look, limits)),
        # A winner is told only while everything can be seen.
        winner=tried.winner if tried is not None and not given.missing else "",
    )
    return Sight(given, told, look, limits, tried)


def _unclear(rollout: Rollout, plan: Plan, look: guards.Look, limits: tuple[slo.SloLook, ...]) -> tuple[str, ...]:
    if plan.advance != "evidence" or rollout.champion is None:
        # Without a champion there is nothing that a harm could be measured against.
        return ()
    return (*look.unclear, *(slo.unclear(limits) if rollout.state in SPLIT else ()))
