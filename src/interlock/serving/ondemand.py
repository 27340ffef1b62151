"""Versions that nothing routes to, loaded when they are asked for by name: for tensors alone.

Contract. Such a version never decides a transaction: a real-time version is pinned by its release.
It is loaded through `Repository.load` like any other, once however many wait for it, one version at
a time, on a thread; then it answers on a thread of its own, so that it delays no authorisation, or
not at all (503; no fallback decides in its place). Its decisions are recorded as PINNED under arm
`on-demand`, outside every table (epoch and generation 0) and in no arm's counts. What is loaded
stays within a budget, by last use, measured by the model's bytes times `FACTOR`; while a version is
being exchanged, whoever still uses the old one may hold both. A version that could not be loaded is
not tried again for `REMEMBERED_S`; one whose call hangs never again by this worker, which goes on:
what decides payments is not restarted for it. Everything here runs on the worker's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UsageError
from interlock.decision import record
from interlock.decision.decide import Model
from interlock.decision.table import BUCKETS, Arm, RouteTable
from interlock.serving.call import Unanswered
from interlock.serving.catalogue import Admitted, Catalogue
from interlock.serving.pipeline import Pipeline
from interlock.serving.repository import Repository
from interlock.serving.route import Route, Side
from interlock.serving.surroundings import Surroundings, Tallies
from interlock.serving.tick import Made, Share, Tick

ON_DEMAND = "on-demand"
"""The arm in the records of such decisions."""
FACTOR = 5
"""Memory of a loaded model over the bytes of its file: 4.1 to 4.7 were measured for tree ensembles."""
REMEMBERED_S = 5
MAX_WAITING = 64
"""Requests that may wait for one version."""
_MB = 1_048_576
_NEVER = 1 << 63

Key = tuple[str, str]
"""Service and version."""
Told = Callable[["Held | Unanswered"], None]
Ordered = Callable[[InterlockError | None], None]
Order = Callable[[Admitted, Ordered, bool], None]
"""Has a version loaded (or dropped, if the last word is true) in every worker, and says once how it ended."""


@dataclass
class Held:
    """A loaded version.

    Attributes:
        admitted: as it was found.
        pipeline: answers for it.
        side: its model and features.
        used_ns: when it was last asked for.
    """

    admitted: Admitted
    pipeline: Pipeline
    side: Side
    used_ns: int

    @property
    def memory(self) -> int:
        """Bytes of the budget that it takes."""
        return self.admitted.size * FACTOR


class OnDemand:
    """The versions of one worker that are loaded on demand.

    Args:
        repository: of these models alone: what the supervisor loads and unloads is elsewhere.
        catalogue: what may be loaded.
        around: what pipelines share.
        loaders: where models are loaded.
        order: has a version loaded, by `load` of every worker, or dropped.
    """

    def __init__(
        self, repository: Repository, catalogue: Catalogue, around: Surroundings, loaders: Executor, order: Order
    ) -> None:
        self._repository = repository
        self._catalogue = catalogue
        self._around = around
        self._clock: Clock = around.clock
        self._budget = around.options.ondemand_mb * _MB
        self._loaders = loaders
        self._order = order
        self._held: dict[Key, Held] = {}
        self._waiting: dict[Key, list[Told]] = {}
        self._failed: dict[Key, tuple[int, Unanswered]] = {}
        self._loading = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self.tallies = Tallies()

    # --- what a desk asks ----------------------------------------------------------------------

    def admitted(self) -> list[tuple[Admitted, str, str]]:
        """Every admitted version with its state (`READY`, `LOADING`, `UNAVAILABLE`) and the reason."""
        return [(each, *self._state(each)) for each in self._catalogue.all()]

    def versions(self, service: str) -> list[str]:
        """Versions of a service that are loaded."""
        return sorted(version for name, version in self._held if name == service)

    def find(self, service: str, version: str) -> Held | None:
        """A loaded version; None: it is admitted and not loaded.

        Raises:
            Unanswered: nothing of that name is admitted here (404).
        """
        held = self._held.get((service, version))
        if held is None:
            self._known(service, version)
        return held

    def need(self, service: str, version: str, told: Told) -> None:
        """Say when the version answers, which is at once if it is loaded, or why it does not."""
        held = self._held.get((service, version))
        if held is not None:
            held.used_ns = self._clock.monotonic_ns()
            told(held)
        else:
            self.load_everywhere(service, version, told)

    def load_everywhere(self, service: str, version: str, told: Told) -> None:
        """Have a version loaded by every worker, also where this one has it."""
        key = service, version
        try:
            wanted = self._known(service, version)
            self._refuse_failed(key)
            waiting = self._waiting.setdefault(key, [])
            if len(waiting) >= MAX_WAITING:
                raise Unanswered(429, "too many requests wait for this version", 1)
        except Unanswered as why:
            told(why)
            return
        waiting.append(told)
        if len(waiting) == 1:
            self._order(wanted, lambda error: self._ended(key, error), False)

    def drop_everywhere(self, service: str, version: str, told: Callable[[Unanswered | None], None]) -> None:
        """Have a version forgotten by every worker; raises Unanswered (404)."""
        wanted = self._known(service, version)
        self._order(wanted, lambda error: told(None if error is None else _why(error)), True)

    # --- what the supervisor orders -------------------------------------------------------------

    async def load(self, wanted: Admitted) -> None:
        """Load a version here, making room for it.

        Raises:
            InterlockError: why it cannot be loaded.
            TimeoutError: it took longer than `load_s`.
        """
        key = wanted.service, wanted.version
        async with self._loading:
            held = self._held.get(key)
            if held is not None and held.admitted.bundle == wanted.bundle:
                held.used_ns = self._clock.monotonic_ns()
                return
            self._make_room(wanted.size * FACTOR)
            async with asyncio.timeout(self._around.options.load_s):
                model = await asyncio.get_running_loop().run_in_executor(
                    self._loaders, self._repository.load, wanted.service, wanted.bundle, wanted.folder
                )
            if model.version != wanted.version:
                self._repository.release(wanted.bundle)
                raise IntegrityError("the bundle is of another version than its listing", "restore the bundle")
            self.drop(*key)
            self._held[key] = self._hold(wanted, model)

    def drop(self, service: str, version: str) -> None:
        """Forget a version; what waits for it is answered first. Nothing happens when it is not loaded."""
        held = self._held.pop((service, version), None)
        if held is None:
            return
        self._repository.release(held.admitted.bundle)
        task = asyncio.get_running_loop().create_task(_closed(held))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    # --- what a worker reports ------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Vectors waiting."""
        return sum(held.pipeline.queued for held in self._held.values())

    def age_ns(self, now_ns: int) -> int:
        """See `Pipeline.age_ns`."""
        return max([0, *(held.pipeline.age_ns(now_ns) for held in self._held.values())])

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        for held in list(self._held.values()):
            await held.pipeline.idle()

    # --- within ---------------------------------------------------------------------------------

    def _known(self, service: str, version: str) -> Admitted:
        found = self._catalogue.find(service, version)
        if found is None:
            raise Unanswered(404, "no such version is admitted here", 0)
        return found

    def _state(self, each: Admitted) -> tuple[str, str]:
        key = each.service, each.version
        if key in self._held:
            return "READY", "on demand, for tensors"
        if key in self._waiting:
            return "LOADING", "asked for"
        try:
            self._refuse_failed(key)
        except Unanswered as why:
            return "UNAVAILABLE", why.message
        return "UNAVAILABLE", "admitted, and loaded when it is asked for"

    def _refuse_failed(self, key: Key) -> None:
        until, why = self._failed.get(key, (0, None))
        if why is not None and self._clock.monotonic_ns() < until:
            raise why
        self._failed.pop(key, None)

    def _ended(self, key: Key, error: InterlockError | None) -> None:
        outcome: Held | Unanswered | None = None if error is not None else self._held.get(key)
        if outcome is None:
            # Without an error: it was loaded, and had to leave again for another one.
            outcome = Unanswered(503, "the version did not stay loaded", 1) if error is None else _why(error)
            self._failed[key] = self._clock.monotonic_ns() + REMEMBERED_S * NS_PER_S, outcome
        for told in self._waiting.pop(key, []):
            told(outcome)

    def _make_room(self, memory: int) -> None:
        if memory > self._budget:
            raise RefusedError("the version is larger than scoring.ondemand_mb", "raise it, or release the version")
        for held in sorted(self._held.values(), key=lambda held: held.used_ns):
            if sum(each.memory for each in self._held.values()) + memory <= self._budget:
                return
            self.drop(held.admitted.service, held.admitted.version)

    def _hangs(self, admitted: Admitted) -> None:
        """A call takes too long: no more of that version in this process, whose other threads go on."""
        key = admitted.service, admitted.version
        self._failed[key] = _NEVER, Unanswered(503, "a call of this version hangs", 0)
        self.drop(*key)

    def _hold(self, admitted: Admitted, model: Model) -> Held:
        whole = Arm(ON_DEMAND, admitted.bundle, admitted.folder, admitted.version, ((0, BUCKETS),))
        # A lease makes it unsettled, so that it gets a lane; no table of a supervisor looks like this.
        table = RouteTable(
            service=admitted.service, epoch=0, generation=0, arms=(whole,), salt="00" * 16, lease_s=float("inf")
        )
        route = Route(table, 0, lambda _: model, self._clock)
        pipeline = _Apart(admitted.service, self._around, lambda: self._hangs(admitted))
        pipeline.tallies = self.tallies
        pipeline.install(route)
        return Held(admitted, pipeline, route.sides[0], self._clock.monotonic_ns())


class _Apart(Pipeline):
    """Answers on the version's own thread, under no latch and no split, or not at all."""

    def _retreated(self, route: Route) -> bool:
        return False

    def __init__(self, service: str, around: Surroundings, hangs: Callable[[], None]) -> None:
        super().__init__(service, around)
        self._patience_s = around.options.hang_s
        self._hangs = hangs

    async def _decide(self, tick: Tick, shares: list[Share], made: list[Made]) -> None:
        for share in shares:
            answered = []
            for each in await tick.on_lane(share, self._patience_s):
                if each.record.degraded & record.MISS:
                    self._hangs()
                if each.record.degraded & record.FALLBACK:
                    each.row.call.fail(Unanswered(503, "the version did not answer", 1))
                else:
                    answered.append(each)
            await self._give_out(tick, answered)


async def _closed(held: Held) -> None:
    await held.pipeline.idle()
    for route in held.pipeline.routes():
        route.close()


def _why(error: InterlockError) -> Unanswered:
    status = 403 if isinstance(error, RefusedError | UsageError) else 503
    return Unanswered(status, f"the version cannot be loaded: {error.message}", 0 if status == 403 else REMEMBERED_S)
