"""A scoring worker: one process, one thread that matters, one event loop (uvloop).

Started by the supervisor as `python -m interlock.apps.scorer.worker` with inherited file
descriptors: the listener, the control socket, the fence, the line through which it gives its
connections away (`handover`), and the estate of the worker it replaces. It loads what it is told,
says so, and accepts when it is told to. SIGINT and SIGHUP are ignored (a terminal sends them to
everybody), SIGTERM and the end of the control socket begin the stop order of `http.Server`, an
order to hand over begins with giving. It owns its segment, its counts and its connections, and
nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop

from interlock.apps.scorer.birth import Inherited, born
from interlock.apps.scorer.front import Front
from interlock.apps.scorer.tracing import Tracing
from interlock.base.clock import NS_PER_S, Clock, SystemClock
from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.base.ids import SystemIds
from interlock.decision.admin import Denial, Failed, Frames, error_of, failed
from interlock.decision.counts import WorkerCounts
from interlock.features.definition import FeatureSet
from interlock.privacy.redact import configure_logging
from interlock.serving.catalogue import Admitted
from interlock.serving.fence import Fence
from interlock.serving.messages import (
    Answer,
    AskMetrics,
    AskVersion,
    DropVersion,
    HandOver,
    InstallTable,
    LoadModel,
    LoadVersion,
    MetricsText,
    Order,
    Report,
    Roll,
    Serve,
    Totals,
    UnloadModel,
    VersionSettled,
    Word,
    frame,
    orders,
)
from interlock.serving.ondemand import OnDemand, Ordered
from interlock.serving.pipeline import Pipeline
from interlock.serving.route import Route
from interlock.serving.score_cache import ScoreCache
from interlock.serving.surroundings import TALLIES, Surroundings
from interlock.settings import Settings, load
from interlock.wiring import scorer as rows

_log = logging.getLogger(__name__)
_SWEEP_S = 0.5
_LAST_WORDS_S = 1.0
_LOADERS = 4
"""A load that hangs must not stand before the next."""


class Worker:
    """The worker's state and its conversation with the supervisor."""

    def __init__(self, settings: Settings, name: str, sockets: Inherited, fence: int) -> None:
        self.pipelines: dict[str, Pipeline] = {}
        self._settings = settings
        self._name = name
        self._sockets = sockets
        self._clock: Clock = SystemClock()
        self._fence = Fence(fence, writable=False)
        self._ids = SystemIds()
        self._models = rows.repository(settings, self._clock)
        self._loaders = ThreadPoolExecutor(_LOADERS, "load")
        self._recorder = rows.recorder(settings, name, self._clock)
        self._edge = settings.clock.edge(self._clock)
        self._features = rows.online_features()
        self._denials: list[Denial] = []
        self._scores = ScoreCache(settings.scoring.score_cache) if settings.scoring.score_cache else None
        self._tracing = self._traces(settings)
        clocks = self._clock, self._edge
        self._front = Front(self, settings, self._features, clocks, self._ids, self._denials.extend, self._tracing)
        self.ondemand: OnDemand | None = None
        self._asked: dict[int, Callable[[str], None]] = {}
        self._ordered: dict[int, Ordered] = {}
        self._numbers = itertools.count(1)
        self._leave = asyncio.Event()
        self._has_heir = False
        self._orphaned = False
        self._writer: asyncio.StreamWriter | None = None
        self._around: Surroundings | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until told to leave."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave.set)
        for number in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, lambda: None)
        store = await rows.online_store(self._settings)
        self._around = Surroundings(
            store,
            self._recorder,
            self._fence,
            self._clock,
            self._edge,
            self._ids,
            self._settings.scoring,
            self._name.encode(),
            self._scores,
            self._tracing is not None,
        )
        self.ondemand = rows.on_demand(self._settings, self._around, self._loaders, self._order_version)
        reader, self._writer = await asyncio.open_connection(sock=self._sockets.control)
        listening = asyncio.create_task(self._listen(reader))
        reporting = asyncio.create_task(self._report())
        await self._leave.wait()
        if not self.ready():
            # All of us leave: keep accepting until those who route to this host have seen that ready says no.
            await asyncio.sleep(self._settings.scoring.lag_s)
        elif self._has_heir:
            _log.info("handing over to the successor")
            given = await self._front.hand_over(self._sockets.line)
            _log.info("gave %d connections to the successor", given)
        await self._front.stop(last=not self.ready())
        # A client may be gone before its decision is made: that is recorded and counted all the same.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.scoring.hang_s):
                for pipeline in self.pipelines.values():
                    await pipeline.idle()
                await self.ondemand.idle()
        self._recorder.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.sink.close, _LAST_WORDS_S)
        reporting.cancel()
        listening.cancel()
        self._send(self._state())
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._writer.wait_closed()
        await store.close()

    def ready(self) -> bool:
        """Whether traffic should come: the supervisor says so for all of its workers."""
        return self._fence.ready and not self._orphaned

    def metrics(self, give: Callable[[str], None]) -> None:
        """Ask the supervisor, who knows all workers."""
        number = len(self._asked) + 1
        while number in self._asked:
            number += 1
        self._asked[number] = give
        self._send(AskMetrics(number))

    # --- the supervisor's orders ---------------------------------------------------------------

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        frames = Frames()
        try:
            while data := await reader.read(65_536):
                for body in frames.feed(data):
                    order = orders.decode(body)
                    if isinstance(order, LoadModel):
                        self._spawn(self._load(order))
                    elif isinstance(order, LoadVersion):
                        self._spawn(self._load_version(order))
                    else:
                        self._obey(order)
        finally:
            self._orphaned = True
            self._leave.set()

    async def _load(self, order: LoadModel) -> None:
        await self._answered(order.number, self._load_model(order))

    async def _load_model(self, order: LoadModel) -> None:
        async with asyncio.timeout(self._settings.scoring.load_s):
            model = await asyncio.get_running_loop().run_in_executor(
                self._loaders, self._models.load, order.service, order.bundle, order.folder
            )
        if self._settings.scoring.mode == "tensors-only":
            return
        if FeatureSet.from_json(model.manifest["feature_set"]).set_hash != self._features.set_hash:
            self._models.release(order.bundle)
            raise RefusedError(
                "the model reads velocities that this scorer's store does not keep",
                "train it on the feature set of the store, or run a scorer for it",
            )

    async def _load_version(self, order: LoadVersion) -> None:
        if self.ondemand is not None:
            await self._answered(order.number, self.ondemand.load(order.admitted))

    async def _answered(self, number: int, loading: Coroutine[Any, Any, None]) -> None:
        try:
            await loading
        except InterlockError as error:
            self._send(Answer(number, failed(error)))
        except Exception as error:  # whatever the runtime raises is a refusal of this bundle
            _log.exception("a bundle could not be loaded")
            why = f"the bundle could not be loaded ({type(error).__name__})"
            self._send(Answer(number, Failed("refused", why, "read run/scorer.log")))
        else:
            self._send(Answer(number))

    def _order_version(self, admitted: Admitted, ordered: Ordered, drop: bool) -> None:
        """Ask the supervisor for a version, or to have it dropped, in all workers."""
        number = next(self._numbers)
        self._ordered[number] = ordered
        self._send(AskVersion(number, admitted, drop))

    def _obey(self, order: Order) -> None:
        try:
            if isinstance(order, MetricsText | VersionSettled):
                self._told(order)
                return
            _ORDERS[type(order)](self, order)
            self._send(Answer(order.number))
        except InterlockError as error:
            self._send(Answer(order.number, failed(error)))
        except Exception as error:  # the next order must be heard all the same
            _log.exception("an order could not be carried out")
            why = f"the worker failed ({type(error).__name__})"
            self._send(Answer(order.number, Failed("unreachable", why, "read run/scorer.log, then try again")))

    def _told(self, answer: MetricsText | VersionSettled) -> None:
        if isinstance(answer, MetricsText):
            if (give := self._asked.pop(answer.number, None)) is not None:
                give(answer.text)
        elif (ordered := self._ordered.pop(answer.number, None)) is not None:
            ordered(None if answer.failure is None else error_of(answer.failure))

    def _unload(self, order: UnloadModel) -> None:
        self._models.release(order.bundle)

    def _drop_version(self, order: DropVersion) -> None:
        if self.ondemand is not None:
            self.ondemand.drop(order.admitted.service, order.admitted.version)

    def _roll(self, order: Roll) -> None:
        self._recorder.roll()

    def _begin(self, order: Serve) -> None:
        self._spawn(self._serve())

    def _hand_over(self, order: HandOver) -> None:
        self._has_heir = True
        self._leave.set()

    async def _serve(self) -> None:
        await self._front.serve(self._sockets.listener, self._sockets.grpc, self._sockets.estate)

    def _install(self, order: InstallTable) -> None:
        if self._around is None:
            raise UsageError("a table before the worker is up", "this is a defect: report it")
        service = order.table.service
        if service in self.pipelines and self.pipelines[service].routes()[-1].table == order.table:
            return  # A repeated order (a controller that resumed): the route's counters go on.
        apart = self._settings.scoring.mode == "features-only"
        route = Route(order.table, order.slot, self._models.get, self._clock, apart)
        if service not in self.pipelines:
            self.pipelines[service] = Pipeline(service, self._around)
        self.pipelines[service].install(route)

    # --- reports -------------------------------------------------------------------------------

    async def _report(self) -> None:
        swept = 0.0
        loop = asyncio.get_running_loop()
        while True:
            self._send(self._state())
            if loop.time() - swept > _SWEEP_S:
                swept = loop.time()
                self._front.sweep()
            await asyncio.sleep(self._settings.scoring.report_ms / 1000)

    def _state(self) -> Report:
        arms: dict[str, bytes] = {}
        shadows: dict[str, bytes] = {}
        hung = False
        now = self._clock.monotonic_ns()
        for pipeline in self.pipelines.values():
            for route in pipeline.routes():
                packed, beside = route.packed()
                arms |= packed
                shadows |= beside
                since = route.hung_since()
                hung |= bool(since) and now - since > self._settings.scoring.hang_s * NS_PER_S
        every = self.pipelines.values()
        tallies = [each.tallies for each in every]
        wall, apart = self._clock.now_ns(), 0
        ages = [each.age_ns(wall) for each in every]
        if self.ondemand is not None:
            tallies.append(self.ondemand.tallies)
            apart = self.ondemand.queued
            ages.append(self.ondemand.age_ns(wall))
        denials, self._denials[:] = self._denials[:], []
        totals = Totals(
            self._front.responses,
            self._front.latency,
            self._front.latency_sum,
            denied=self._front.denials,
            score_cache_hits=self._scores.hits if self._scores is not None else 0,
            spans_dropped=self._tracing.sink.dropped if self._tracing is not None else 0,
            cpu_seconds=sum(os.times()[:2]),
            **{name: sum(getattr(each, name) for each in tallies) for name in TALLIES},
        )
        return Report(
            WorkerCounts(self._name, self._name, arms, shadows),
            {name: pipeline.oldest() for name, pipeline in self.pipelines.items()},
            totals,
            sum(each.queued for each in every) + apart,
            self._front.connections,
            hung,
            any(each.degraded for each in every),
            denials,
            self._front.inflight,
            max(ages, default=0) / NS_PER_S,
        )

    def _traces(self, settings: Settings) -> Tracing | None:
        sink = rows.span_sink(settings, self._name)
        return None if sink is None else Tracing(sink, settings.scoring.trace_ratio, self._ids, self._clock)

    def _send(self, word: Word) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frame(word))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_ORDERS: Mapping[type, Callable[[Worker, Any], None]] = {
    InstallTable: Worker._install,
    UnloadModel: Worker._unload,
    DropVersion: Worker._drop_version,
    Roll: Worker._roll,
    Serve: Worker._begin,
    HandOver: Worker._hand_over,
}
"""What is carried out at once; loading takes its time, and answers are no orders."""


def main() -> None:
    """The worker's process."""
    name, sockets, fence = born()
    configure_logging(f"worker {name}")
    # Whoever waits for the interpreter, an arm's thread or the loop behind one that loads a model, has it within
    # this time (Python's default is 5 ms). No thread here is niced: one that holds the interpreter and is not
    # scheduled would keep it from all others.
    sys.setswitchinterval(0.0002)
    # What is loaded by now stays: the collector need not look at it again, nor at every few hundred requests.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

    async def work() -> None:
        await Worker(load(), name, sockets, fence).run()

    uvloop.run(work())
    # A model call that hangs must not be torn down while it runs: everything is closed, so just end.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
