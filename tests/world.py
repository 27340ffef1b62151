"""A small world in one process, seeded: scorers, Git, events and clock, with real controllers on top.

The scorers are simulated, but route by real `RouteTable`s, count in real `ArmCounts`, and keep the
contract of `rollout.ports.Scorers`: nothing unadmitted is loaded, an older epoch is refused, a latch
holds until a table of a higher epoch names it, a lapsed lease sets one, an order that one worker
missed is unknown to whoever gave it. Ports fail as real ones do: before or after the deed, twice,
late, or never. `World.check` states what must hold at every instant; it runs after every call that
changes something, every turn and every tick.
"""
# long: one simulator of every port, read as a whole

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from interlock.apps.control.reconciler import Ports, Reconciler
from interlock.apps.control.wishes import Wish, services_root
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import RefusedError, UnreachableError
from interlock.base.ids import SeededIds
from interlock.decision.admin import Installed, Latch, Loaded, Observed, ServiceState
from interlock.decision.counts import (
    ERRORS,
    FLAGGED,
    GROUPS,
    MISSES,
    REQUESTS,
    SLOW,
    TIME_EDGES,
    ArmCounts,
    ShadowCounts,
    WorkerCounts,
    key,
)
from interlock.decision.table import BUCKETS, CHAMPION, NOBODY, Arm, RouteTable
from interlock.rollout import journal
from interlock.rollout.manifest import Manifests
from interlock.rollout.options import ControlOptions, RolloutOptions
from interlock.rollout.plan import Plan
from interlock.rollout.ports import Inverse, Reverted, SourceFile
from interlock.rollout.states import FINAL, State
from interlock.rollout.step import step
from interlock.rollout.values import Rollout, Target
from interlock.trust.commits import Commit
from interlock.trust.event import NewEvent
from interlock.trust.folder import folder_digest
from interlock.trust.memory import MemoryEventStore

SERVICE = "fraud"
WORKERS = 2
TURN_S = 0.5


class Crash(BaseException):
    """The controller is killed: nothing may catch it."""


@dataclass(frozen=True)
class Behaviour:
    """How a simulated model behaves."""

    flag_rate: float = 0.02
    model_ms: float = 0.2
    error_rate: float = 0.0
    miss_rate: float = 0.0
    loads: bool = True


def digest(text: str) -> str:
    """A digest with a name."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class MemoryGit:
    """`Source` in memory: a linear branch of whole trees."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, dict[str, bytes], str]] = []
        self.down = False
        self.rewritten = False
        self.inverted: set[tuple[str, str]] = set()

    def push(self, changes: dict[str, bytes | None], author: str = "dev@example.org") -> str:
        tree = dict(self.commits[-1][1]) if self.commits else {}
        for path, data in changes.items():
            if data is None:
                tree.pop(path, None)
            else:
                tree[path] = data
        commit = hashlib.sha256(f"{len(self.commits)}{sorted(tree.items())}".encode()).hexdigest()
        self.commits.append((commit, tree, author))
        return commit

    def tree(self, commit: str) -> dict[str, bytes]:
        return next(tree for each, tree, _ in self.commits if each == commit)

    def head(self) -> str:
        if self.rewritten:
            raise RefusedError("branch main was rewritten", "push a fast-forward")
        if self.down or not self.commits:
            raise UnreachableError("the remote is down", "wait")
        return self.commits[-1][0]

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        prefix = f"{folder}/" if folder else ""
        tree = self.tree(commit)
        return tuple(
            SourceFile(path.removeprefix(prefix), "100644", tree[path])
            for path in sorted(tree)
            if path.startswith(prefix)
        )

    def authors(self, commit: str, folder: str, since: str | None) -> tuple[str, ...]:
        return ("dev@example.org",)

    def wrote(self, commit: str, folder: str, since: str | None) -> tuple[Commit, ...]:
        return tuple(Commit(commit, email) for email in self.authors(commit, folder, since))

    def introduced(self, commit: str, folder: str) -> str:
        at = next(number for number, (each, _, _) in enumerate(self.commits) if each == commit)
        now = self._under(at, folder)
        while at and self._under(at - 1, folder) == now:
            at -= 1
        return self.commits[at][0] if at or now else ""

    def _under(self, number: int, folder: str) -> dict[str, bytes]:
        return {path: data for path, data in self.commits[number][1].items() if path.startswith(f"{folder}/")}

    def revert(self, inverse: Inverse) -> Reverted:
        head = self.head()
        now = {f.path: f.data for f in self.read(head, inverse.folder)}
        bad = {f.path: f.data for f in self.read(inverse.bad_commit, inverse.folder)}
        base = {f.path: f.data for f in self.read(inverse.base_commit, inverse.folder)} if inverse.base_commit else {}
        if now == base:
            return Reverted("already", head)
        if now != bad:
            return Reverted("superseded", head)
        assert (inverse.folder, inverse.bad_commit) not in self.inverted, "one commit is inverted twice"
        self.inverted.add((inverse.folder, inverse.bad_commit))
        changes: dict[str, bytes | None] = {f"{inverse.folder}/{path}": None for path in now}
        changes |= {f"{inverse.folder}/{path}": data for path, data in base.items()}
        return Reverted("pushed", self.push(changes, "controller@interlock.invalid"))


@dataclass
class _Worker:
    reset: int = 0
    arms: dict[str, ArmCounts] = field(default_factory=dict)
    shadows: dict[str, ShadowCounts] = field(default_factory=dict)


@dataclass
class Route:
    """One service at the supervisor: what its disk holds, and which workers are behind it."""

    table: RouteTable | None = None
    latch: Latch | None = None
    lease_until: int = 0
    behind: dict[int, tuple[RouteTable, int]] = field(default_factory=dict)
    """By worker: the table that it still has, and when it will be replaced."""
    draining: list[tuple[int, RouteTable]] = field(default_factory=list)
    """Until when requests in flight refer to which earlier table."""

    def of(self, worker: int) -> RouteTable | None:
        """The table by which a worker routes."""
        return self.behind[worker][0] if worker in self.behind else self.table

    def answering(self, table: RouteTable) -> list[Arm]:
        """The arms that answer under a table now, the latch respected."""
        if self.latch is None:
            return [arm for arm in table.arms if arm.ranges]
        return [arm for arm in table.arms if arm.name == CHAMPION]


class MemoryScorers:
    """`Scorers` in memory: one supervisor with two workers under traffic."""

    def __init__(self, clock: ManualClock, seed: int) -> None:
        self.clock = clock
        self.random = np.random.default_rng(seed)
        self.behaviours: dict[str, Behaviour] = {}
        self.admitted: set[tuple[str, str]] = set()
        self.loaded: set[str] = set()
        self.unready: set[str] = set()
        """Loaded, but broken in some worker: not reported as ready."""
        self.routes: dict[str, Route] = {}
        self.workers = [_Worker() for _ in range(WORKERS)]
        self.down = False
        self.partial = 0
        """How many of the next tables one worker will miss."""
        self.drain_s = 0.0
        self.began_ns = 0
        self.answered: dict[str, int] = {}
        self.shares: list[float] = []
        self._owners: dict[tuple[str, tuple[int, int]], np.ndarray] = {}

    def route(self, service: str) -> Route:
        """What the supervisor has of a service."""
        return self.routes.setdefault(service, Route())

    @property
    def table(self) -> RouteTable | None:
        """The table of the one service that most tests have."""
        return self.route(SERVICE).table

    @property
    def latch(self) -> Latch | None:
        """Its latch."""
        return self.route(SERVICE).latch

    # --- the port ---

    def load(self, service: str, bundle: str, folder: str) -> Loaded:
        self._answer()
        if (bundle, folder) not in self.admitted:
            raise RefusedError("no admission for this bundle and folder", "approve it")
        if not self.behaviours[bundle].loads:
            raise RefusedError("the trial process ended with signal 11", "correct the model")
        self.loaded.add(bundle)
        return Loaded(bundle, {}, WORKERS)

    def install(self, table: RouteTable) -> Installed:
        self._answer()
        table.validate()
        route = self.route(table.service)
        if route.table is not None and table.order < route.table.order:
            raise RefusedError("an older table", "observe first")
        if route.table is not None and table.order == route.table.order and table != route.table:
            raise RefusedError("another table of the same order", "observe first")
        if not table.bundles <= self.loaded:
            raise RefusedError("an arm is not loaded", "load it")
        before = route.table
        self._moves_to_health(route, route.answering(table))
        if before is not None and before.order != table.order:
            route.draining.append((self.clock.monotonic_ns() + round(self.drain_s * NS_PER_S), before))
        route.table = table
        self._renew(route)
        if self.partial:
            self.partial -= 1
            if before is not None and WORKERS - 1 not in route.behind:
                route.behind[WORKERS - 1] = before, self.clock.monotonic_ns() + 2 * NS_PER_S
            raise UnreachableError("not all workers have the table", "ask again")
        route.behind.clear()
        if route.latch is not None and table.clears == route.latch.id and table.epoch > route.latch.epoch:
            assert table.settled, "a latch is opened by a table that still compares"
            route.latch = None
        return Installed(table.generation, WORKERS)

    def unload(self, bundle: str) -> None:
        self._answer()
        for route in self.routes.values():
            if route.table is not None and bundle in route.table.bundles:
                raise RefusedError("a table in use names it", "install another")
            for table in self._old_tables(route):
                assert bundle not in table.bundles, "a version is unloaded while requests in flight refer to it"
        self.loaded.discard(bundle)

    def retreat(self, service: str, latch: str, reason: str, actor: str, at_ns: int) -> None:
        self._answer()
        route = self.route(service)
        if actor == "controller" and route.table is not None:
            self._moves_to_health(route, replace(route, latch=_ANY).answering(route.table))
        if route.latch is None:
            epoch, generation = route.table.order if route.table is not None else (0, 0)
            route.latch = Latch(latch, reason, actor, at_ns, epoch, generation)

    def observe(self, service: str | None, seals_after: int) -> Observed:
        self._answer()
        loaded = sorted(self.loaded - self.unready)
        services = {}
        for name, route in self.routes.items():
            table = route.table
            if table is None and route.latch is None:
                continue
            leased = table is not None and table.lease_s is not None
            left = (route.lease_until - self.clock.monotonic_ns()) / NS_PER_S if leased else None
            generation, epoch = (table.generation, table.epoch) if table is not None else (0, 0)
            oldest = min((each.generation for each in self._old_tables(route)), default=generation)
            services[name] = ServiceState(generation, epoch, oldest, route.latch, left, loaded, table)
        counts = [
            WorkerCounts(
                f"w{n}",
                f"{n}.{w.reset}",
                {name: arm.pack() for name, arm in w.arms.items()},
                {name: shadow.pack() for name, shadow in w.shadows.items()},
            )
            for n, w in enumerate(self.workers)
        ]
        return Observed(WORKERS, services, counts, began_ns=self.began_ns)

    def renew(self, service: str, epoch: int, generation: int) -> None:
        self._answer()
        route = self.route(service)
        if route.table is None or route.table.order != (epoch, generation):
            raise RefusedError("another table rules", "observe first")
        self._renew(route)

    # --- the world ---

    def replace_worker(self, number: int) -> None:
        """A crashed worker comes back with empty counters and the newest tables."""
        self.workers[number] = _Worker(self.workers[number].reset + 1)
        for route in self.routes.values():
            route.behind.pop(number, None)

    def restart(self, disk: bool = True) -> None:
        """Another supervisor: tables and latches are what the disk holds; without one there are none."""
        for number in range(WORKERS):
            self.replace_worker(number)
        if not disk:
            self.routes.clear()
        self.loaded = {bundle for route in self.routes.values() if route.table for bundle in route.table.bundles}
        self.began_ns = self.clock.now_ns()
        for route in self.routes.values():
            route.draining.clear()
            self._renew(route)

    def tick(self, requests: int) -> None:
        """Leases lapse, workers that are behind are replaced, and traffic comes."""
        now = self.clock.monotonic_ns()
        for service, route in self.routes.items():
            table = route.table
            lapsed = table is not None and table.lease_s is not None and now >= route.lease_until
            if table is not None and lapsed and route.latch is None:
                latch = f"lease {service} {table.epoch} {table.generation}"
                route.latch = Latch(latch, "the lease lapsed", "supervisor", self.clock.now_ns(), *table.order)
            for number in [n for n, (_, until) in route.behind.items() if now >= until]:
                self.replace_worker(number)
        for service in self.routes:
            for number in range(WORKERS):
                self._traffic(service, number, requests // WORKERS)

    def effective(self, service: str = SERVICE, worker: int = 0) -> np.ndarray:
        """Index of the arm that answers each bucket now, the latch respected."""
        route = self.route(service)
        table = route.of(worker)
        assert table is not None
        known = self._owners.get((service, table.order))
        if known is None:
            known = self._owners[service, table.order] = np.frombuffer(table.owners(), np.uint8)
        if route.latch is None:
            return known
        names = [arm.name for arm in table.arms]
        return np.full(BUCKETS, names.index(CHAMPION) if CHAMPION in names else NOBODY, np.uint8)

    def _moves_to_health(self, route: Route, answering: list[Arm]) -> None:
        """Nobody who was answered by a healthy version is given to a broken one, unless a person or a latch says so."""
        before = [] if route.table is None else route.answering(route.table)
        if route.latch is None and any(arm.bundle not in self.unready for arm in before):
            assert any(arm.bundle not in self.unready for arm in answering), "the only healthy version was taken away"

    def _old_tables(self, route: Route) -> list[RouteTable]:
        now = self.clock.monotonic_ns()
        return [table for until, table in route.draining if now < until] + [each for each, _ in route.behind.values()]

    def _traffic(self, service: str, number: int, requests: int) -> None:
        route, worker = self.routes[service], self.workers[number]
        table = route.of(number)
        if table is None or requests == 0:
            return
        buckets = self.random.integers(0, BUCKETS, requests)
        all_owners = self.effective(service, number)
        owners = all_owners[buckets]
        if service == SERVICE:
            self.shares.append(float((all_owners == _index(table, "candidate")).mean()))
        for index, arm in enumerate(table.arms):
            mine = buckets[owners == index] * GROUPS // BUCKETS
            if len(mine):
                self._count(worker, table, arm, mine)
        if route.latch is None:
            for shadow in table.shadows:
                self._shadow(worker, table, shadow, requests)

    def _count(self, worker: _Worker, table: RouteTable, by: Arm, groups: np.ndarray) -> None:
        how, n = self.behaviours[by.bundle], len(groups)
        self.answered[by.bundle] = self.answered.get(by.bundle, 0) + n
        arm = worker.arms.setdefault(key(table.service, table.generation, by.name), ArmCounts())
        times = self.random.lognormal(np.log(how.model_ms * 1e6), 0.4, n)
        arm.times[0] += np.bincount(np.searchsorted(_EDGES, times, side="right"), minlength=len(TIME_EDGES) + 1)
        hits = {
            REQUESTS: np.ones(n, bool),
            FLAGGED: self.random.random(n) < how.flag_rate,
            ERRORS: self.random.random(n) < how.error_rate,
            MISSES: self.random.random(n) < how.miss_rate,
            SLOW: times > (table.tau_ns or 1 << 62),
        }
        for count, hit in hits.items():
            arm.values[0, :, count] += np.bincount(groups[hit], minlength=GROUPS)

    def _shadow(self, worker: _Worker, table: RouteTable, shadow: Arm, requests: int) -> None:
        counts = worker.shadows.setdefault(key(table.service, table.generation, shadow.name), ShadowCounts())
        champion = table.arms[0].bundle
        rates = self.behaviours[champion].flag_rate, self.behaviours[shadow.bundle].flag_rate
        draws = self.random.random(requests)
        steps = (draws < rates[1]).astype(int) - (draws < rates[0]).astype(int)
        counts.pairs += requests
        counts.up += int((steps > 0).sum())
        counts.down += int((steps < 0).sum())
        counts.kept += int((draws < min(rates)).sum())

    def _renew(self, route: Route) -> None:
        if route.table is not None and route.table.lease_s is not None:
            route.lease_until = self.clock.monotonic_ns() + round(route.table.lease_s * NS_PER_S)

    def _answer(self) -> None:
        if self.down:
            raise UnreachableError("the supervisor does not answer", "start it")


_ANY = Latch("any", "", "", 0)
_EDGES = np.asarray(TIME_EDGES, np.float64)


def _index(table: RouteTable, name: str) -> int:
    return next((i for i, arm in enumerate(table.arms) if arm.name == name), NOBODY - 1)


class MemoryGate:
    """Admits the folders that were approved, and tells the scorers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.checked: list[str] = []

    def check(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        self.checked.append(wish.folder)
        if wish.folder not in self._world.approved:
            raise RefusedError("no quorum for this folder", "ask technical, risk and compliance to sign")
        bundle = manifests.release.bundle
        self._world.scorers.admitted.add((bundle, wish.folder))
        for row in manifests.release.shadows:
            if (row.bundle, row.folder) not in self._world.scorers.admitted:
                raise RefusedError(f"{row.version} has no admission that stands", "name one that was admitted")
        return self._target(wish, manifests)

    def verify(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        bundle = manifests.release.bundle
        if (bundle, wish.folder) not in self._world.scorers.admitted:
            raise RefusedError("the admission of this release is not here", "release it anew")
        return self._target(wish, manifests)

    def _target(self, wish: Wish, manifests: Manifests) -> Target:
        release = manifests.release
        return Target(
            release.version, release.bundle, wish.folder, wish.commit, release.routing, shadows=release.shadows
        )

    def plan(self, wish: Wish, manifests: Manifests) -> Plan:
        return manifests.plan


class Inline(Executor):
    """Runs work at once, so that a simulation has one order of events."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Threads(Inline):
    """Runs work at once, or once a delay is over: a slow trial process, a slow remote."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.delay_s = 0.0
        self._waiting: list[tuple[int, Callable[..., Any], Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.delay_s <= 0:
            return super().submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        due = self._clock.monotonic_ns() + round(self.delay_s * NS_PER_S)
        self._waiting.append((due, lambda: fn(*args, **kwargs), future))
        return future

    def tick(self) -> None:
        """Do what is due."""
        now = self._clock.monotonic_ns()
        due = [each for each in self._waiting if each[0] <= now]
        self._waiting = [each for each in self._waiting if each[0] > now]
        for _, work, future in due:
            done = super().submit(work)
            error = done.exception()
            if error is None:
                future.set_result(done.result())
            else:
                future.set_exception(error)


@dataclass
class Weather:
    """How calls fail by chance: not done, done but the answer is lost, done twice."""

    random: random.Random = field(default_factory=lambda: random.Random(0))
    fails: float = 0.0
    loses: float = 0.0
    repeats: float = 0.0

    def strikes(self, chance: float) -> bool:
        """Whether it happens now."""
        return chance > 0 and self.random.random() < chance


STORE = frozenset({"append", "append_many", "after", "lease"})


class Killer:
    """Stands between a controller and its ports: kills it around the n-th call that changes something.

    Args:
        at: the number of the call; None: never.
        after: after it instead of before.
        asleep: instead of dying, the controller sleeps while this runs, and then goes on.
    """

    CHANGING = frozenset({"load", "install", "unload", "retreat", "revert", "append", "append_many"})

    def __init__(self, at: int | None = None, after: bool = False, asleep: Callable[[], None] | None = None) -> None:
        self.at = at
        self.after = after
        self.asleep = asleep
        self.calls: list[str] = []
        self.dead = False
        self.store_down = False
        self.weather = Weather()
        self.watch: Callable[[str], None] = lambda name: None

    def wrap(self, port: Any) -> Any:
        return _Wrapped(port, self)

    def call(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        weather = self.weather
        if self.store_down and name in STORE:
            raise UnreachableError("the database is down", "start it")
        if name not in self.CHANGING:
            if weather.strikes(weather.fails):
                raise UnreachableError("no answer", "ask again")
            return method(*arguments)
        number = len(self.calls)
        self.calls.append(name)
        if number == self.at and not self.after:
            self._strike(f"before {name}")
        if weather.strikes(weather.fails):
            raise UnreachableError("it did not arrive", "ask again")
        result = method(*arguments)
        if name not in STORE and weather.strikes(weather.repeats):
            result = method(*arguments)
        self.watch(name)
        if number == self.at and self.after:
            self._strike(f"after {name}")
        if weather.strikes(weather.loses):
            raise UnreachableError("the answer was lost", "ask again")
        return result

    def _strike(self, where: str) -> None:
        if self.asleep is None:
            self.dead = True
            raise Crash(where)
        self.asleep()


class _Wrapped:
    def __init__(self, port: Any, killer: Killer) -> None:
        self._port = port
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        return lambda *arguments, **named: self._killer.call(name, lambda *given: method(*given, **named), arguments)


POLICY = """apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {{name: {service}}}
spec:
  strategy: {strategy}
  advance: {advance}
  steps: [{steps}]
  watch: {{holdback: {holdback}, for: {watch}s}}
  deadline: {deadline}s
  hold: {hold}s
{more}"""
RUNS_ON = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {service}}}
spec:
  predictor: {{minReplicas: 1}}
"""
STEPS = "{shadow: 3s}, {weight: 10, for: 2s}, {weight: 50, for: 2s}, {weight: 100}"
DEFAULTS: dict[str, Any] = {
    "steps": STEPS,
    "strategy": "canary",
    "advance": "timeline",
    "holdback": 0.05,
    "watch": 5,
    "deadline": 120,
    "hold": 86_400,
    "more": "",
}


class World:
    """Everything together. `run` lets time pass; `restart` replaces the controller."""

    def __init__(self, seed: int = 1, tps: int = 400, lease_s: float = 60.0) -> None:
        self.clock = ManualClock()
        self.git = MemoryGit()
        self.store = MemoryEventStore()
        self.scorers = MemoryScorers(self.clock, seed)
        self.approved: set[str] = set()
        self.gate = MemoryGate(self)
        self.tps = tps
        self.ids = SeededIds(seed)
        self.control = ControlOptions(table_lease_s=lease_s)
        self.weather = Weather()
        self.delay_s = 0.0
        self.number = 0
        self.others: list[tuple[Reconciler, Killer, Threads]] = []
        """Controllers that run beside the one that was started last."""
        self.journal: dict[str, Rollout] = {}
        """Every rollout, folded through `step` again."""
        self._folded = 0
        self.restart()

    def restart(self, killer: Killer | None = None, lapse: bool = True) -> None:
        """A new controller process; `lapse`: the old one's lease is over."""
        if lapse and self.number:
            self.clock.advance(self.control.lease_s + 1)
        self.number += 1
        self.killer = killer = killer or Killer()
        killer.weather, holder = self.weather, f"controller-{self.number}"
        killer.watch = lambda name: self._watch(name, holder)
        self.threads = Threads(self.clock)
        ports = Ports(
            store=killer.wrap(self.store),
            scorers=killer.wrap(self.scorers),
            source=killer.wrap(self.git),
            gate=self.gate,
            clock=self.clock,
            ids=self.ids,
            runner=self.threads,
            sequence=lambda: 0,
        )
        options = RolloutOptions(repository="memory", poll_s=0.5)
        self.controller = Reconciler(ports, options, self.control, holder)

    def beside(self, killer: Killer | None = None) -> None:
        """A second controller: the present one goes on beside it."""
        self.others.append((self.controller, self.killer, self.threads))
        self.restart(killer, lapse=False)

    @property
    def store_down(self) -> bool:
        """Whether the controller cannot reach its database."""
        return self.killer.store_down

    @store_down.setter
    def store_down(self, value: bool) -> None:
        for killer in (self.killer, *(each for _, each, _ in self.others)):
            killer.store_down = value

    def release(
        self,
        version: str,
        behaviour: Behaviour | None = None,
        approve: bool = True,
        service: str = SERVICE,
        **policy: Any,
    ) -> tuple[str, str]:
        """Push a release; returns (commit, folder digest)."""
        bundle = digest(f"bundle {version}" if service == SERVICE else f"bundle {service} {version}")
        bundle = policy.pop("bundle", bundle)
        self.scorers.behaviours[bundle] = behaviour or Behaviour()
        root = f"{services_root('production')}/{service}"
        routing = {name: policy.pop(name) for name in ("routing", "shadows") if name in policy}
        release = {
            "apiVersion": "interlock.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": service},
            "spec": {
                "version": version,
                "bundle": bundle,
                "featureSet": digest("features"),
                "thresholdSet": digest("thresholds"),
                **routing,
            },
        }
        files = {
            "release.yaml": msgspec.json.encode(release),
            "rollout.yaml": POLICY.format(service=service, **{**DEFAULTS, **policy}).encode(),
            "inferenceservice.yaml": RUNS_ON.format(service=service).encode(),
        }
        commit = self.git.push({f"{root}/{name}": data for name, data in files.items()})
        folder = folder_digest([(name, "100644", data) for name, data in sorted(files.items())])
        if approve:
            self.approved.add(folder)
        return commit, folder

    def ask(self, what: str, service: str = SERVICE, reason: str = "complaints", **more: Any) -> None:
        """What a person asks for: `abort`, `pause`, `resume` or `rollback`."""
        event = NewEvent(
            time_ns=self.clock.now_ns(),
            type=f"rollout.{what}.requested",
            actor="ada",
            origin="test",
            object=f"service/{service}",
            outcome="success",
            body={"service": service, "reason": reason, **more},
        )
        self.store.append(event)

    def turn(self) -> None:
        """One turn of each controller, then half a second of traffic."""
        for controller, _, threads in [*self.others, (self.controller, self.killer, self.threads)]:
            threads.delay_s = self.delay_s
            threads.tick()
            controller.turn()
            self.check()
        self.fold()
        self.clock.advance(TURN_S)
        self.scorers.tick(round(self.tps * TURN_S))
        self.check()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TURN_S)):
            self.turn()

    def until(self, state: State, service: str = SERVICE, limit_s: float = 60.0) -> Rollout:
        """Let time pass until the newest rollout of a service is in a state."""
        for _ in range(round(limit_s / TURN_S)):
            newest = self.rollouts(service)
            if newest and newest[-1].state is state:
                return newest[-1]
            self.turn()
        raise AssertionError(f"the rollout did not become {state.value}")

    def finish(self, limit_s: float = 300.0) -> None:
        """Run until nothing is left to do."""
        self.run(2)
        for _ in range(round(limit_s / TURN_S)):
            if not self.controller.busy():
                return
            self.turn()
        raise AssertionError("the rollout did not come to an end")

    def rollouts(self, service: str = SERVICE) -> list[Rollout]:
        """The rollouts of a service, oldest first, as the journal tells."""
        self.fold()
        return [each for each in self.journal.values() if each.service == service]

    # --- what holds at every instant ---

    def check(self) -> None:
        """Weights are whole, whoever answers is loaded and admitted, a champion leaves nobody without an answer."""
        for route in self.scorers.routes.values():
            for table in {id(each): each for each in map(route.of, range(WORKERS)) if each is not None}.values():
                self._check_table(route, table)

    def _check_table(self, route: Route, table: RouteTable) -> None:
        table.validate()
        answering = route.answering(table)
        assert len({arm.bundle for arm in answering}) <= 2, "more than two versions answer"
        assert len(table.shadows) <= 1 or table.settled, "more than one shadow"
        for arm in (*answering, *table.shadows):
            assert arm.bundle in self.scorers.loaded, "traffic meets a version that is not loaded"
            assert (arm.bundle, arm.folder) in self.scorers.admitted, "traffic meets a version without admission"
        if table.arm(CHAMPION) is not None:
            covered = BUCKETS if route.latch is not None else sum(h - low for arm in answering for low, h in arm.ranges)
            assert covered == BUCKETS, "somebody's request has no answer although there is a champion"

    def fold(self) -> None:
        """The journal, replayed through `step`, is what its entries say."""
        for event in self.store.after(self._folded):
            self._folded = event.id
            if event.type not in journal.ENTRIES:
                continue
            entry = journal.parse(event)
            name = entry.rollout.id
            if entry.seen is None:
                assert name not in self.journal, "a rollout started twice"
                self.journal[name] = entry.rollout
            else:
                self.journal[name] = step(self.journal[name], entry.seen, entry.at_ns)[0]
            assert self.journal[name] == entry.rollout, f"event {event.id} is not what its journal gives"

    def _watch(self, name: str, holder: str) -> None:
        self.check()
        if name in STORE:
            leader = self.store._leases["controller"][0]
            assert leader == holder, f"{holder} wrote the journal while {leader} led"

    def settled(self, services: Sequence[str] = (SERVICE,), strays: bool = False) -> None:
        """What holds once faults have ended and nothing is left to do: Git, or a recorded reason, is what serves.

        `strays`: versions without traffic may still be loaded.
        """
        self.fold()
        assert all(each.state in FINAL and not each.pending for each in self.journal.values()), "something is left"
        live, beside = set[str](), set[str]()
        for service in services:
            route, settled = self.scorers.route(service), self._live(service)
            assert route.latch is None, f"the latch of {service} is still set"
            if settled is None or settled.candidate is None:
                assert route.table is None or not route.table.arms, f"{service} serves what never settled"
                continue
            live.add(settled.candidate.bundle)
            beside |= {each.bundle for each in settled.candidate.shadows}
            assert self.serving(service) == settled.version, f"{service} serves {self.serving(service)}"
            assert route.table is not None
            assert route.table.settled, f"{service} is routed by an unsettled table"
            assert {arm.bundle for arm in route.table.shadows} <= beside, f"{service} has shadows that nobody named"
            self._agrees(service, settled)
        assert strays or live <= self.scorers.loaded <= live | beside, (
            f"{len(self.scorers.loaded)} versions are loaded for {len(live)} services"
        )

    def _live(self, service: str) -> Rollout | None:
        """The rollout that settled last."""
        settled = [each for each in self.rollouts(service) if each.state is State.SETTLED]
        return max(settled, key=lambda each: each.ended_ns, default=None)

    def _agrees(self, service: str, live: Rollout) -> None:
        root = f"{services_root('production')}/{service}"
        files = self.git.read(self.git.commits[-1][0], root)
        wanted = folder_digest([(file.path, file.mode, file.data) for file in files]) if files else ""
        if wanted == live.folder:
            return
        refused = {event.body["folder"] for event in self.store.after(0, ("release.refused", "release.quarantined"))}
        ended = {each.folder for each in self.rollouts(service) if each.state is State.REFUSED}
        assert wanted in refused | ended, f"the branch asks for something that {service} neither serves nor refused"

    @property
    def table(self) -> RouteTable:
        """The installed table."""
        assert self.scorers.table is not None
        return self.scorers.table

    def serving(self, service: str = SERVICE) -> str | None:
        """The version that answers everybody now; None when it is not one alone."""
        route = self.scorers.route(service)
        if route.table is None or not route.table.arms or route.behind:
            return None
        answering = route.answering(route.table)
        return answering[0].version if len(answering) == 1 else None
