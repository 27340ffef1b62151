"""One service in one worker: from parsed transactions to replies, a tick at a time.

Contract. There is no artificial wait: what arrives while a tick runs forms the next one. Per tick
there is one trip to the store (claim, read, record), one call per arm, one write of the decision
records, one trip that stores the replies (both once per arm while a rollout is unsettled, so that
no arm waits for the other); only then are replies given out. A transaction that was
answered before gets the same bytes again; one that another attempt holds waits for it. When the
store does not answer in its budget the service's fallback decides, and says so. A request keeps
the route it began with. Everything here runs on one event loop; only model calls leave it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.base.errors import UnreachableError
from interlock.features.online import ANSWERED, DAMAGED, HELD, RESUMED, TripRequest, TripResult
from interlock.serving import trace
from interlock.serving.call import Unanswered
from interlock.serving.route import Route, Side
from interlock.serving.surroundings import Surroundings, Tallies
from interlock.serving.tick import Made, Row, Share, Tick

_log = logging.getLogger(__name__)
_REPORTED_S = 5
"""How long the last counts of a drained route stay in the reports."""


class Pipeline:
    """One service's queue and ticks."""

    def __init__(self, service: str, around: Surroundings) -> None:
        self.service = service
        self.tallies = Tallies()
        self.degraded = False
        self._around = around
        self._urgent: deque[Row] = deque()
        self._batch: deque[Row] = deque()
        self._route: Route | None = None
        self._old: list[Route] = []
        self._drained: list[tuple[int, Route]] = []
        self._running = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def route(self) -> Route | None:
        """The route of new requests."""
        return self._route

    @property
    def queued(self) -> int:
        """Transactions waiting for a tick."""
        return len(self._urgent) + len(self._batch)

    @property
    def answers(self) -> bool:
        """Whether a model of this service decides what is submitted now, and not its fallback."""
        route = self._route
        if route is None or not route.sides:
            return False
        return route.champion is not None or not self._retreated(route)

    @property
    def retreated(self) -> bool:
        """Whether the champion alone may answer now."""
        return self._route is not None and self._retreated(self._route)

    def age_ns(self, now_ns: int) -> int:
        """How long, by the wall clock, the first of those that wait has been here; 0 when none waits."""
        return max([0, *(now_ns - queue[0].received_ns for queue in (self._urgent, self._batch) if queue)])

    def install(self, route: Route) -> None:
        """Route by this from the next tick on."""
        if self._route is not None:
            self._old.append(self._route)
        self._route = route
        self._drop_drained()

    async def idle(self) -> None:
        """Wait until nothing is under way: queued, deciding, or scored beside."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def routes(self) -> list[Route]:
        """Every route whose counts are reported, oldest first: in use, or drained a moment ago."""
        now = self._around.clock.monotonic_ns()
        self._drained = [(since, route) for since, route in self._drained if now - since < _REPORTED_S * NS_PER_S]
        return [*(route for _, route in self._drained), *self._old, *([self._route] if self._route else [])]

    def oldest(self) -> int:
        """The oldest generation that something in flight refers to."""
        self._drop_drained()
        used = [*self._old, *([self._route] if self._route else [])]
        return min((route.table.generation for route in used), default=0)

    def require_room(self, count: int, urgent: bool) -> None:
        """See that so many transactions can be queued now.

        Raises:
            Unanswered: the queue is full, or the service has no route.
        """
        if self._route is None:
            raise Unanswered(503, f"service {self.service} is not ready", 1)
        # Batch work may fill half of the queue: there is room for an authorisation whatever else waits.
        room = self._around.options.queue if urgent else self._around.options.queue // 2
        if self.queued + count > room:
            self.tallies.shed += count
            raise Unanswered(429, "too many transactions are waiting", 1)

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue the transactions of one request.

        Raises:
            Unanswered: as `require_room`.
        """
        urgent = rows[0].call.urgent
        self.require_room(len(rows), urgent)
        (self._urgent if urgent else self._batch).extend(rows)
        if not self._running:
            self._running = True
            self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._urgent or self._batch:
                rows = self._take()
                await self._guarded(self._tick, [row for row in rows if row.vector is None])
                await self._guarded(self._tick_given, [row for row in rows if row.vector is not None])
        finally:
            self._running = False

    async def _guarded(self, tick: Callable[[list[Row]], Awaitable[None]], rows: list[Row]) -> None:
        if not rows:
            return
        try:
            await tick(rows)
        except Exception:  # a defect must cost this tick's requests, not the worker's loop
            _log.exception("a tick failed")
            for row in rows:
                row.call.fail(Unanswered(500, "internal error", 0))

    def _take(self) -> list[Row]:
        """The next tick's rows: urgent ones first, and none that nobody waits for any more."""
        rows: list[Row] = []
        now = self._around.clock.monotonic_ns()
        for queue in (self._urgent, self._batch):
            while queue and len(rows) < self._around.options.batch:
                row = queue.popleft()
                deadline = row.call.deadline_ns
                if deadline and now >= deadline:
                    self.tallies.expired += 1
                    row.call.fail(Unanswered(504, "the caller's deadline passed before its turn", 0))
                else:
                    rows.append(row)
        return rows

    async def _tick(self, rows: list[Row]) -> None:
        route, around = self._route, self._around
        if route is None:
            raise UnreachableError("no route", "install a table")
        route.in_flight += 1
        try:
            tick = Tick(route, around.options, around.clock, around.ids, around.scores, around.traced)
            started = around.clock.monotonic_ns() if around.traced else 0
            results = await self._trip(rows)
            if around.traced:
                self._note(rows, trace.STORE, started, results is None)
            if results is None:
                await self._give_out(tick, [tick.fall_back(row, None) for row in rows])
                return
            fresh, damaged = self._sort(rows, results)
            # Read last: a worker that was stalled in the trip must see a retreat made meanwhile.
            retreated = self._retreated(route)
            made = [tick.fall_back(row, result) for row, result in damaged]
            shares: list[Share] = []
            if fresh:
                shares, alone = tick.split(fresh, retreated)
                made += alone
            await self._decide(tick, shares, made)
        finally:
            route.in_flight -= 1

    async def _tick_given(self, rows: list[Row]) -> None:
        """A tick of vectors that the callers gave: nothing is claimed, read or recorded in the store."""
        route, around = self._route, self._around
        if route is None:
            raise UnreachableError("no route", "install a table")
        route.in_flight += 1
        try:
            tick = Tick(route, around.options, around.clock, around.ids, around.scores, around.traced)
            width = 4 * route.sides[0].model.width if route.sides else 0
            fitting: list[Row] = []
            for row in rows:
                if row.vector is not None and len(row.vector) == width:
                    fitting.append(row)
                else:
                    row.call.fail(Unanswered(503, "another model serves now, which takes other inputs", 1))
            if fitting:
                shares, made = tick.split_given(fitting, self._retreated(route))
                await self._decide(tick, shares, made)
        finally:
            route.in_flight -= 1

    def _retreated(self, route: Route) -> bool:
        return self._around.fence.retreated(route.slot, self._around.clock.monotonic_ns(), route.order)

    async def _decide(self, tick: Tick, shares: list[Share], made: list[Made]) -> None:
        """Call the arms: here and now, or each on its lane while they are compared."""
        if (tick.route.table.settled or tick.retreated) and not tick.route.apart:
            for share in shares:
                made += tick.inline(share)
            await self._give_out(tick, made)
        else:
            await self._give_out(tick, made)
            await self._compared(tick, shares)

    async def _compared(self, tick: Tick, shares: list[Share]) -> None:
        """Each arm on its own lane, each given out when it is done: a slow candidate delays nobody else.

        The champion is waited for, so that what arrives meanwhile forms the next tick.
        """
        champion = None
        for share in shares:
            if share.side is tick.route.champion:
                champion = share
            else:
                tick.route.in_flight += 1
                self._spawn(self._aside(tick, share))
        if champion is not None:
            await self._give_out(tick, await tick.on_lane(champion))

    async def _aside(self, tick: Tick, share: Share) -> None:
        try:
            await self._give_out(tick, await tick.on_lane(share))
        except Exception:  # as in `_work`: a defect must cost these requests, not more
            _log.exception("a share of a tick failed")
            for row in tick.rows_of(share):
                row.call.fail(Unanswered(500, "internal error", 0))
        finally:
            tick.route.in_flight -= 1

    async def _trip(self, rows: list[Row]) -> list[TripResult] | None:
        holder = self._around.holder
        requests = [
            TripRequest(row.claim, holder, row.entities, row.edge_ns // NS_PER_MS, row.inputs["amount"]) for row in rows
        ]
        try:
            results = await self._around.store.trip(requests)
        except UnreachableError as error:
            self.tallies.store_failures += 1
            if not self.degraded:
                _log.warning("the online store is away, answering degraded: %s", error)
            self.degraded = True
            return None
        if self.degraded:
            _log.warning("the online store answers again")
        self.degraded = False
        return results

    def _sort(
        self, rows: list[Row], results: list[TripResult]
    ) -> tuple[list[tuple[Row, TripResult]], list[tuple[Row, TripResult]]]:
        """Answer what needs no decision; return what a model can decide, and what it cannot."""
        fresh, damaged = [], []
        for row, result in zip(rows, results, strict=True):
            if result.status == ANSWERED and result.reply is not None:
                self.tallies.repeated += 1
                row.call.answer(row.place, result.reply)
            elif result.status == HELD:
                self._wait(row, result.retry_ms)
            elif result.status == DAMAGED:
                damaged.append((row, result))
            else:
                row.resumed = result.status == RESUMED
                fresh.append((row, result))
        return fresh, damaged

    def _wait(self, row: Row, retry_ms: int) -> None:
        """A duplicate waits for the attempt that holds it, then asks again."""
        around = self._around
        waited_ns = around.clock.now_ns() - row.received_ns
        if waited_ns > around.options.held_s * NS_PER_S:
            row.call.fail(Unanswered(503, "another attempt of this transaction is under way", 1))
            return
        self.tallies.held += 1

        def again() -> None:
            try:
                self.submit([row])
            except Unanswered as why:
                row.call.fail(why)

        asyncio.get_running_loop().call_later(min(max(retry_ms, 1), 20) / 1000, again)

    async def _give_out(self, tick: Tick, made: list[Made]) -> None:
        """Record, store the replies, then send them; shadows come after."""
        if not made:
            return
        started = self._around.clock.monotonic_ns() if self._around.traced else 0
        if not self._record(made):
            return
        claimed = [each for each in made if each.claimed]
        if claimed:
            await self._store(claimed)
        if self._around.traced:
            self._note([each.row for each in made], trace.RECORD, started)
            trace.decided((each.row.call, each.record) for each in made if not each.superseded)
        for each in made:
            self.tallies.pinned += bool(each.row.pinned)
            if not each.superseded:
                each.row.call.version = each.record.version
            each.row.call.answer(each.row.place, each.reply or each.record)
        tick.count(made)
        if tick.route.shadows and not tick.retreated:
            for side in tick.route.shadows:
                tick.route.in_flight += 1
                self._spawn(self._beside(tick, side, made))

    def _record(self, made: list[Made]) -> bool:
        """Write the decisions; False: they cannot be, and so nobody is answered."""
        try:
            self._around.recorder.append([each.record for each in made])
        except UnreachableError as error:
            _log.error("decisions cannot be recorded: %s", error)
            if self._around.options.unwritable == "stop":
                for each in made:
                    each.row.call.fail(Unanswered(503, "decisions cannot be recorded", 5))
                return False
            self.tallies.unrecorded += len(made)
        return True

    def _note(self, rows: list[Row], name: str, started: int, failed: bool = False) -> None:
        """A step of the traced requests in a tick, from then until now."""
        times = started, self._around.clock.monotonic_ns()
        trace.step((row.call for row in rows), name, times, {"interlock.batch": len(rows)}, failed)

    async def _store(self, claimed: list[Made]) -> None:
        try:
            first = await self._around.store.store_replies([(each.row.claim, each.reply) for each in claimed])
        except UnreachableError as error:
            # The decision stands and is recorded; a duplicate after a store loss is found by the shipper.
            self.tallies.store_failures += 1
            _log.warning("replies could not be stored: %s", error)
            return
        for each, earlier in zip(claimed, first, strict=True):
            if earlier is not None:
                each.reply, each.superseded = earlier, True

    async def _beside(self, tick: Tick, side: Side, made: list[Made]) -> None:
        try:
            await tick.compare(side, made)
        except Exception:  # a shadow's failure is its own
            _log.exception("a shadow could not be compared")
            side.shadow.errors += len(made)
        finally:
            tick.route.in_flight -= 1

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drop_drained(self) -> None:
        kept = []
        for route in self._old:
            if route.in_flight:
                kept.append(route)
            else:
                route.close()
                self._drained.append((self._around.clock.monotonic_ns(), route))
        self._old = kept
