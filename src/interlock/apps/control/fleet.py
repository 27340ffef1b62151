"""The scorers between rollouts: starts, seals and denials into events, latches opened, leases kept.

What the fleet says is recorded before anything follows from it. A supervisor whose table carries a
newer leader's epoch ends this leader: it returns no observation and gives up leading.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from interlock.apps.control.effects import EPOCH_BITS, Effects, Ground
from interlock.apps.control.memory import Memory
from interlock.apps.control.orders import MAX_ACTOR, MAX_REASON, line
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import RefusedError
from interlock.decision.admin import Denial, Observed, ServiceState
from interlock.decision.seal import body as seal_body
from interlock.rollout.plan import ALL
from interlock.rollout.ports import Scorers
from interlock.rollout.routes import table
from interlock.rollout.values import Effect, Rollout
from interlock.trust.event import NewEvent
from interlock.trust.ports import EventStore

_LONG_AGO = -(1 << 60)
_RESTORE_NS = 10 * NS_PER_S
_log = logging.getLogger(__name__)


class Fleet:
    """What a leader does with the scorers beside its rollouts."""

    def __init__(self, scorers: Scorers, store: EventStore, clock: Clock, actor: str) -> None:
        self._scorers = scorers
        self._store = store
        self._clock = clock
        self._actor = actor
        self._renewed: dict[str, int] = {}
        self._restore_after = _LONG_AGO
        self._told: set[str] = set()

    def observe(self, memory: Memory, epoch: int) -> Observed:
        """The fleet now, with the seals that are not recorded yet.

        Raises:
            UnreachableError: no answer.
            RefusedError: a newer leader rules.
        """
        observed = self._scorers.observe(None, memory.seals_after)
        if any(service.epoch >> EPOCH_BITS > epoch for service in observed.services.values()):
            raise RefusedError("a newer controller rules the scorers", "stop this one, or wait for its lease")
        return observed

    def record_start(self, observed: Observed, memory: Memory) -> None:
        """A supervisor that was not seen before becomes an event; the one that it follows has then ended.

        One that only does not answer is no event: it may serve on. So an end is noticed at the next
        start, and the event says when that was, not when the process ended.
        """
        began, before = observed.began_ns, memory.scorer_began
        if not began or began == before:
            return
        events = [self._event("scorer.started", "scorer", {"began": str(began)})]
        if before:
            body = {"began": str(before), "noticed": "another supervisor has started"}
            events.insert(0, self._event("scorer.stopped", "scorer", body))
        self._store.append_many(events)
        memory.scorer_began = began

    def record_seals(self, observed: Observed, memory: Memory) -> None:
        """Every new seal becomes an event, in the order of their numbers."""
        new = sorted((seal for seal in observed.seals if seal.number > memory.seals_after), key=lambda s: s.number)
        if new:
            self._store.append_many(
                [self._event("segment.sealed", f"segment/{seal.segment}", seal_body(seal)) for seal in new]
            )
            memory.seals_after = new[-1].number

    def record_denials(self, observed: Observed, memory: Memory) -> None:
        """Everything that the scoring doors did not allow becomes an event, once."""
        new = [denial for denial in observed.denials if denial.number > memory.denials_after]
        if new:
            self._store.append_many([_denied(denial) for denial in new])
            memory.denials_after = max(denial.number for denial in new)

    def open_latches(self, observed: Observed, memory: Memory, epoch: int) -> None:
        """A latch on a settled service holds nobody back: record it, and open it by the same table again.

        Less its standing shadows: whoever went back where there is no candidate may have meant them.
        """
        for service, seen in observed.services.items():
            latch, table = seen.latch, seen.table
            if latch is None or table is None or not table.settled or memory.active(service) is not None:
                continue
            if latch.id not in self._told:
                body = {"service": service, "latch": line(latch.id, MAX_ACTOR), "by": line(latch.actor, MAX_ACTOR)}
                body["reason"] = line(latch.reason, MAX_REASON)
                self._store.append(self._event("rollout.retreated", f"service/{service}", body))
                self._told.add(latch.id)
            above = max(epoch << EPOCH_BITS, seen.epoch + 1, latch.epoch + 1)
            self._scorers.install(
                msgspec.structs.replace(
                    table, epoch=above, generation=table.generation + 1, clears=latch.id, shadows=()
                )
            )

    def restore(self, observed: Observed, memory: Memory, ground: Ground, effects: Effects) -> None:
        """Give a supervisor that lost its disk what it routed by: the settled table, or that of the rollout under way.

        Its models are loaded first, through its own trial and admission checks, as at any time.
        """
        if self._clock.monotonic_ns() < self._restore_after:
            return
        for service, settled in memory.settled.items():
            seen, active = observed.services.get(service), memory.active(service)
            if seen is not None and seen.table is not None:
                continue
            if active is None or not active.shape:  # what is not judged yet routes nothing
                self._again(settled[-1], "settled", ALL, ground, effects)
            elif all(effect.kind != "set_route" for effect in active.pending):
                self._again(active, active.shape, active.share, ground, effects)

    def _again(  # long: what is routed, on which ground
        self, rollout: Rollout, shape: str, share: int, ground: Ground, effects: Effects
    ) -> None:
        effect = Effect(-1, "set_route", rollout.generation, share, shape)
        for number, arm in enumerate((*(wanted := table(rollout, effect, 0, ground.lease_s)).arms, *wanted.shadows)):
            load = Effect(-2 - number, "load", bundle=arm.bundle)
            outcome = effects.perform(msgspec.structs.replace(rollout, folder=arm.folder), load, ground)
            if outcome is None or not outcome.ok:
                if outcome is not None:
                    # A trial costs a second of CPU: what was refused is not tried at every turn.
                    self._restore_after = self._clock.monotonic_ns() + _RESTORE_NS
                    _log.error("%s cannot be restored: %s", rollout.service, outcome.detail)
                return
        done = effects.perform(rollout, effect, ground)
        if done is not None and done.ok:
            body = {"service": rollout.service, "generation": rollout.generation, "rollout": rollout.id}
            self._store.append(self._event("scorer.restored", f"service/{rollout.service}", body))

    def keep_lease(self, rollout: Rollout, seen: ServiceState, ground: Ground, effects: Effects) -> None:
        """Renew an unsettled table's lease; put it under this leader's epoch first."""
        if seen.lease_left_s is None or seen.latch is not None or seen.generation != rollout.generation:
            return
        now = self._clock.monotonic_ns()
        if seen.epoch >> EPOCH_BITS < ground.epoch:
            again = Effect(0, "set_route", rollout.generation, rollout.share, rollout.shape)
            effects.perform(rollout, again, ground)
        elif now - self._renewed.get(rollout.id, _LONG_AGO) >= NS_PER_S:
            self._scorers.renew(rollout.service, seen.epoch, seen.generation)
            self._renewed[rollout.id] = now

    def _event(self, kind: str, what: str, body: Mapping[str, object]) -> NewEvent:
        return NewEvent(
            time_ns=self._clock.now_ns(),
            type=kind,
            actor=self._actor,
            origin="controller",
            object=what,
            outcome="success",
            body=dict(body),
        )


def _denied(denial: Denial) -> NewEvent:
    body = {
        "action": denial.action,
        "service": denial.service,
        "reason": denial.reason,
        "count": denial.count,
        "number": str(denial.number),
    }
    return NewEvent(
        time_ns=denial.at_ns,
        type="access.denied",
        actor=denial.principal,
        origin="scorer",
        object=f"service/{denial.service}" if denial.service else "scorer",
        outcome="refused",
        body=body,
    )
