"""Requests to go back to a version that had settled before, carried out through Git.

Contract. A request is an event; its answer is another that names it (`release.reverted`, or
`release.refused` with the reason), so that a killed controller finds what is still to be done. The
inverse commit is pushed first: it is idempotent, and what serves then follows the branch as always,
without analysis, with the admission that the version had. The version that is left is quarantined.
A rollout under way is ended before, by the abort that the request also is; where that leaves what
was wanted, the request is answered before the abort, so that a crash between cannot go back twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from interlock.apps.control.memory import Memory
from interlock.apps.control.wishes import services_root
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.rollout.options import RolloutOptions
from interlock.rollout.ports import Inverse, Reverted, Source
from interlock.rollout.values import Rollout
from interlock.trust.event import Event, NewEvent
from interlock.trust.ports import EventStore

_log = logging.getLogger(__name__)
_RETRY_NS = NS_PER_S // 2


@dataclass(frozen=True)
class _Returning:
    left: Rollout
    wanted: Rollout
    pushing: Future[Reverted]


class Returns:
    """Carries out the requests that memory holds; remembers only what is being pushed."""

    def __init__(  # long: the ports of a reconciler, and its name
        self,
        store: EventStore,
        source: Source | None,
        runner: Executor,
        clock: Clock,
        options: RolloutOptions,
        actor: str,
    ) -> None:
        self._store = store
        self._source = source
        self._runner = runner
        self._clock = clock
        self._options = options
        self._actor = actor
        self._running: dict[int, _Returning] = {}
        self._not_before: dict[int, int] = {}

    def turn(self, memory: Memory) -> None:
        """Begin, or finish, what is asked for."""
        for request in list(memory.returns.values()):
            try:
                self._one(request, memory)
            except UnreachableError as error:
                _log.warning("the return of %s is not done yet: %s", request.body.get("service"), error)
                self._not_before[request.id] = self._clock.monotonic_ns() + _RETRY_NS
            except InterlockError as error:
                self._refuse(request, memory, str(error))

    def _one(self, request: Event, memory: Memory) -> None:
        if self._not_before.get(request.id, 0) > self._clock.monotonic_ns():
            return
        running = self._running.get(request.id)
        if running is None:
            self._begin(request, memory)
        elif running.pushing.done():
            del self._running[request.id]
            self._end(request, memory, running, running.pushing.result())

    def _begin(self, request: Event, memory: Memory) -> None:
        service, version = str(request.body.get("service")), request.body.get("version")
        if memory.active(service) is not None:
            return
        # As it was when it was asked: a return that a killed controller had pushed must not be made twice.
        settled, source = memory.settled_by(service, request.time_ns), self._source
        if not settled:
            raise RefusedError(f"{service} has no settled version", "release one")
        left = settled[-1]
        if version == left.version:
            self.answer(request, memory, left, f"already {left.commit}")
            return
        if source is None:
            raise RefusedError("this controller follows no repository", "set rollout.repository")
        wanted = self._chosen(memory, request, service, version)
        inverse = Inverse(
            folder=f"{services_root(self._options.environment)}/{service}",
            bad_commit=left.commit,
            base_commit=wanted.commit,
            message=_message(request, left, wanted),
        )
        self._running[request.id] = _Returning(left, wanted, self._runner.submit(lambda: source.revert(inverse)))

    def _chosen(self, memory: Memory, request: Event, service: str, version: object) -> Rollout:
        known = memory.earlier(service, self._options, request.time_ns)
        found = next((each for each in known if version in (None, each.version)), None)
        if found is None:
            names = ", ".join(each.version for each in known) or "none"
            wanted = "no earlier version" if version is None else f"version {str(version)[:60]} of {service} is not"
            raise RefusedError(f"{wanted} within the horizon", f"propose it as a release; within the horizon: {names}")
        return found

    def _end(self, request: Event, memory: Memory, done: _Returning, reverted: Reverted) -> None:
        if reverted.outcome == "superseded":
            raise RefusedError("the branch asks for something else by now", "look at its newest commit, then ask again")
        body = {"service": done.left.service, "version": done.left.version, "folder": done.left.folder}
        quarantined = {**body, "signed": list(done.left.signed), "reason": str(request.body.get("reason", ""))[:400]}
        left = self._event("release.quarantined", request, "success", quarantined)
        self.answer(request, memory, done.wanted, f"{reverted.outcome} {reverted.commit}", left)
        memory.quarantine(done.left.service, done.left.folder, done.left.signed)

    def answer(self, request: Event, memory: Memory, serves: Rollout, reverted: str, *before: NewEvent) -> None:
        """Record what became of a request, together with `before`: `reverted` is an outcome and a commit."""
        body = {"service": serves.service, "version": serves.version, "reverted": reverted, "request": str(request.id)}
        self._store.append_many([*before, self._event("release.reverted", request, "success", body)])
        self._forget(request, memory)

    def _refuse(self, request: Event, memory: Memory, reason: str) -> None:
        self._running.pop(request.id, None)
        body = {"service": request.body.get("service"), "version": request.body.get("version"), "commit": ""}
        body |= {"folder": "", "wish": f"request {request.id}", "reason": reason[:2000], "request": str(request.id)}
        self._store.append(self._event("release.refused", request, "refused", body))
        self._forget(request, memory)
        _log.error("a return was refused: %s", reason)

    def _forget(self, request: Event, memory: Memory) -> None:
        memory.returns.pop(request.id, None)
        self._not_before.pop(request.id, None)

    def _event(self, kind: str, request: Event, outcome: str, body: Mapping[str, object]) -> NewEvent:
        return NewEvent(
            time_ns=self._clock.now_ns(),
            type=kind,
            actor=request.actor,
            origin="controller",
            object=f"service/{request.body.get('service')}",
            outcome=outcome,
            body=dict(body),
        )


def _message(request: Event, left: Rollout, wanted: Rollout) -> str:
    return (
        f"Return {left.service} to {wanted.version}: {str(request.body.get('reason', ''))[:200]}\n\n"
        f"Left: {left.version} of {left.commit}\nAsked for by: {request.actor}\n"
        f"Evidence: interlock rollout show {left.id}\n"
    )
