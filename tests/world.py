"""A small world in one process, seeded: scorers, Git, events and clock, with a real controller on top.

The scorers are simulated, but route by real `RouteTable`s, count in real `ArmCounts`, and keep the
contract of `rollout.ports.Scorers`: nothing unadmitted is loaded, an older epoch is refused, a latch
holds until a table of a higher epoch names it, a lapsed lease sets one. `World.check` states what
must hold at every instant; it runs after every call and every tick.
"""
# long: one simulator of every port, read as a whole

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
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
from interlock.decision.table import BUCKETS, NOBODY, RouteTable
from interlock.rollout.manifest import Manifests
from interlock.rollout.options import ControlOptions, RolloutOptions
from interlock.rollout.plan import Plan
from interlock.rollout.ports import Inverse, Reverted, SourceFile
from interlock.rollout.values import Target
from interlock.trust.commits import Commit
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
        changes: dict[str, bytes | None] = {f"{inverse.folder}/{path}": None for path in now}
        changes |= {f"{inverse.folder}/{path}": data for path, data in base.items()}
        return Reverted("pushed", self.push(changes, "controller@interlock.invalid"))


@dataclass
class _Worker:
    reset: int = 0
    arms: dict[str, ArmCounts] = field(default_factory=dict)
    shadows: dict[str, ShadowCounts] = field(default_factory=dict)


class MemoryScorers:
    """`Scorers` in memory: one supervisor with two workers under traffic."""

    def __init__(self, clock: ManualClock, seed: int) -> None:
        self.clock = clock
        self.random = np.random.default_rng(seed)
        self.behaviours: dict[str, Behaviour] = {}
        self.admitted: set[tuple[str, str]] = set()
        self.loaded: set[str] = set()
        self.table: RouteTable | None = None
        self.latch: Latch | None = None
        self.lease_until = 0
        self.workers = [_Worker() for _ in range(WORKERS)]
        self.down = False
        self.answered: dict[str, int] = {}
        self.shares: list[float] = []
        self.ceilings = False

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
        if self.table is not None and table.order < self.table.order:
            raise RefusedError("an older table", "observe first")
        if self.table is not None and table.order == self.table.order and table != self.table:
            raise RefusedError("another table of the same order", "observe first")
        if not table.bundles <= self.loaded:
            raise RefusedError("an arm is not loaded", "load it")
        if self.latch is not None and table.clears == self.latch.id and table.epoch > self.latch.epoch:
            self.latch = None
        self.table = table
        self._renew()
        return Installed(table.generation, WORKERS)

    def unload(self, bundle: str) -> None:
        self._answer()
        if self.table is not None and bundle in self.table.bundles:
            raise RefusedError("a table in use names it", "install another")
        self.loaded.discard(bundle)

    def retreat(self, service: str, latch: str, reason: str, actor: str, at_ns: int) -> None:
        self._answer()
        if self.latch is None:
            table = self.table
            epoch, generation = table.order if table is not None else (0, 0)
            self.latch = Latch(latch, reason, actor, at_ns, epoch, generation)

    def observe(self, service: str | None, seals_after: int) -> Observed:
        self._answer()
        table, services = self.table, {}
        if table is not None:
            left = (self.lease_until - self.clock.monotonic_ns()) / NS_PER_S if table.lease_s is not None else None
            services[SERVICE] = ServiceState(
                table.generation, table.epoch, table.generation, self.latch, left, sorted(self.loaded), table
            )
        counts = [
            WorkerCounts(
                f"w{n}",
                f"{n}.{w.reset}",
                {name: arm.pack() for name, arm in w.arms.items()},
                {name: shadow.pack() for name, shadow in w.shadows.items()},
            )
            for n, w in enumerate(self.workers)
        ]
        return Observed(WORKERS, services, counts)

    def renew(self, service: str, epoch: int, generation: int) -> None:
        self._answer()
        if self.table is None or self.table.order != (epoch, generation):
            raise RefusedError("another table rules", "observe first")
        self._renew()

    # --- the world ---

    def replace_worker(self, number: int) -> None:
        """A crashed worker comes back with empty counters."""
        self.workers[number] = _Worker(self.workers[number].reset + 1)

    def tick(self, requests: int) -> None:
        """Leases lapse, and traffic comes."""
        table = self.table
        lapsed = table is not None and table.lease_s is not None and self.clock.monotonic_ns() >= self.lease_until
        if table is not None and lapsed and self.latch is None:
            self.latch = Latch("lease", "the lease lapsed", "supervisor", self.clock.now_ns(), *table.order)
        for worker in self.workers:
            self._traffic(worker, requests // WORKERS)

    def effective(self) -> np.ndarray:
        """Index of the arm that answers each bucket now, the latch respected."""
        assert self.table is not None
        owners = np.frombuffer(self.table.owners(), np.uint8).copy()
        if self.latch is not None:
            names = [arm.name for arm in self.table.arms]
            owners[:] = names.index("champion") if "champion" in names else NOBODY
        return owners

    def _traffic(self, worker: _Worker, requests: int) -> None:
        if self.table is None or requests == 0:
            return
        buckets = self.random.integers(0, BUCKETS, requests)
        owners = self.effective()[buckets]
        self.shares.append(float((self.effective() == _index(self.table, "candidate")).mean()))
        for index, arm in enumerate(self.table.arms):
            mine = buckets[owners == index] * GROUPS // BUCKETS
            if len(mine):
                self._count(worker, arm.name, arm.bundle, mine)
        if self.latch is None:
            for shadow in self.table.shadows:
                self._shadow(worker, self.table.arms[0].bundle, shadow.bundle, requests)

    def _count(self, worker: _Worker, name: str, bundle: str, groups: np.ndarray) -> None:
        assert self.table is not None
        how, n = self.behaviours[bundle], len(groups)
        self.answered[bundle] = self.answered.get(bundle, 0) + n
        arm = worker.arms.setdefault(key(SERVICE, self.table.generation, name), ArmCounts())
        times = self.random.lognormal(np.log(how.model_ms * 1e6), 0.4, n)
        np.add.at(arm.times[0], np.searchsorted(TIME_EDGES, times, side="right"), 1)
        hits = {
            REQUESTS: np.ones(n, bool),
            FLAGGED: self.random.random(n) < how.flag_rate,
            ERRORS: self.random.random(n) < how.error_rate,
            MISSES: self.random.random(n) < how.miss_rate,
            SLOW: times > (self.table.tau_ns or 1 << 62),
        }
        for count, hit in hits.items():
            np.add.at(arm.values[0, :, count], groups[hit], 1)

    def _shadow(self, worker: _Worker, champion: str, candidate: str, requests: int) -> None:
        assert self.table is not None
        counts = worker.shadows.setdefault(key(SERVICE, self.table.generation, "candidate"), ShadowCounts())
        rates = self.behaviours[champion].flag_rate, self.behaviours[candidate].flag_rate
        draws = self.random.random(requests)
        steps = (draws < rates[1]).astype(int) - (draws < rates[0]).astype(int)
        counts.pairs += requests
        counts.up += int((steps > 0).sum())
        counts.down += int((steps < 0).sum())

    def _renew(self) -> None:
        if self.table is not None and self.table.lease_s is not None:
            self.lease_until = self.clock.monotonic_ns() + round(self.table.lease_s * NS_PER_S)

    def _answer(self) -> None:
        if self.down:
            raise UnreachableError("the supervisor does not answer", "start it")


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
        return Target(manifests.release.version, bundle, wish.folder, wish.commit, manifests.release.routing)

    def verify(self, wish: Wish, manifests: Manifests) -> Target:
        bundle = manifests.release.bundle
        if (bundle, wish.folder) not in self._world.scorers.admitted:
            raise RefusedError("the admission of this release is not here", "release it anew")
        return Target(manifests.release.version, bundle, wish.folder, wish.commit, manifests.release.routing)

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


class Killer:
    """Kills the controller before or after the n-th call of a port that changes something."""

    CHANGING = frozenset({"load", "install", "unload", "retreat", "revert", "append", "append_many"})

    def __init__(self, at: int | None = None, after: bool = False) -> None:
        self.at = at
        self.after = after
        self.calls: list[str] = []
        self.store_down = False

    def wrap(self, port: Any) -> Any:
        return _Wrapped(port, self)

    def call(self, name: str, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.store_down and name in ("append", "append_many", "after", "lease"):
            raise UnreachableError("the database is down", "start it")
        if name not in self.CHANGING:
            return method(*arguments)
        number = len(self.calls)
        self.calls.append(name)
        if number == self.at and not self.after:
            raise Crash(f"before {name}")
        result = method(*arguments)
        if number == self.at:
            raise Crash(f"after {name}")
        return result


class _Wrapped:
    def __init__(self, port: Any, killer: Killer) -> None:
        self._port = port
        self._killer = killer

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        return lambda *arguments: self._killer.call(name, method, arguments)


POLICY = """apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {{name: fraud}}
spec:
  strategy: canary
  advance: timeline
  steps: [{steps}]
  watch: {{holdback: 0.05, for: {watch}s}}
  deadline: {deadline}s
"""
RUNS_ON = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: fraud}
spec:
  predictor: {minReplicas: 1}
"""
STEPS = "{shadow: 3s}, {weight: 10, for: 2s}, {weight: 50, for: 2s}, {weight: 100}"


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
        self.number = 0
        self.controller: Reconciler | None = None
        self.restart()

    def restart(self, killer: Killer | None = None, lapse: bool = True) -> None:
        """A new controller process; `lapse`: the old one's lease is over."""
        if lapse and self.number:
            self.clock.advance(self.control.lease_s + 1)
        self.number += 1
        self.killer = killer = killer or Killer()
        ports = Ports(
            store=killer.wrap(self.store),
            scorers=killer.wrap(self.scorers),
            source=killer.wrap(self.git),
            gate=self.gate,
            clock=self.clock,
            ids=self.ids,
            runner=Inline(),
            sequence=lambda: 0,
        )
        options = RolloutOptions(repository="memory", poll_s=0.5)
        self.controller = Reconciler(ports, options, self.control, f"controller-{self.number}")

    @property
    def store_down(self) -> bool:
        """Whether the controller cannot reach its database."""
        return self.killer.store_down

    @store_down.setter
    def store_down(self, value: bool) -> None:
        self.killer.store_down = value

    def release(
        self, version: str, behaviour: Behaviour | None = None, approve: bool = True, **policy: Any
    ) -> tuple[str, str]:
        """Push a release; returns (commit, folder digest)."""
        bundle = digest(f"bundle {version}")
        self.scorers.behaviours[bundle] = behaviour or Behaviour()
        root = f"{services_root('production')}/{SERVICE}"
        routing = {"routing": policy.pop("routing")} if "routing" in policy else {}
        settings = {"steps": STEPS, "watch": 5, "deadline": 120, **policy}
        release = {
            "apiVersion": "interlock.dev/v1alpha1",
            "kind": "Release",
            "metadata": {"name": SERVICE},
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
            "rollout.yaml": POLICY.format(**settings).encode(),
            "inferenceservice.yaml": RUNS_ON.encode(),
        }
        commit = self.git.push({f"{root}/{name}": data for name, data in files.items()})
        from interlock.trust.folder import folder_digest

        folder = folder_digest([(name, "100644", data) for name, data in sorted(files.items())])
        if approve:
            self.approved.add(folder)
        return commit, folder

    def turn(self) -> None:
        """One turn of the controller, then half a second of traffic."""
        assert self.controller is not None
        self.controller.turn()
        self.check()
        self.clock.advance(TURN_S)
        self.scorers.tick(round(self.tps * TURN_S))
        self.check()

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TURN_S)):
            self.turn()

    def finish(self, limit_s: float = 300.0) -> None:
        """Run until nothing is left to do."""
        assert self.controller is not None
        self.run(2)
        for _ in range(round(limit_s / TURN_S)):
            if not self.controller.busy():
                return
            self.turn()
        raise AssertionError("the rollout did not come to an end")

    def check(self) -> None:
        """What holds at every instant."""
        table = self.scorers.table
        if table is None:
            return
        table.validate()
        owners = self.scorers.effective()
        if table.arms:
            for index in set(owners.tolist()) - {NOBODY}:
                assert table.arms[index].bundle in self.scorers.loaded, "traffic meets a version that is not loaded"
                pair = table.arms[index].bundle, table.arms[index].folder
                assert pair in self.scorers.admitted, "traffic meets a version without admission"
            if any(arm.name == "champion" for arm in table.arms):
                assert NOBODY not in owners, "somebody's request has no answer although there is a champion"

    @property
    def table(self) -> RouteTable:
        """The installed table."""
        assert self.scorers.table is not None
        return self.scorers.table

    def serving(self) -> str | None:
        """The version that answers everybody now; None when it is not one alone."""
        table = self.scorers.table
        if table is None or not table.arms:
            return None
        owners = set(self.scorers.effective().tolist())
        return table.arms[owners.pop()].version if len(owners) == 1 and NOBODY not in owners else None
