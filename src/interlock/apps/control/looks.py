"""Looks at the counters while a rollout is going on: read, judged (`rollout.sight`), kept as evidence.

Contract. A look that changes the rollout is always kept. Between them one is kept every `look_s` in
the first minute of a state or step, then ever less often, each sixtieth of the time that it has lasted,
at most `SLOWEST_S` apart: about 260 in 30 minutes, 1,700 in a day (a few KB each). What a look adds waits until it is
stored, so skipped looks, and those that the store did not take, are part of the next. A new controller
first takes what was kept and then goes on by difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from interlock.base.clock import NS_PER_S, Clock
from interlock.decision.admin import Observed
from interlock.rollout import guards, journal, kept
from interlock.rollout.evidence import Evidence
from interlock.rollout.options import RolloutOptions
from interlock.rollout.replay import restored
from interlock.rollout.sight import Given, Sight, see
from interlock.rollout.step import seconds_since, step
from interlock.rollout.values import Rollout
from interlock.trust.event import Event, NewEvent
from interlock.trust.ports import EventStore

SLOWEST_S = 60.0
_FADING = 60
_LONG_AGO = -(1 << 60)


@dataclass(frozen=True)
class Keeping:
    """The events of one look, and what it means to the evidence that they are stored."""

    events: Sequence[NewEvent]
    text: str


class Looks:
    """The evidence of all unfinished rollouts, and when each was last looked at for the record."""

    def __init__(self, options: RolloutOptions, clock: Clock, actor: str, store: EventStore) -> None:
        self._options = options
        self._clock = clock
        self._actor = actor
        self._store = store
        self._evidence: dict[str, Evidence] = {}
        self._recorded: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        self._starts_after = 0
        self._heard_ns = clock.monotonic_ns()

    def heard(self) -> None:
        """The scorers answered."""
        self._heard_ns = self._clock.monotonic_ns()

    def read(self, rollout: Rollout, observed: Observed | None, frozen: str = "") -> Sight | None:
        """What a rollout sees now; None while the scorers' silence is still short. `frozen`: of the calendar."""
        now, evidence = self._clock.now_ns(), self._of(rollout)
        if observed is None:
            silent = (self._clock.monotonic_ns() - self._heard_ns) / NS_PER_S
            given = Given(now, "the scorers do not answer", read=False, frozen=frozen)
            return see(rollout, evidence, given) if silent >= self._options.silent_s else None
        missing = evidence.feed(observed.counts, observed.workers, now)
        service = observed.services.get(rollout.service)
        ready = rollout.champion is None or (service is not None and rollout.champion.bundle in service.loaded)
        return see(rollout, evidence, Given(now, missing, ready, self._options.tau_samples, frozen=frozen))

    def record(self, rollout: Rollout, sight: Sight) -> Keeping | None:
        """The events that keep a look, with its power where it changes something; None: it is not kept."""
        now = self._clock.monotonic_ns()
        changed = step(rollout, sight.seen, sight.given.at_ns)[0] != rollout
        if not changed and (
            sight.look is None or now - self._recorded.get(rollout.id, _LONG_AGO) < self._pause(rollout)
        ):
            return None
        evidence, powers = self._of(rollout), {}
        if changed and sight.look is not None and rollout.plan is not None:
            powers = guards.powers(evidence.arms(), sight.look, rollout.plan.guards)
        text = kept.pack(evidence.addition())
        pieces = kept.pieces(evidence.number + 1, kept.chained(evidence.digest, text), text)
        return Keeping(journal.looks(self._actor, rollout, sight, pieces, powers), text)

    def kept(self, rollout: Rollout, keeping: Keeping) -> None:
        """The store has taken a look."""
        self._evidence[rollout.id].keep(keeping.text)
        self._recorded[rollout.id] = self._clock.monotonic_ns()

    def forget(self, rollout: Rollout) -> None:
        """A rollout is over: let go of its counts."""
        self._evidence.pop(rollout.id, None)
        self._recorded.pop(rollout.id, None)

    def _pause(self, rollout: Rollout) -> float:
        """Nanoseconds between two looks that are kept although they change nothing."""
        here = seconds_since(rollout.since_ns, self._clock.now_ns()) / _FADING
        return max(self._options.look_s, min(here, SLOWEST_S)) * NS_PER_S

    def _of(self, rollout: Rollout) -> Evidence:
        """The evidence of a rollout; what an earlier controller kept of it is taken first."""
        if rollout.id not in self._evidence:
            self._evidence[rollout.id] = restored(rollout, self._looks(rollout.id))
        return self._evidence[rollout.id]

    def _looks(self, rollout_id: str) -> list[Event]:
        while page := self._store.after(self._starts_after, ("rollout.started",)):
            self._starts |= {journal.parse(event).rollout.id: event.id for event in page}
            self._starts_after = page[-1].id
        found: list[Event] = []
        after = self._starts.get(rollout_id, 0)
        while page := self._store.after(after, (journal.LOOKS,)):
            found += [event for event in page if event.body.get("rollout") == rollout_id]
            after = page[-1].id
        return found
