"""The rollout machine: `step(state, observation, now)` is pure and decides everything.

A rollout's whole truth is a `Rollout` value. What must be done stands in `pending`, written to the
journal *before* it is performed; an `Outcome` takes it off. After a crash the pending effects are
performed again: each is idempotent. Effects of going back come in this order: the retreat latch,
the table that puts the champion back, the inverse commit, the unloading. Nothing else waits for Git.
Standing shadows rest from the first table of a rollout to its end. Then `stand` brings back those of
what serves; nothing waits for it, and its failure changes nothing.
"""
# long: the machine is one thing, and is read as a whole

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from interlock.base.clock import NS_PER_S
from interlock.decision.table import CANDIDATE
from interlock.rollout.plan import ALL, ROLLBACK, Experiment, Plan
from interlock.rollout.routes import live
from interlock.rollout.states import FINAL, TRYING, State, after
from interlock.rollout.values import (
    Aborted,
    Admitted,
    Begun,
    Effect,
    Latched,
    Looked,
    Observation,
    Outcome,
    Paused,
    Rejected,
    Resumed,
    Rollout,
    Superseded,
    Target,
)

NO_TRAFFIC = "no traffic has met the candidate"
SHADOWED = "its time as a shadow is over: resume it with --advance to promote it, or abort it"


def step(rollout: Rollout, seen: Observation, now_ns: int) -> tuple[Rollout, tuple[Effect, ...]]:
    """The rollout after an observation, and the effects that are new in it.

    Raises:
        RefusedError: the observation does not belong to this state (then nothing changes).
    """
    before = rollout.effects
    if isinstance(seen, Aborted | Paused | Resumed) and seen.request:
        # Heard once: whoever takes over reads the requests again.
        if seen.request <= rollout.request:
            return rollout, ()
        rollout = _replaced(rollout, request=seen.request)
    changed = _HANDLERS[type(seen)](rollout, seen, now_ns)  # type: ignore[operator]
    changed = _closed(changed, now_ns)
    return changed, tuple(effect for effect in changed.pending if effect.n > before)


def fold(first: Rollout, observations: Iterable[tuple[Observation, int]]) -> Rollout:
    """The rollout that a journal tells of."""
    for seen, now_ns in observations:
        first, _ = step(first, seen, now_ns)
    return first


def seconds_since(then_ns: int, now_ns: int) -> float:
    """Elapsed seconds."""
    return (now_ns - then_ns) / NS_PER_S


def _begun(rollout: Rollout, seen: Begun, now_ns: int) -> Rollout:
    return _moved(rollout, "begin", now_ns)


def _admitted(rollout: Rollout, seen: Admitted, now_ns: int) -> Rollout:
    moved = _moved(
        rollout,
        "admitted",
        now_ns,
        candidate=seen.candidate,
        champion=seen.champion,
        plan=seen.plan,
        fallback=seen.fallback,
        base_generation=seen.generation,
        generation=seen.generation,
        clock_ns=now_ns,
    )
    if moved.champion is not None:
        moved = _route(moved, "baseline", 0)
    return _with(moved, Effect(0, "load", bundle=seen.candidate.bundle))


def _rejected(rollout: Rollout, seen: Rejected, now_ns: int) -> Rollout:
    return _moved(rollout, "rejected", now_ns, reason=seen.reason)


def _outcome(rollout: Rollout, seen: Outcome, now_ns: int) -> Rollout:
    effect = next((each for each in rollout.pending if each.n == seen.n), None)
    if effect is None:
        return rollout
    rollout = _replaced(rollout, pending=tuple(each for each in rollout.pending if each.n != seen.n))
    handler = _OUTCOMES.get(effect.kind)
    return rollout if handler is None else handler(rollout, effect, seen, now_ns)


def _stand_ended(rollout: Rollout, effect: Effect, seen: Outcome, now_ns: int) -> Rollout:
    return _replaced(rollout, generation=effect.generation) if seen.ok else rollout


def _load_ended(rollout: Rollout, effect: Effect, seen: Outcome, now_ns: int) -> Rollout:
    if rollout.state is not State.LOADING:
        return rollout
    if seen.ok:
        return _onward(_replaced(rollout, loaded_ns=now_ns), now_ns, tau_ns=None)
    refused = _moved(rollout, "load_failed", now_ns, reason=seen.detail, caught_in="loading")
    return _cleared(refused)


def _route_ended(rollout: Rollout, effect: Effect, seen: Outcome, now_ns: int) -> Rollout:
    if not seen.ok:
        return _going_back(rollout, "breach", now_ns, reason=f"the scorers refused the table: {seen.detail}")
    if effect.shape == "split" and effect.share * 2 > ALL and not rollout.majority_ns:
        rollout = _replaced(rollout, majority_ns=now_ns)
    if effect.shape == "champion" and rollout.breach_ns and not rollout.champion_ns:
        rollout = _replaced(rollout, champion_ns=now_ns)
    if rollout.state is State.PROMOTING:
        return _moved(rollout, "watch", now_ns)
    # A share counts from the moment all workers have it.
    return _replaced(rollout, since_ns=now_ns) if rollout.state in TRYING else rollout


def _retreat_ended(rollout: Rollout, effect: Effect, seen: Outcome, now_ns: int) -> Rollout:
    return rollout if rollout.champion_ns else _replaced(rollout, champion_ns=now_ns)


def _revert_ended(rollout: Rollout, effect: Effect, seen: Outcome, now_ns: int) -> Rollout:
    return _replaced(rollout, reverted=seen.detail)


def _looked(rollout: Rollout, seen: Looked, now_ns: int) -> Rollout:
    plan = rollout.plan
    if plan is None or _over(rollout):
        return rollout
    if seen.breach and (rollout.state in TRYING or rollout.state is State.HELD):
        return _breached(rollout, seen, now_ns)
    if _overdue(rollout, plan, seen, now_ns):
        return _expired(rollout, seen, now_ns)
    if rollout.state is State.HELD:
        return rollout if _why_not(rollout, seen) else _let_go(rollout, now_ns)
    if rollout.asked and _can_pause(rollout):
        return _paused(rollout, "person", rollout.asked, now_ns, rollout.actor)
    if why := seen.missing or seen.frozen:
        kind = "missing" if seen.missing else "frozen"
        return _paused(rollout, kind, why, now_ns) if _can_pause(rollout) else rollout
    return _onward(rollout, now_ns, seen.tau_ns, seen)


def _over(rollout: Rollout) -> bool:
    """Decided: nothing but effects of the end may be left."""
    return rollout.state in FINAL or rollout.state in (State.ROLLING_BACK, State.RETREATED)


def _breached(rollout: Rollout, seen: Looked, now_ns: int) -> Rollout:
    if not _may_go_back(rollout, seen):
        why = f"{seen.breach} failed, but the champion is not ready: the candidate is the only healthy copy"
        if rollout.state is State.HELD:
            return _replaced(rollout, hold="blocked", reason=why)
        return _moved(rollout, "blocked", now_ns, reason=why, hold="blocked")
    return _going_back(rollout, "breach", now_ns, reason=seen.breach)


def _may_go_back(rollout: Rollout, seen: Looked) -> bool:
    return seen.champion_ready or rollout.champion is None


def _overdue(rollout: Rollout, plan: Plan, seen: Looked, now_ns: int) -> bool:
    """Whether the state, or the whole rollout, has lasted too long."""
    late = seconds_since(rollout.clock_ns or rollout.started_ns, now_ns) >= plan.deadline_s
    here = seconds_since(rollout.since_ns, now_ns)
    if rollout.state is State.HELD and rollout.hold == "frozen":
        return False  # the calendar says how long that lasts
    if rollout.state is State.HELD:
        alone = rollout.hold in ("missing", "blocked") and rollout.resume != State.WATCHING
        # Time alone never takes traffic back to a champion that is not there.
        return _may_go_back(rollout, seen) and (here >= plan.hold_s or (alone and late))
    if rollout.state is State.WATCHING:
        return here >= plan.watch_s + plan.deadline_s
    if plan.experiment is not None and rollout.state is State.CANARY:
        return here >= plan.experiment.period_s + plan.deadline_s
    return late


def _expired(rollout: Rollout, seen: Looked, now_ns: int) -> Rollout:
    """Late: what can be held is held for a person; a hold, or a load, that is late ends on the champion."""
    if not _can_pause(rollout):
        return _going_back(rollout, "deadline", now_ns, reason=_late(rollout))
    why = f"not decided within its deadline ({rollout.state.value}"
    why += f"; harm not excluded: {seen.unclear})" if seen.unclear else ")"
    return _moved(rollout, "inconclusive", now_ns, reason=why, hold="inconclusive")


def _late(rollout: Rollout) -> str:
    return f"not settled within its deadline ({rollout.state.value}{': ' + rollout.reason if rollout.reason else ''})"


def _can_pause(rollout: Rollout) -> bool:
    return rollout.state in (State.SHADOW, State.CANARY, State.WATCHING)


def _why_not(rollout: Rollout, seen: Looked) -> str:
    """What still keeps a held rollout from going on."""
    if rollout.hold in ("person", "inconclusive"):
        return "a person ends it"
    if seen.missing or seen.frozen:
        return seen.missing or seen.frozen
    if not _may_go_back(rollout, seen):
        return "the champion is not ready"
    return "" if rollout.resume != "canary" or seen.candidate_requests else NO_TRAFFIC


def _paused(rollout: Rollout, kind: str, why: str, now_ns: int, actor: str = "") -> Rollout:
    return _moved(rollout, "pause", now_ns, reason=why, resume=rollout.state.value, hold=kind, asked="", actor=actor)


def _resumed(rollout: Rollout, now_ns: int, actor: str = "") -> Rollout:
    event = f"resume_{rollout.resume or State.WATCHING.value}"
    return _moved(rollout, event, now_ns, reason="", resume="", hold="", actor=actor)


def _let_go(rollout: Rollout, now_ns: int) -> Rollout:
    """A hold that ends by itself; the calendar's time is not the rollout's."""
    resumed = _resumed(rollout, now_ns)
    return _replaced(resumed, clock_ns=now_ns) if rollout.hold == "frozen" else resumed


def _asked_to_pause(rollout: Rollout, seen: Paused, now_ns: int) -> Rollout:
    """Held at once where it can be, else as soon as it can; a hold that would end by itself no longer does."""
    if _over(rollout):
        return rollout
    if rollout.state is State.HELD:
        since_ns = now_ns if rollout.hold == "frozen" else rollout.since_ns  # the calendar's time is nobody's
        return _replaced(rollout, hold="person", reason=seen.reason, actor=seen.actor, since_ns=since_ns)
    if _can_pause(rollout):
        return _paused(rollout, "person", seen.reason, now_ns, seen.actor)
    return _replaced(rollout, asked=seen.reason, actor=seen.actor)


def _asked_to_resume(rollout: Rollout, seen: Resumed, now_ns: int) -> Rollout:
    """Goes on with a new deadline. With `advance` the missing evidence of this part is accepted, a breach never is."""
    if _over(rollout):
        return rollout
    if rollout.state is State.HELD:
        if rollout.hold == "blocked":
            return rollout
        rollout = _replaced(_resumed(rollout, now_ns, seen.actor), clock_ns=now_ns)
    rollout = _replaced(rollout, asked="")
    if not seen.advance or rollout.plan is None or _waiting(rollout) or not _can_pause(rollout):
        return rollout
    return _next_part(rollout, rollout.plan, now_ns)


def _onward(rollout: Rollout, now_ns: int, tau_ns: int | None, seen: Looked | None = None) -> Rollout:
    """Begin the plan's next part when the present one has had its time, and its evidence where that decides."""
    plan = rollout.plan
    if plan is None or _waiting(rollout):
        return rollout
    if rollout.state is State.LOADING:
        return _after_loading(rollout, plan, tau_ns, now_ns)
    if rollout.state is State.PROMOTING:
        return _moved(rollout, "watch", now_ns)  # its table was in force before a hold ended
    if seen is None or not _can_pause(rollout):
        return rollout
    if plan.experiment is not None and rollout.state is State.CANARY:
        return _tried(rollout, plan, plan.experiment, seen, now_ns)
    if seconds_since(rollout.since_ns, now_ns) < _duration(rollout, plan):
        return rollout
    if rollout.state is State.CANARY and not seen.candidate_requests:
        return _paused(rollout, "missing", NO_TRAFFIC, now_ns)
    if plan.advance == "evidence" and seen.unclear:
        return rollout
    if plan.strategy == "shadow" and rollout.state is State.SHADOW:
        return _paused(rollout, "person", SHADOWED, now_ns)
    return _next_part(rollout, plan, now_ns)


def _next_part(rollout: Rollout, plan: Plan, now_ns: int) -> Rollout:
    return _settled(rollout, now_ns) if rollout.state is State.WATCHING else _next_share(rollout, plan, now_ns)


def _tried(  # long: an experiment, at a look
    rollout: Rollout, plan: Plan, experiment: Experiment, seen: Looked, now_ns: int
) -> Rollout:
    """An experiment goes on, or somebody stays: the champion at once, a candidate only with the evidence it needs."""
    over = seconds_since(rollout.since_ns, now_ns) >= experiment.period_s
    if over and not seen.winner and not seen.candidate_requests:
        return _paused(rollout, "missing", NO_TRAFFIC, now_ns)
    stays = seen.winner or (experiment.then if over else "")
    if not stays or (stays == CANDIDATE and plan.advance == "evidence" and seen.unclear):
        return rollout
    return _concluded(rollout, plan, stays, now_ns)


def _concluded(rollout: Rollout, plan: Plan, winner: str, now_ns: int) -> Rollout:
    """An experiment has ended: the candidate is promoted, or the champion stays, which is no breach."""
    if winner == CANDIDATE:
        return _promoted(rollout, plan, now_ns)
    reason = "the experiment ended: the champion stays"
    moved = _moved(rollout, "conclude", now_ns, reason=reason, caught_in="", pending=())
    return _unloaded(_with(_route(moved, "champion", 0), Effect(0, "revert_commit")))


def _waiting(rollout: Rollout) -> bool:
    return any(effect.kind in ("load", "set_route") for effect in rollout.pending)


def _duration(rollout: Rollout, plan: Plan) -> float:
    if rollout.state is State.SHADOW:
        return plan.shadow_s
    return plan.steps[rollout.index].for_s if rollout.state is State.CANARY else plan.watch_s


def _after_loading(rollout: Rollout, plan: Plan, tau_ns: int | None, now_ns: int) -> Rollout:
    # What had settled before skips its analysis, not its admission (argo#3669, argo#2168).
    if rollout.champion is None or plan.strategy == ROLLBACK:
        return _promoted(rollout, plan, now_ns)
    if tau_ns is None and seconds_since(rollout.loaded_ns, now_ns) < plan.tau_wait_s:
        return rollout
    rollout = _replaced(rollout, tau_ns=tau_ns)
    if plan.shadow_s > 0:
        return _route(_moved(rollout, "shadow", now_ns), "shadow", 0)
    return _next_share(rollout, plan, now_ns)


def _next_share(rollout: Rollout, plan: Plan, now_ns: int) -> Rollout:
    if rollout.index + 1 < len(plan.steps):
        moved = _moved(rollout, "step", now_ns, index=rollout.index + 1)
        return _route(moved, "split", plan.steps[moved.index].share)
    return _promoted(rollout, plan, now_ns)


def _promoted(rollout: Rollout, plan: Plan, now_ns: int) -> Rollout:
    share = ALL if rollout.champion is None else ALL - plan.holdback
    return _route(_moved(rollout, "promote", now_ns), "split", share)


def _settled(rollout: Rollout, now_ns: int) -> Rollout:
    settled = _route(_moved(rollout, "settle", now_ns, reason=""), "settled", ALL)
    kept = _needs(rollout.candidate)
    for bundle in _needs(rollout.champion):
        if bundle not in kept:
            settled = _with(settled, Effect(0, "unload", bundle=bundle))
    return _standing(settled)


def _latched(rollout: Rollout, seen: Latched, now_ns: int) -> Rollout:
    caught = rollout.resume or rollout.state.value
    if rollout.state is State.SETTLED and _waiting(rollout):
        # Decided, but not done: whoever went back since has seen more than the last look did.
        rollout, caught = _moved(rollout, "reopen", now_ns), State.WATCHING.value
    if _over(rollout):
        return rollout if rollout.latch else _replaced(rollout, latch=seen.latch)
    if rollout.state in (State.PROPOSED, State.CHECKING):
        return rollout
    at_ns = seen.at_ns if seen.at_ns > 0 else now_ns
    moved = _moved(
        rollout,
        "retreat",
        now_ns,
        reason=seen.reason,
        actor=seen.actor,
        latch=seen.latch,
        caught_in=caught,
        breach_ns=at_ns,
        champion_ns=at_ns,
    )
    return _undone(moved)


def _aborted(rollout: Rollout, seen: Aborted, now_ns: int) -> Rollout:
    if _over(rollout):
        return rollout
    if rollout.state is State.CHECKING:
        return _moved(rollout, "abort", now_ns, reason=seen.reason, actor=seen.actor)
    return _going_back(rollout, "abort", now_ns, reason=seen.reason, actor=seen.actor)


def _superseded(rollout: Rollout, seen: Superseded, now_ns: int) -> Rollout:
    if _over(rollout):
        return rollout
    moved = _moved(rollout, "supersede", now_ns, reason=f"commit {seen.commit[:12]} asks for something else")
    return _cleared(moved)


def _going_back(rollout: Rollout, event: str, now_ns: int, reason: str, actor: str = "controller") -> Rollout:
    caught = rollout.resume or rollout.state.value
    moved = _moved(
        rollout, event, now_ns, reason=reason, actor=actor, caught_in=caught, breach_ns=now_ns, latch=rollout.id
    )
    return _undone(_with(_replaced(moved, pending=()), Effect(0, "retreat")))


def _undone(rollout: Rollout) -> Rollout:
    """After the latch: the champion's own table, the inverse commit, the unloading."""
    kept = tuple(effect for effect in rollout.pending if effect.kind == "retreat")
    rollout = _route(_replaced(rollout, pending=kept), "champion", 0)
    return _unloaded(_with(rollout, Effect(0, "revert_commit")))


def _cleared(rollout: Rollout) -> Rollout:
    """Leave without a latch: nothing is wrong with the champion's table but our additions."""
    touched = rollout.candidate is not None
    rollout = _replaced(rollout, pending=())
    return _unloaded(_route(rollout, "champion", 0)) if touched else rollout


def _unloaded(rollout: Rollout) -> Rollout:
    """The end of going back: without the candidate, the standing shadows of the champion beside it again."""
    if rollout.candidate is not None and rollout.candidate.bundle not in _needs(live(rollout)):
        rollout = _with(rollout, Effect(0, "unload", bundle=rollout.candidate.bundle))
    return _standing(rollout)


def _needs(target: Target | None) -> tuple[str, ...]:
    """The bundles that are loaded while a target serves."""
    return () if target is None else (target.bundle, *(each.bundle for each in target.shadows))


def _standing(rollout: Rollout) -> Rollout:
    target = live(rollout)
    if target is None or not target.shadows:
        return rollout
    return _with(rollout, Effect(0, "stand", generation=rollout.generation + 1))


def _route(rollout: Rollout, shape: str, share: int) -> Rollout:
    generation = rollout.generation + 1
    routed = _replaced(rollout, generation=generation, share=share, shape=shape)
    return _with(routed, Effect(0, "set_route", generation=generation, share=share, shape=shape))


def _with(rollout: Rollout, effect: Effect) -> Rollout:
    number = rollout.effects + 1
    numbered = msgspec.structs.replace(effect, n=number)
    return _replaced(rollout, effects=number, pending=(*rollout.pending, numbered))


def _closed(rollout: Rollout, now_ns: int) -> Rollout:
    """A rollout that went back and has nothing left to do is over."""
    if rollout.state in (State.ROLLING_BACK, State.RETREATED) and not rollout.pending:
        return _moved(rollout, "back", now_ns)
    return rollout


def _moved(rollout: Rollout, event: str, now_ns: int, **changes: object) -> Rollout:
    state = after(rollout.state, event)
    ended = now_ns if state in FINAL else 0
    if state is State.HELD and "resume" not in changes:
        changes["resume"] = rollout.state.value
    if state is not State.HELD:
        changes.setdefault("hold", "")
    if event in ("step", "promote", "watch", "settle", "inconclusive"):
        # Nobody asked for this: it follows from the plan.
        changes.setdefault("actor", "")
    return _replaced(rollout, state=state, since_ns=now_ns, ended_ns=ended, **changes)


def _replaced(rollout: Rollout, **changes: object) -> Rollout:
    return msgspec.structs.replace(rollout, **changes)


_OUTCOMES = {
    "load": _load_ended,
    "stand": _stand_ended,
    "set_route": _route_ended,
    "retreat": _retreat_ended,
    "revert_commit": _revert_ended,
}
_HANDLERS = {
    Begun: _begun,
    Admitted: _admitted,
    Rejected: _rejected,
    Outcome: _outcome,
    Looked: _looked,
    Latched: _latched,
    Aborted: _aborted,
    Paused: _asked_to_pause,
    Resumed: _asked_to_resume,
    Superseded: _superseded,
}
