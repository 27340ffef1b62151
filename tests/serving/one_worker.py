"""One worker's pipeline in this process: real models, the store in memory, records in a list."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from tests.builders import tiny_files

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.canonical import digest_of
from interlock.base.clock import EdgeClock, ManualClock, SystemClock
from interlock.base.errors import UnreachableError
from interlock.base.ids import SeededIds
from interlock.decision import counts
from interlock.decision.counts import ArmCounts
from interlock.decision.decide import Cuts, Model, Vectors
from interlock.decision.record import DecisionRecord
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, Arm, RouteTable
from interlock.features.definition import FRAUD
from interlock.features.memory import MemoryStore
from interlock.features.online import Base
from interlock.features.options import StoreOptions
from interlock.serving.call import Call, Unanswered
from interlock.serving.fence import Fence, create
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Pipeline
from interlock.serving.route import Route
from interlock.serving.score_cache import ScoreCache
from interlock.serving.surroundings import Surroundings
from interlock.serving.tick import Row
from interlock.serving.trace import Trace

SALT = "cd" * 32
FOLDER = "sha256:" + "f" * 64
Outcome = list[dict[str, Any]] | Unanswered


@functools.cache
def real_model(version: str, seed: int = 0) -> Model:
    """A model that ONNX Runtime runs."""
    files = tiny_files(version=version, seed=seed)
    return _model(version, OnnxRuntime.from_bytes(files["model.onnx"], "probability"))


def model(version: str, run: Callable[[Vectors], Vectors]) -> Model:
    """A model that runs a function."""
    return _model(version, Function(run))


def constant(version: str, score: float) -> Model:
    """A model that always says the same."""
    return model(version, lambda vectors: np.full(len(vectors), score, np.float32))


class Function:
    """A runtime from a function."""

    def __init__(self, run: Callable[[Vectors], Vectors]) -> None:
        self._run = run

    def run(self, vectors: Vectors) -> Vectors:
        """Scores of vectors."""
        return self._run(vectors)


def _model(version: str, runtime: Any) -> Model:
    return Model(
        bundle=digest_of(version.encode()),
        version=version,
        service="fraud",
        feature_set=FRAUD.digest,
        width=FRAUD.width,
        cuts=Cuts((0.7, 0.8, 0.9), ("STEP_UP", "REVIEW", "DECLINE")),
        threshold_set=digest_of(b"cuts"),
        runtime=runtime,
        manifest={"feature_set": FRAUD.to_json()},
    )


class ListRecorder:
    """Records in a list; `broken` makes every write fail."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []
        self.broken = False

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Write a tick's records."""
        if self.broken:
            raise UnreachableError("the disk is full", "free space")
        self.records += records


class TwoClocks:
    """Wall time as scripted; monotonic time, which measures model calls, as it is, or some time ahead."""

    def __init__(self, wall: ManualClock) -> None:
        self._wall, self._real = wall, SystemClock()
        self.ahead_ns = 0

    def now_ns(self) -> int:
        """Scripted."""
        return self._wall.now_ns()

    def monotonic_ns(self) -> int:
        """Real."""
        return self._real.monotonic_ns() + self.ahead_ns


class OneWorker:
    """A pipeline and everything around it; the wall clock stands still until `wall` is moved."""

    def __init__(self, **options: Any) -> None:
        self.options = ServingOptions(**options)
        self.wall = ManualClock()
        self.store = MemoryStore(FRAUD, StoreOptions(hold_ms=1_000), self.wall)
        self.recorder = ListRecorder()
        self.fence = Fence(create(), writable=True)
        self.clock = TwoClocks(self.wall)
        self.scores = ScoreCache(self.options.score_cache) if self.options.score_cache else None
        self.pipeline = Pipeline(
            "fraud",
            Surroundings(
                self.store,
                self.recorder,
                self.fence,
                self.clock,
                EdgeClock(self.wall),
                SeededIds(1),
                self.options,
                b"worker-1",
                self.scores,
                self.options.otlp_url is not None,
            ),
        )
        self.mcc: str | None = "5411"
        self.models: dict[str, Model] = {}
        self.told: list[str] = []
        """What happened, in order: records written, then replies given."""

    async def warm(self) -> OneWorker:
        """Declare the store's base."""
        await self.store.load([], Base.empty(FRAUD.set_hash))
        return self

    def arm(self, model: Model, name: str = "champion") -> Arm:
        """A model as an arm without traffic."""
        self.models[model.bundle] = model
        return Arm(name, model.bundle, FOLDER, model.version)

    def route(self, champion: Model | None, candidate: Model | None = None, share: int = 5_000, **more: Any) -> Route:
        """Install a table with one or two arms."""
        if champion is None:
            arms: tuple[Arm, ...] = ()
        elif candidate is None:
            arms = (msgspec.structs.replace(self.arm(champion), ranges=((0, BUCKETS),)),)
        else:
            arms = weights(self.arm(champion), self.arm(candidate, "candidate"), share)
        shadow = more.pop("shadow", None)
        shadows = (self.arm(shadow, more.pop("shadow_name", "candidate")),) if shadow is not None else ()
        generation = more.pop("generation", 1)
        table = RouteTable(
            service="fraud", epoch=1, generation=generation, arms=arms, salt=SALT, shadows=shadows, **more
        ).validate()
        route = Route(table, 0, self.models.get, self.clock)
        self.pipeline.install(route)
        return route

    def row(self, call: Call, place: int, name: str, card: int = 0, amount: int = 1_000) -> Row:
        """One transaction of a card."""
        inputs: dict[str, Any] = {kind: f"{kind}-{card:026d}" for kind in ("card", "terminal", "device", "ip")}
        inputs |= {"amount": amount, "currency": "EUR", "mcc": self.mcc, "country": "NL"}
        now = self.wall.now_ns()
        entities = tuple(inputs[kind].encode() for kind in FRAUD.entities)
        claim = f"fraud:{name}".encode()
        return Row(call, place, name, inputs, entities, claim, now, now, (None, 1.0), "anonymous", "")

    def submit(
        self, *names: str, card: int = 0, trace: Trace | None = None
    ) -> asyncio.Future[list[bytes] | Unanswered]:
        """One request with these transactions, of cards from `card` on."""
        future: asyncio.Future[list[bytes] | Unanswered] = asyncio.get_running_loop().create_future()

        def done(outcome: list[bytes] | Unanswered) -> None:
            self.told.append(f"answered with {len(self.recorder.records)} records")
            future.set_result(outcome)

        call = Call(len(names), done)
        call.trace = trace
        rows = [self.row(call, place, name, card + place) for place, name in enumerate(names)]
        try:
            self.pipeline.submit(rows)
        except Unanswered as why:
            call.fail(why)
        return future

    async def ask(self, *names: str, card: int = 0) -> list[dict[str, Any]]:
        """The predictions of one request that must be answered."""
        outcome = await asyncio.wait_for(self.submit(*names, card=card), 10)
        assert not isinstance(outcome, Unanswered), outcome
        return [msgspec.json.decode(each) for each in outcome]

    def close(self) -> None:
        """Let lanes end."""
        for route in self.pipeline.routes():
            route.close()


def totals(numbers: ArmCounts) -> dict[str, int]:
    """The sums of an arm's counts that are not 0."""
    found = {name: numbers.total(index) for index, name in enumerate(counts.COUNTS)}
    return {name: value for name, value in found.items() if value}


def play(scene: Callable[[OneWorker], Awaitable[None]], **options: Any) -> OneWorker:
    """Run a scene with a worker whose store is warm; nothing is under way when it returns."""
    worker = OneWorker(**options)

    async def work() -> None:
        await worker.warm()
        try:
            await scene(worker)
            await worker.pipeline.idle()
        finally:
            worker.close()

    asyncio.run(asyncio.wait_for(work(), 20))
    return worker
