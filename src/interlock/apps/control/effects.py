"""Performs the effects of rollouts on scorers and on the release repository.

Everything here is idempotent and may be repeated after a crash. Loading and inverse commits run on
threads of the runner: no look at the counters, no latch and no lease waits for a trial process or
for Git. `perform` returns the outcome, or None: not done yet, ask again at the next turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from interlock.apps.control.wishes import services_root
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.decision.admin import ServiceState
from interlock.decision.table import Arm
from interlock.rollout.ports import Inverse, Reverted, Scorers, Source
from interlock.rollout.routes import live, standing, table
from interlock.rollout.values import Effect, Outcome, Rollout, Standing

_log = logging.getLogger(__name__)
_RETRY_NS = NS_PER_S // 2
EPOCH_BITS = 20
"""A table's epoch is the lease's epoch times 2^20, plus how many latches this leader has opened."""


@dataclass(frozen=True)
class Ground:
    """What effects stand on during one turn."""

    epoch: int
    """Of the controller's lease."""
    lease_s: float
    services: dict[str, ServiceState]
    """The fleet as last observed; empty when it does not answer."""


class Effects:
    """Performs effects; remembers only what is under way."""

    def __init__(
        self, scorers: Scorers, source: Source | None, runner: Executor, clock: Clock, environment: str
    ) -> None:
        self._scorers = scorers
        self._source = source
        self._runner = runner
        self._clock = clock
        self._environment = environment
        self._running: dict[tuple[str, int], Future[Outcome]] = {}
        self._not_before: dict[tuple[str, int], int] = {}
        self._said: dict[tuple[str, int], str] = {}

    def perform(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        """One effect; None when it must be tried again."""
        name = rollout.id, effect.n
        if self._not_before.get(name, 0) > self._clock.monotonic_ns():
            return None
        try:
            outcome = _KINDS[effect.kind](self, rollout, effect, ground)
        except UnreachableError as error:
            if self._said.get(name) != str(error):  # once, not twice a second for as long as a remote is away
                _log.warning("%s of %s is not done yet: %s", effect.kind, rollout.service, error)
            self._said[name] = str(error)
            outcome = None
        except InterlockError as error:
            if effect.kind == "set_route" and effect.shape in ("settled", "champion"):
                _log.error("the table of %s is refused and tried again: %s", rollout.service, error)
                outcome = None
            elif effect.kind == "unload" and isinstance(error, RefusedError):
                outcome = None
            else:
                outcome = Outcome(effect.n, ok=False, detail=str(error)[:400])
        if outcome is not None:
            self._said.pop(name, None)
            self._not_before.pop(name, None)
        elif name not in self._running:
            self._not_before[name] = self._clock.monotonic_ns() + _RETRY_NS
        return outcome

    def _load(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        def load() -> Outcome:
            loaded = self._scorers.load(rollout.service, effect.bundle, rollout.folder)
            return Outcome(effect.n, detail=f"{loaded.workers} workers")

        return self._background((rollout.id, effect.n), load)

    def _set_route(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        wanted = table(rollout, effect, self.epoch(rollout, effect, ground), ground.lease_s)
        try:
            installed = self._scorers.install(wanted)
        except RefusedError:
            seen = ground.services.get(rollout.service)
            lost = [arm for arm in (*wanted.arms, *wanted.shadows) if seen is None or arm.bundle not in seen.loaded]
            if not lost:
                raise
            # A supervisor that began anew has only what its tables name, or nothing.
            if self._reload(rollout, effect, lost) is None:
                return None
            installed = self._scorers.install(wanted)
        return Outcome(effect.n, detail=f"{installed.workers} workers")

    def _reload(self, rollout: Rollout, effect: Effect, lost: list[Arm]) -> Outcome | None:
        def load() -> Outcome:
            for arm in lost:
                self._scorers.load(rollout.service, arm.bundle, arm.folder)
            return Outcome(effect.n)

        return self._background((rollout.id, effect.n), load)

    def epoch(self, rollout: Rollout, effect: Effect, ground: Ground) -> int:
        """The table's epoch: never below what is installed, above it when a latch is to be opened."""
        seen = ground.services.get(rollout.service)
        floor = ground.epoch << EPOCH_BITS
        if seen is None:
            return floor
        # A latch may have been set after this observation, by this very turn: opening it takes a
        # higher epoch unless the table that opens it is seen to be in force.
        in_force = seen.generation == effect.generation and seen.latch is None
        opens = effect.shape == "champion" and bool(rollout.latch) and not in_force
        above = max(seen.epoch, seen.latch.epoch if seen.latch is not None else 0)
        return max(floor, above + 1 if opens else seen.epoch)

    def _unload(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        seen = ground.services.get(rollout.service)
        if seen is None or any(each.kind == "set_route" for each in rollout.pending):
            return None
        # What was observed before this turn installed the last table tells nothing about who still uses the one before.
        if seen.oldest_generation < rollout.generation:
            return None
        self._scorers.unload(effect.bundle)
        return Outcome(effect.n)

    def _stand(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        """Load the standing shadows, then route beside them; one that cannot be loaded is left out."""
        seen, target = ground.services.get(rollout.service), live(rollout)
        if seen is None or target is None or any(each.kind == "set_route" for each in rollout.pending):
            return None
        if seen.generation < rollout.generation:
            return None  # observed before the last table: its epoch is not known yet
        if seen.latch is not None:
            return Outcome(effect.n, ok=False, detail="a retreat is in force: without standing shadows")
        epoch = self.epoch(rollout, effect, ground)

        def stand() -> Outcome:
            rows = [(row, self._missing(rollout.service, row)) for row in target.shadows]
            ready = [row for row, why in rows if not why]
            missing = "; ".join(f"{row.version} is left out: {why}" for row, why in rows if why)
            if ready:
                self._scorers.install(standing(rollout, effect.generation, epoch, ready))
            return Outcome(effect.n, ok=bool(ready), detail=missing[:400])

        return self._background((rollout.id, effect.n), stand)

    def _missing(self, service: str, row: Standing) -> str:
        """Why a standing shadow cannot be loaded; empty: it is."""
        try:
            self._scorers.load(service, row.bundle, row.folder)
        except UnreachableError:
            raise
        except InterlockError as error:
            _log.error("standing shadow %s of %s cannot be loaded: %s", row.version, service, error)
            return str(error)
        return ""

    def _retreat(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        self._scorers.retreat(
            rollout.service, rollout.latch, rollout.reason[:200], rollout.actor or "controller", rollout.breach_ns
        )
        return Outcome(effect.n)

    def _revert_commit(self, rollout: Rollout, effect: Effect, ground: Ground) -> Outcome | None:
        source = self._source
        if source is None:
            return Outcome(effect.n, ok=False, detail="this controller follows no repository")
        inverse = Inverse(
            folder=f"{services_root(self._environment)}/{rollout.service}",
            bad_commit=rollout.commit,
            base_commit=rollout.champion.commit if rollout.champion else None,
            message=_message(rollout),
        )

        def revert() -> Outcome:
            done: Reverted = source.revert(inverse)
            return Outcome(effect.n, detail=f"{done.outcome} {done.commit}")

        return self._background((rollout.id, effect.n), revert)

    def _background(self, name: tuple[str, int], work: Callable[[], Outcome]) -> Outcome | None:
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = self._runner.submit(work)
        if not running.done():
            return None
        del self._running[name]
        return running.result()


_KINDS: dict[str, Callable[[Effects, Rollout, Effect, Ground], Outcome | None]] = {
    "load": Effects._load,
    "set_route": Effects._set_route,
    "unload": Effects._unload,
    "stand": Effects._stand,
    "retreat": Effects._retreat,
    "revert_commit": Effects._revert_commit,
}


def _message(rollout: Rollout) -> str:
    return (
        f"Roll back {rollout.service} {rollout.version}: {rollout.reason}\n\n"
        f"Caught in: {rollout.caught_in}\nUndone: {rollout.commit}\n"
        f"Evidence: interlock rollout show {rollout.id}\n"
    )
