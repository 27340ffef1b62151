"""The reconciler: makes what serves equal to what the branch asks for, one turn at a time.

A turn leads (lease with fencing epoch), integrates events into the log, reads the branch and the
fleet, and lets `rollout.step` decide. Order is the contract: what is intended is in the journal
before it is done, and what is done is recorded after; going back never waits for the branch. A
killed reconciler resumes by folding the journal: pending effects are performed again. Without the
lease a turn does nothing. `BaseException`s pass (a simulated or real kill); expected errors are
logged and the turn goes on.
"""
# long: the order of a turn is the contract, and is read as a whole

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import msgspec

from interlock.apps.control import pace
from interlock.apps.control.branch import Branch
from interlock.apps.control.calendar import Calendar
from interlock.apps.control.effects import Effects, Ground
from interlock.apps.control.fenced import Fenced
from interlock.apps.control.fleet import Fleet
from interlock.apps.control.looks import Looks
from interlock.apps.control.memory import ABORT, PAUSE, REQUESTS, RESUME, RETURN, Memory
from interlock.apps.control.orders import MAX_ACTOR, MAX_REASON, line
from interlock.apps.control.returns import Returns
from interlock.apps.control.wishes import Wish
from interlock.base.canonical import digest_of
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError, UsageError
from interlock.base.ids import Ids, uuid7
from interlock.decision.admin import Observed, ServiceState
from interlock.rollout import journal
from interlock.rollout.environments import NotYetError
from interlock.rollout.manifest import Manifests, Release, parse
from interlock.rollout.options import ControlOptions, RolloutOptions
from interlock.rollout.plan import Plan, returning
from interlock.rollout.ports import Scorers, Source
from interlock.rollout.sight import Sight
from interlock.rollout.states import FINAL, State
from interlock.rollout.step import seconds_since, step
from interlock.rollout.values import (
    Aborted,
    Admitted,
    Begun,
    Effect,
    Latched,
    Observation,
    Outcome,
    Paused,
    Rejected,
    Resumed,
    Rollout,
    Superseded,
    Target,
)
from interlock.trust.event import Event, NewEvent
from interlock.trust.ports import EventStore

_log = logging.getLogger(__name__)
ACTOR = "controller"
LEASE = "controller"
_LONG_AGO = -(1 << 60)


class Gate(Protocol):
    """Judges a wish and makes its admission: in the log first, then on disk. Called on threads of the runner."""

    def check(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        """The admitted target.

        Raises:
            RefusedError, IntegrityError, UsageError: why not.
            UnreachableError: it could not be judged; try again.
        """
        ...

    def verify(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        """The target by the admission that it has from before, judged again; nothing new is admitted.

        Whoever wrote the commit that asks for it must be known, as for any other.

        Raises:
            RefusedError, IntegrityError: why not.
        """
        ...

    def plan(self, wish: Wish, manifests: Manifests) -> Plan:
        """The policy's plan with the way of advancing that the service's tier has, or allows.

        Raises:
            RefusedError: the tier does not allow what the policy names.
        """
        ...


@dataclass(frozen=True)
class Ports:
    """Everything outside that a reconciler works with."""

    store: EventStore
    scorers: Scorers
    source: Source | None
    gate: Gate
    clock: Clock
    ids: Ids
    runner: Executor
    sequence: Callable[[], int]
    """Integrates events into the log."""


class _Judging(NamedTuple):
    """A check under way."""

    wish: Wish
    champion: Target | None
    manifests: Manifests
    judged: Future[tuple[Target, Plan]]


class Reconciler:
    """One controller; `turn` it."""

    def __init__(self, ports: Ports, rollout: RolloutOptions, control: ControlOptions, holder: str) -> None:
        # Whoever slept through the end of its lease writes no journal: the next leader goes by it.
        self._journal = Fenced(ports.store, LEASE, lambda: self._epoch)
        self._ports = ports = replace(ports, store=self._journal)
        self._options = rollout
        self._control = control
        self._holder = holder
        self._effects = Effects(ports.scorers, ports.source, ports.runner, ports.clock, rollout.environment)
        self._epoch: int | None = None
        self._lease_until = 0
        self._forget()

    def _forget(self) -> None:
        self._memory: Memory | None = None
        self._journal.doubtful = False
        self._looks = Looks(self._options, self._ports.clock, ACTOR, self._ports.store)
        self._fleet = Fleet(self._ports.scorers, self._ports.store, self._ports.clock, ACTOR)
        self._said: dict[str, str] = {}
        self._check_after: dict[str, int] = {}
        self._judging: dict[str, _Judging] = {}
        ports, options = self._ports, self._options
        self._returns = Returns(ports.store, ports.source, ports.runner, ports.clock, options, ACTOR)
        self._branch = Branch(self._ports.source, self._ports.runner, self._ports.clock, self._options)
        self._calendar = Calendar(self._options.environment)

    @property
    def _known(self) -> Memory:
        if self._memory is None:
            self._memory = Memory.of(self._ports.store)
        return self._memory

    def turn(self) -> bool:
        """One turn; False while somebody else leads."""
        if not self._lead():
            return False
        if not self._remembers():
            return True
        observed = self._observe()
        if self._epoch is None:
            return False
        if self._journal.doubtful:
            self._attempt("read the journal again", self._recall)
        self._attempt("integrate events", self._ports.sequence)
        self._attempt("read requests", self._read_requests)
        self._attempt("return to a version", lambda: self._returns.turn(self._known))
        if observed is not None:
            self._attempt("record a start", lambda: self._fleet.record_start(observed, self._known))
            self._attempt("record seals", lambda: self._fleet.record_seals(observed, self._known))
            self._attempt("record denials", lambda: self._fleet.record_denials(observed, self._known))
            ground = self._ground(observed)
            self._attempt(
                "restore the routes", lambda: self._fleet.restore(observed, self._known, ground, self._effects)
            )
            self._attempt("open latches", lambda: self._fleet.open_latches(observed, self._known, self._epoch or 0))
        self._attempt("follow the branch", lambda: self._follow(observed))
        for rollout_id in self._in_order():
            self._attempt(f"carry out {rollout_id}", lambda id=rollout_id: self._carry(id, observed))  # type: ignore[misc]
        return True

    def _in_order(self) -> list[str]:
        """Whoever may have to go back comes before whoever is only judged, which can take its time."""
        return sorted(self._known.rollouts, key=lambda name: self._known.rollouts[name].state in _UNJUDGED)

    def busy(self) -> bool:
        """Whether any rollout is unfinished or has something left to do."""
        return bool(self._known.rollouts)

    def pause_s(self, most_s: float) -> float:
        """How long to wait until the next turn, at most `most_s`."""
        rollouts = () if self._memory is None else self._memory.rollouts.values()
        return pace.pause_s(rollouts, self._ports.clock.now_ns(), most_s)

    def hurry(self) -> None:
        """Look at the branch soon: somebody says that it moved. Of any thread."""
        self._branch.hurry()

    def leave(self) -> None:
        """Give the lease back, so that another controller need not wait for its end."""
        if self._epoch is not None:
            self._ports.store.lease(LEASE, self._holder, self._ports.clock.now_ns(), 0)
            self._epoch = None

    # --- leading and resuming -------------------------------------------------------------

    def _lead(self) -> bool:
        now, ttl = self._ports.clock.now_ns(), round(self._control.lease_s * NS_PER_S)
        if self._epoch is not None and now < self._lease_until - ttl * 2 // 3:
            return True
        try:
            epoch = self._ports.store.lease(LEASE, self._holder, now, ttl)
        except UnreachableError:
            # Nobody else can take the lease before it ends either; what waits least is going back.
            return self._epoch is not None and self._memory is not None and now < self._lease_until
        if epoch != self._epoch:
            self._forget()
        self._epoch = epoch
        self._lease_until = now + ttl
        return epoch is not None

    def _observe(self) -> Observed | None:
        try:
            observed = self._fleet.observe(self._known, self._epoch or 0)
        except UnreachableError as error:
            _log.warning("the scorers do not answer: %s", error)
            return None
        except RefusedError as error:
            _log.error("%s", error)
            self._epoch = None
            return None
        self._looks.heard()
        return observed

    def _ground(self, observed: Observed | None) -> Ground:
        return Ground(self._epoch or 0, self._control.table_lease_s, observed.services if observed else {})

    def _remembers(self) -> bool:
        """Whether the journal has been read; a store that ends right after an election ends no controller."""
        try:
            return self._known is not None
        except UnreachableError as error:
            _log.warning("the journal cannot be read: %s", error)
            return False

    def _recall(self) -> None:
        """After an append without an answer: what the journal holds is what holds."""
        self._memory = Memory.of(self._ports.store)
        self._journal.doubtful = False

    # --- the branch -----------------------------------------------------------------------

    def _follow(self, observed: Observed | None) -> None:
        try:
            known = self._known
            wishes = self._branch.poll({*known.settled, *(each.service for each in known.rollouts.values())})
        except RefusedError as error:
            self._refuse_branch(str(error))
            return
        self._calendar.mind(wishes)
        for wish in wishes.values():
            self._attempt(f"consider {wish.service}", lambda wish=wish: self._consider(wish, observed))  # type: ignore[misc]

    def _consider(self, wish: Wish, observed: Observed | None) -> None:
        live = self._known.live(wish.service)
        active = self._known.active(wish.service)
        if active is not None:
            self._reconsider(active, wish, live, observed)
        elif (live is None or live.folder != wish.folder) and wish.key not in self._known.tried:
            self._propose(wish)

    def _settled_before(self, service: str, folder: str) -> bool:
        """Whether a release is one that may serve again without a new analysis."""
        earlier = self._known.earlier(service, self._options, self._ports.clock.now_ns())
        return any(each.folder == folder for each in earlier)

    def _reconsider(self, active: Rollout, wish: Wish, live: Target | None, observed: Observed | None) -> None:
        if active.folder == wish.folder or active.state in FINAL:
            return
        if live is not None and live.folder == wish.folder:
            self._feed(active.id, Aborted("git", f"commit {wish.commit[:12]} asks for the champion again"))
        elif not _champion_answers(active, observed):
            raise UnreachableError("the champion is not ready to take over from the candidate", "wait, or abort it")
        else:
            self._feed(active.id, Superseded(wish.commit))

    def _propose(self, wish: Wish) -> None:
        try:
            if wish.problem:
                raise UsageError(wish.problem, wish.remedy)
            spent = self._known.quarantined.get((wish.service, wish.folder))
            if spent is not None and (not wish.signed or spent & set(wish.signed)):
                raise RefusedError(
                    "this release was rolled back and is in quarantine",
                    "a new admission is needed: have everybody sign a new statement in the place of the old one",
                )
            manifests = parse(wish.files, wish.service)
        except InterlockError as error:
            self._refuse(wish, None, str(error))
            return
        now = self._ports.clock.now_ns()
        rollout = Rollout(
            id=uuid7(now, self._ports.ids.random(10)),
            service=wish.service,
            commit=wish.commit,
            folder=wish.folder,
            version=manifests.release.version,
            wish=wish.key,
            signed=wish.signed,
            salt=self._ports.ids.random(16).hex(),
            started_ns=now,
            since_ns=now,
        )
        if not journal.fits(rollout):
            self._refuse(wish, None, "the approvals of this folder are too many for the journal: remove what is none")
            return
        self._ports.store.append(journal.entry(ACTOR, rollout, None, now))
        self._known.take(rollout)
        self._feed(rollout.id, Begun())

    def _refuse_branch(self, reason: str) -> None:
        """A branch that cannot be followed (a force-push) is one refusal, not one per poll."""
        key = digest_of(reason.encode())
        if key in self._known.tried:
            return
        body = {"service": "*", "version": None, "commit": "", "folder": "", "wish": key, "reason": reason}
        self._ports.store.append(self._event("release.refused", "repository", "refused", body))
        self._known.tried.add(key)
        _log.error("refused: %s", reason)

    def _refuse(self, wish: Wish, version: str | None, reason: str) -> None:
        body = {"service": wish.service, "version": version, "commit": wish.commit, "folder": wish.folder}
        reason = line(reason, 1000)  # it may quote what a committed file says
        body |= {"wish": wish.key, "reason": reason}
        self._ports.store.append(self._event("release.refused", f"service/{wish.service}", "refused", body))
        self._known.tried.add(wish.key)
        _log.error("refused: %s %s: %s", wish.service, version or "", reason)

    # --- one rollout ----------------------------------------------------------------------

    def _carry(self, rollout_id: str, observed: Observed | None) -> None:
        rollout = self._known.rollouts.get(rollout_id)
        if rollout is None:
            return
        if rollout.state is State.PROPOSED:
            rollout = self._feed(rollout_id, Begun())
        if rollout.state is State.CHECKING:
            self._check(rollout, observed)
            return
        seen = observed.services.get(rollout.service) if observed is not None else None
        if seen is not None:
            self._mind_latch(rollout, seen)
        self._perform(rollout_id, observed)
        self._look(rollout_id, observed)
        self._perform(rollout_id, observed)
        current = self._known.rollouts.get(rollout_id)
        if seen is not None and current is not None:
            self._fleet.keep_lease(current, seen, self._ground(observed), self._effects)

    def _check(self, rollout: Rollout, observed: Observed | None) -> None:
        if observed is None:
            return
        judging = self._judging.get(rollout.id)
        if judging is None:
            if (judging := self._begin_check(rollout)) is None:
                return
            self._judging[rollout.id] = judging
        wish, champion, manifests, judged = judging
        if not judged.done():
            return
        del self._judging[rollout.id]
        try:
            candidate, plan = judged.result()
        except InterlockError as error:
            # An environment before this one may take as long as any other hold; what cannot be reached, longer.
            late = isinstance(error, NotYetError) and self._waited_s(rollout) >= manifests.plan.hold_s
            if isinstance(error, UnreachableError) and not late:
                self._check_after[rollout.id] = self._ports.clock.monotonic_ns() + _CHECK_NS
                raise
            self._reject(wish, rollout, str(error))
            return
        # A return leaves out what has been taken back since; any other release is refused for it.
        spent = self._known.in_quarantine(rollout.service, candidate.shadows)
        kept = tuple(each for each in candidate.shadows if each not in spent)
        candidate = msgspec.structs.replace(candidate, shadows=kept)
        seen = observed.services.get(rollout.service)
        plan = msgspec.structs.replace(plan, tau_wait_s=self._options.tau_wait_s)
        generation = seen.generation if seen is not None else 0
        admitted = Admitted(candidate, plan, champion, generation, manifests.release.fallback)
        if not journal.fits(step(rollout, admitted, rollout.since_ns)[0]):
            self._reject(wish, rollout, "its policy and routing are too long for the journal: make them shorter")
            return
        self._feed(rollout.id, admitted)
        self._perform(rollout.id, observed)

    def _begin_check(self, rollout: Rollout) -> _Judging | None:
        """A check beside the turns: it reads Git, bundles and logs, and nobody's going back waits for that."""
        if self._ports.clock.monotonic_ns() < self._check_after.get(rollout.id, _LONG_AGO):
            return None
        wish = self._branch.at(rollout.commit, rollout.service)
        if wish is None:
            return None
        known = self._settled_before(wish.service, wish.folder)
        try:
            manifests = parse(wish.files, wish.service)
            if not known:
                self._refuse_spent(manifests.release)
        except InterlockError as error:
            self._reject(wish, rollout, str(error))
            return None
        champion, gate = self._known.live(rollout.service), self._ports.gate

        def judge() -> tuple[Target, Plan]:
            if known:
                return gate.verify(wish, manifests, champion), returning(manifests.plan)
            return gate.check(wish, manifests, champion), gate.plan(wish, manifests)

        return _Judging(wish, champion, manifests, self._ports.runner.submit(judge))

    def _reject(self, wish: Wish, rollout: Rollout, reason: str) -> None:
        self._refuse(wish, rollout.version, reason)
        self._feed(rollout.id, Rejected(line(reason, 1000)))

    def _refuse_spent(self, release: Release) -> None:
        for row in self._known.in_quarantine(release.service, release.shadows):
            raise RefusedError(
                f"spec.shadows: {row.version} was rolled back and is in quarantine",
                "name the folder of a release that settled, or have this one released anew",
            )

    def _waited_s(self, rollout: Rollout) -> float:
        return seconds_since(rollout.started_ns, self._ports.clock.now_ns())

    def _mind_latch(self, rollout: Rollout, seen: ServiceState) -> None:
        latch = seen.latch
        if latch is not None and latch.id not in (rollout.id, rollout.latch) and rollout.state is not State.PROPOSED:
            # Of whoever reaches the supervisor's socket: as strict as an order, but never refused.
            reason, actor = line(latch.reason, MAX_REASON) or "no reason was given", line(latch.actor, MAX_ACTOR)
            self._feed(rollout.id, Latched(latch.id, reason, actor or "unknown", latch.at_ns))

    def _perform(self, rollout_id: str, observed: Observed | None) -> None:
        ground = self._ground(observed)
        rollout = self._known.rollouts.get(rollout_id)
        done = 0
        while rollout is not None and (effect := _next(rollout, done)) is not None:
            if observed is None and effect.shape in _FORWARD:
                return  # against a fleet that was not seen a table is easily of an older order, and refused for good
            outcome = self._effects.perform(rollout, effect, ground)
            done = effect.n
            if outcome is not None:
                self._feed(rollout_id, outcome)
            elif effect.kind in ("retreat", "set_route"):
                return
            rollout = self._known.rollouts.get(rollout_id)

    def _look(self, rollout_id: str, observed: Observed | None) -> None:
        rollout = self._known.rollouts.get(rollout_id)
        if rollout is None or rollout.plan is None or rollout.state in FINAL:
            return
        frozen = self._calendar.frozen(rollout, self._ports.clock.now_ns())
        sight = self._looks.read(rollout, observed, frozen)
        if sight is None:
            return
        self._attempt("keep a look", lambda: self._keep(rollout, sight))
        self._feed(rollout_id, sight.seen, quiet=True, at_ns=sight.given.at_ns)

    def _keep(self, rollout: Rollout, sight: Sight) -> None:
        keeping = self._looks.record(rollout, sight)
        if keeping is not None:
            self._ports.store.append_many(keeping.events)
            self._looks.kept(rollout, keeping)

    def _read_requests(self) -> None:
        for event in self._ports.store.after(self._known.requests_after, REQUESTS):
            if event.type == RETURN:
                self._read_return(event)
            for rollout in list(self._known.rollouts.values()):
                # What was asked before a rollout began was asked of another.
                if rollout.service == event.body.get("service") and event.time_ns >= rollout.started_ns:
                    self._feed(rollout.id, self._asked(rollout, event))
            self._known.requests_after = event.id

    def _asked(self, rollout: Rollout, event: Event) -> Observation:
        """A request as the rollout hears it: nobody accepts missing evidence into a larger share during a freeze."""
        asked = _REQUESTED[event.type](event)
        if isinstance(asked, Resumed) and self._calendar.frozen(rollout, self._ports.clock.now_ns()):
            return msgspec.structs.replace(asked, advance=False)
        return asked

    def _read_return(self, event: Event) -> None:
        """A return that an abort fulfils is answered first; any other waits until the abort is done."""
        if event.id <= self._known.returns_noted and event.id not in self._known.returns:
            return  # answered before this controller led
        self._known.returns[event.id] = event
        service, version = str(event.body.get("service")), event.body.get("version")
        active, settled = self._known.active(service), self._known.settled.get(service)
        if active is not None and active.state not in FINAL and settled and version in (None, settled[-1].version):
            self._returns.answer(event, self._known, settled[-1], f"aborted {active.commit}")

    def _feed(self, rollout_id: str, seen: Observation, quiet: bool = False, at_ns: int | None = None) -> Rollout:
        """Step, and write the journal before anything is done. `quiet`: an unchanged rollout is no entry.

        `at_ns`: of the observation, where the step must follow from a look that was kept; None: now.
        """
        rollout = self._known.rollouts[rollout_id]
        now = self._ports.clock.now_ns() if at_ns is None else at_ns
        changed, _ = step(rollout, seen, now)
        if changed == rollout and (quiet or not isinstance(seen, Outcome)):
            return rollout
        try:
            self._ports.store.append_many(self._told(rollout, changed, seen, now))
        except (UnreachableError, UsageError):
            # Whether the journal does not answer or cannot take it: going back waits for neither.
            self._retreat_unrecorded(changed)
            raise
        self._known.take(changed)
        if rollout_id not in self._known.rollouts:
            self._looks.forget(changed)
        if changed.state is not rollout.state:
            _log.info(
                "%s %s: %s → %s %s", changed.service, changed.version, rollout.state, changed.state, changed.reason
            )
        return changed

    def _told(self, rollout: Rollout, changed: Rollout, seen: Observation, now: int) -> list[NewEvent]:
        """The events of one step: its entry, and what other rooms and people read."""
        events = [journal.entry(ACTOR, changed, seen, now)]
        mark = journal.mark(ACTOR, rollout.state, changed, now)
        if mark is not None:
            events.append(mark)
        going_back = changed.state in (State.ROLLING_BACK, State.RETREATED) and rollout.state is not changed.state
        if going_back and changed.breach_ns:
            body = {**journal.plain(journal.summary(changed)), "signed": list(changed.signed)}
            events.append(self._event("release.quarantined", f"service/{changed.service}", "success", body))
        if isinstance(seen, Outcome) and changed.reverted != rollout.reverted:
            body = {**journal.plain(journal.summary(changed)), "reverted": changed.reverted}
            outcome = "success" if seen.ok else "failure"
            events.append(self._event("release.reverted", f"service/{changed.service}", outcome, body))
        return events

    def _retreat_unrecorded(self, changed: Rollout) -> None:
        """Without its journal a controller still goes back; the latch is found and recorded later."""
        for effect in changed.pending:
            if effect.kind == "retreat":
                self._effects.perform(changed, effect, self._ground(None))

    # --- small things ---------------------------------------------------------------------

    def _event(self, kind: str, what: str, outcome: str, body: Mapping[str, object]) -> NewEvent:
        return NewEvent(
            time_ns=self._ports.clock.now_ns(),
            type=kind,
            actor=ACTOR,
            origin="controller",
            object=what,
            outcome=outcome,
            body=dict(body),
        )

    def _attempt(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except InterlockError as error:
            # A dead remote fails at every turn: said once until it says something else.
            if self._said.get(what) != str(error):
                _log.warning("could not %s: %s", what, error)
            self._said[what] = str(error)
        else:
            self._said.pop(what, None)


_UNJUDGED = (State.PROPOSED, State.CHECKING)
_FORWARD = ("baseline", "shadow", "split")
_CHECK_NS = NS_PER_S
"""Pause after a check that could not be finished: it reads Git, bundles and logs."""
_REQUESTED: dict[str, Callable[[Event], Observation]] = {
    ABORT: lambda event: Aborted(event.actor, _reason(event), event.id),
    RETURN: lambda event: Aborted(event.actor, _reason(event), event.id),
    PAUSE: lambda event: Paused(event.actor, _reason(event), event.id),
    RESUME: lambda event: Resumed(event.actor, _reason(event), event.body.get("advance") is True, event.id),
}
"""What a person's request is to a rollout under way."""


def _champion_answers(active: Rollout, observed: Observed | None) -> bool:
    """Whether a candidate's traffic, if it has any, can be the champion's again."""
    if active.champion is None or active.shape != "split":
        return True
    seen = observed.services.get(active.service) if observed is not None else None
    return seen is not None and active.champion.bundle in seen.loaded


def _reason(event: Event) -> str:
    return str(event.body.get("reason", ""))[:400]


def _next(rollout: Rollout, done: int) -> Effect | None:
    return next((effect for effect in rollout.pending if effect.n > done), None)
