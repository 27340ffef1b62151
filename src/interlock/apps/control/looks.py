"""Looks at the counters while a rollout is going on: read, judged by the guards, kept as evidence."""

from __future__ import annotations

from interlock.base.clock import NS_PER_S, Clock
from interlock.decision.admin import Observed
from interlock.rollout import guards, journal
from interlock.rollout.evidence import Evidence
from interlock.rollout.options import RolloutOptions
from interlock.rollout.states import TRYING, State
from interlock.rollout.step import step
from interlock.rollout.values import Looked, Rollout
from interlock.trust.event import NewEvent

_LONG_AGO = -(1 << 60)


class Looks:
    """The evidence of all services, and when each rollout was last looked at for the record."""

    def __init__(self, options: RolloutOptions, clock: Clock, actor: str) -> None:
        self._options = options
        self._clock = clock
        self._actor = actor
        self._evidence: dict[str, Evidence] = {}
        self._recorded: dict[str, int] = {}
        self._heard_ns = clock.monotonic_ns()

    def heard(self) -> None:
        """The scorers answered."""
        self._heard_ns = self._clock.monotonic_ns()

    def read(self, rollout: Rollout, observed: Observed | None) -> tuple[Looked | None, guards.Look | None]:
        """What a rollout sees now; None while the scorers' silence is still short."""
        if observed is None:
            silent = (self._clock.monotonic_ns() - self._heard_ns) / NS_PER_S
            return (Looked(missing="the scorers do not answer") if silent >= self._options.silent_s else None), None
        now = self._clock.now_ns()
        evidence = self._evidence.setdefault(rollout.service, Evidence(rollout.service))
        missing = evidence.feed(observed.counts, observed.workers, now)
        service = observed.services.get(rollout.service)
        ready = rollout.champion is None or (service is not None and rollout.champion.bundle in service.loaded)
        first = rollout.base_generation + 1
        look, breach = None, ""
        if rollout.plan is not None and (rollout.state in TRYING or rollout.state is State.HELD):
            arms = evidence.arms(first)
            look = guards.judge(arms, evidence.series(first), rollout.plan.guards, (now, rollout.generation))
            breach = ", ".join(look.breached)
        tau = evidence.tau(first, self._options.tau_samples)
        return Looked(breach, missing, evidence.candidate_requests(rollout.generation), tau, ready), look

    def record(self, rollout: Rollout, look: guards.Look, seen: Looked) -> NewEvent | None:
        """The event that keeps a look: one per look interval, and each that changes something, with its power."""
        now = self._clock.monotonic_ns()
        changed = step(rollout, seen, self._clock.now_ns())[0].state is not rollout.state
        due = now - self._recorded.get(rollout.id, _LONG_AGO) >= self._options.look_s * NS_PER_S
        if not changed and not due:
            return None
        self._recorded[rollout.id] = now
        powers = {}
        if changed and rollout.plan is not None:
            arms = self._evidence[rollout.service].arms(rollout.base_generation + 1)
            powers = guards.powers(arms, look, rollout.plan.guards)
        return journal.look(self._actor, rollout, look, powers, look.at_ns)

    def forget(self, rollout: Rollout) -> None:
        """A rollout is over: let go of its counts."""
        self._evidence.pop(rollout.service, None)
        self._recorded.pop(rollout.id, None)
