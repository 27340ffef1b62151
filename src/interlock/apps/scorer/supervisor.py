"""The supervisor: PID 1 of a scorer. Opens the listener, keeps workers, routes and latches.

Contract. It decides nothing about transactions. A retreat is in the fence before anything else
happens, and on the disk before `Done`; it needs no worker. A table is acknowledged when every
serving worker routes by it. When the lease of an unsettled table lapses, or its candidate passes a
ceiling, the supervisor goes back by itself. SIGHUP replaces the workers one by one (an upgrade),
unless a terminal is attached, whose end it then is. All state changes happen on its one event
loop; `Crew.changes` orders those that wait for workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from interlock.apps.scorer import shelf
from interlock.apps.scorer.admin import AdminDoor
from interlock.apps.scorer.ceiling import Ceiling
from interlock.apps.scorer.crew import Crew, Member
from interlock.apps.scorer.denials import Denials
from interlock.apps.scorer.gate import begin_limits, prepare
from interlock.apps.scorer.listening import doorways
from interlock.apps.scorer.tally import Tally
from interlock.apps.scorer.trial import COMMAND
from interlock.apps.scorer.versions import Versions
from interlock.base.clock import NS_PER_S, SystemClock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.base.ids import SystemIds, uuid7
from interlock.decision import sealing
from interlock.decision.admin import Latch, Observed, ServiceState
from interlock.decision.table import BUCKETS, CHAMPION, RouteTable
from interlock.privacy.redact import configure_logging
from interlock.serving import fence as fences
from interlock.serving.messages import InstallTable, LoadModel, Report, Roll, UnloadModel
from interlock.serving.trial import Limits, Trials
from interlock.settings import Endpoint, Settings, publish_endpoint
from interlock.wiring import scorer as rows

_log = logging.getLogger(__name__)
_BEAT_S = 0.1
_ORDER_S = 10.0
_ENDPOINTS: tuple[Endpoint, ...] = ("scoring", "grpc", "admin")


class Supervisor:
    """One scorer of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = settings.scoring
        self._clock = SystemClock()
        self._ids = SystemIds()
        self._began_ns = self._clock.now_ns()
        self._handle = fences.create()
        self._fence = fences.Fence(self._handle, writable=True)
        self._folder: Path = settings.places.tables
        self._services = shelf.read(self._folder)
        self._wanted: dict[str, tuple[str, str]] = {}
        self._loaded: set[str] = set()
        self._crew = Crew(self._options, self._clock, self._prepare, self._heard, self._gone, self.page)
        self._checks = rows.repository(settings, self._clock)
        limits = Limits(self._options.trial_s, int(self._options.trial_s), self._options.trial_mb)
        self._trials = Trials(COMMAND, limits)
        on_demand = Versions(self._crew, self._checks, self._trials, settings)
        self._crew.settle_version = on_demand.settle
        self._ceiling = Ceiling(self._options)
        self._tally = Tally(self._options.cpu_hour_price)
        self._denials = Denials()
        self._unready: set[str] = set()
        self._stop = asyncio.Event()
        for name, service in self._services.items():
            if service.table is not None:
                self._tally.remember(service.table)
                self._wanted |= shelf.bundles(service.table)
            self._fence.set_latch(service.slot, service.latch is not None)
            self._lease(name)  # from now: the lease of before is not known, and one lease more is the price

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._stop.set if os.isatty(0) else self._upgrade)
        for folder in (self._settings.places.segments, self._settings.places.run, self._folder):
            folder.mkdir(parents=True, exist_ok=True)
        prepare(self._settings)
        listener, grpc = doorways(self._options)
        door = AdminDoor(self)
        await door.open(self._settings.places.admin_socket)
        begin_limits(self._settings)
        await self._crew.start(listener, grpc, self._handle)
        self._publish(listener, grpc)
        publish_endpoint(self._settings.home, "admin", str(self._settings.places.admin_socket))
        beats = [asyncio.create_task(self._beat()), asyncio.create_task(self._seal_regularly())]
        await self._trials.prewarm()
        await self._stop.wait()
        _log.info("leaving")
        self._fence.set_ready(False)
        # Workers hold the socket too: closing ours (never shutdown) lets it end with the last of them.
        listener.close()
        if grpc is not None:
            grpc.close()
        for beat in beats:
            beat.cancel()
        await self._crew.stop()
        await door.close()
        await self._trials.close()
        await asyncio.to_thread(sealing.sweep, self._settings.places.segments)
        for name in _ENDPOINTS:
            publish_endpoint(self._settings.home, name, None)

    def _publish(self, listener: socket.socket, grpc: socket.socket | None) -> None:
        host, port = listener.getsockname()[:2]
        scheme = "http" if self._options.tls_cert is None else "https"
        publish_endpoint(self._settings.home, "scoring", f"{scheme}://{host}:{port}")
        publish_endpoint(self._settings.home, "grpc", None if grpc is None else f"{host}:{grpc.getsockname()[1]}")

    # --- what the admin door asks for -----------------------------------------------------------

    async def replace(self, worker: str | None) -> None:
        """Replace a worker, or all, by processes that take over their connections."""
        self._trials.forget()  # the programs on the disk may be new ones
        self._trials.renew()
        await self._crew.replace(worker)

    async def load(self, service: str, bundle: str, folder: str) -> tuple[dict[str, Any], int]:
        """Try, then load in every worker; (trial report, workers)."""
        await asyncio.to_thread(self._checks.check, service, bundle, folder)
        try:
            tried = None if bundle in self._loaded else await self._trials.run(self._settings.places.bundles, bundle)
            report = {} if tried is None else tried.flat()
            return report, await self._load_everywhere(service, bundle, folder)
        finally:  # not while workers load, who would wait for its imports; and after a refusal too
            self._trials.renew()

    async def _load_everywhere(self, service: str, bundle: str, folder: str) -> int:
        async with self._crew.changes:
            self._wanted[bundle] = service, folder
        try:
            workers = await self._crew.ask_all(_load(service, bundle, folder), self._options.load_s + 1, heavy=True)
        except BaseException:
            if bundle not in self._loaded:
                await self._forget(bundle)
            raise
        self._loaded.add(bundle)
        return workers

    async def install(self, table: RouteTable) -> int:
        """Route by a table in every worker; the number of workers."""
        table.validate()
        async with self._crew.changes:
            service = self._service(table.service)
            self._refuse_older(service.table, table)
            if not table.bundles <= self._loaded:
                raise RefusedError("a version of the table is not loaded", "load it before it is routed to")
            place = fences.place(*table.order)
            shelf.write_table(self._folder, table)
            self._tally.remember(table)
            service.table = table
            if table.lease_s is not None:
                self._lease(table.service)  # from receipt, not from the last worker's answer
            workers = await self._crew.ask_all(lambda number: InstallTable(number, service.slot, table), _ORDER_S)
            # Every worker that lives has it. One that comes back with an older table meets the floor.
            self._fence.set_floor(service.slot, place)
            latch = service.latch
            if latch is not None and table.clears == latch.id and table.epoch > latch.epoch:
                shelf.write_latch(self._folder, table.service, None)
                service.latch = None
                self._fence.set_latch(service.slot, False)
            self._lease(table.service)
            self._unready.discard(table.service)
        return workers

    async def unload(self, bundle: str) -> None:
        """Forget a bundle in every worker."""
        async with self._crew.changes:
            for name, service in self._services.items():
                if service.table is not None and bundle in service.table.bundles:
                    raise RefusedError(f"the table of {name} still names it", "install another table first")
            await self._forget(bundle)

    async def _forget(self, bundle: str) -> None:
        self._wanted.pop(bundle, None)
        self._loaded.discard(bundle)
        if self._crew.serving:
            await self._crew.ask_all(lambda number: UnloadModel(number, bundle), _ORDER_S)

    def retreat(self, name: str, latch: str, reason: str, actor: str, at_ns: int) -> None:
        """Set the latch: the fence first, then the disk; idempotent, also after a disk that refused.

        Raises:
            UnreachableError: it holds now, but would not survive a restart.
        """
        service = self._service(name)
        self._fence.set_latch(service.slot, True)
        if service.latch is not None:
            return
        epoch, generation = service.table.order if service.table else (0, 0)
        held = Latch(latch, reason, actor, at_ns, epoch, generation)
        try:
            shelf.write_latch(self._folder, name, held)
        except OSError as error:
            raise UnreachableError(
                "the retreat holds, but could not be written", "repair the disk under tables/, then retreat again"
            ) from error
        service.latch = held  # Not before it is durable: whoever asks again after a failure must not hear `Done`.
        _log.warning("%s retreated: %s (%s)", name, reason, actor)

    def renew(self, name: str, epoch: int, generation: int) -> None:
        """Extend the lease of the table in force."""
        service = self._services.get(name)
        if service is None or service.table is None or service.table.order != (epoch, generation):
            raise RefusedError("another table rules", "observe first")
        self._lease(name)

    def observe(self, name: str | None, seals_after: int, counted: bool) -> Observed:
        """States, and with `counted` counts and seals."""
        serving = self._crew.serving
        reports = [member.report for member in serving if member.report is not None]
        states = {each: self._state(each, reports) for each in self._services if name is None or name == each}
        if not counted:
            return Observed(len(serving), states, began_ns=self._began_ns)
        seals, numbers = sealing.seals(self._settings.places.segments, seals_after), [each.counts for each in reports]
        return Observed(len(serving), states, numbers, seals, self._denials.newest(), self._began_ns)

    async def seal(self) -> None:
        """Close and seal every segment that has records."""
        if self._crew.serving:
            await self._crew.ask_all(Roll, _ORDER_S)
        done = await asyncio.to_thread(sealing.sweep, self._settings.places.segments)
        for name in done.orphans:
            _log.warning("sealed segment %s, whose writer had ended", name)
        for name in done.broken:
            _log.error("segment %s has no whole header and was set aside", name)

    def page(self) -> str:
        """The metrics of all workers."""
        live = [member.report for member in self._crew.members.values() if member.report is not None]
        retreated = sum(service.latch is not None for service in self._services.values())
        return self._tally.page(
            live, {"workers": float(len(self._crew.serving)), "retreated_services": float(retreated)}
        )

    # --- workers ------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        self._trials.forget()
        self._crew.upgrade()
        self._trials.renew()

    async def _prepare(self, member: Member) -> None:
        """Give a new worker everything that is loaded and routed; the crew holds `changes`.

        Raises:
            InterlockError: it cannot have what others serve, and so must not take their traffic.
        """
        beside = shelf.beside(self._services.values())
        for bundle, (service, folder) in sorted(self._wanted.items(), key=lambda each: each[0] in beside):
            try:
                await self._crew.ask(member, _load(service, bundle, folder), self._options.load_s + 1)
                self._loaded.add(bundle)
            except InterlockError as error:
                if bundle in beside:
                    self._wanted.pop(bundle, None)  # no worker after this one meets it
                if isinstance(error, UnreachableError) or (self._crew.serving and bundle not in beside):
                    raise
                # The first worker after a restart: what else is routed can be served all the same.
                _log.exception("a bundle of %s cannot be loaded", service)
        lost = frozenset(bundle for bundle in beside if bundle not in self._wanted or bundle not in self._loaded)
        for name, each in self._services.items():
            table = self._routable(name, None if each.table is None else each.table.without(lost))
            if table is not None:
                await self._crew.ask(member, _install(each.slot, table), _ORDER_S)
                self._unready.discard(name)
            elif each.table is not None:
                self._unready.add(name)

    def _routable(self, name: str, table: RouteTable | None) -> RouteTable | None:
        """The table, or what can be served of it when a version cannot be loaded: the champion alone."""
        if table is None or table.bundles <= self._loaded:
            return table
        champion = table.arm(CHAMPION)
        if champion is None or champion.bundle not in self._loaded:
            return None
        self._go_back(name, "a version that takes part in the rollout cannot be loaded")
        alone = msgspec.structs.replace(champion, ranges=((0, BUCKETS),))
        return msgspec.structs.replace(table, arms=(alone,), shadows=())

    def _heard(self, member: Member, report: Report) -> None:
        self._denials.add(report.denials, self._clock.now_ns())
        self._tally.add(member.report, report, self._clock.monotonic_ns())

    def _gone(self, member: Member) -> None:
        if member.report is not None:
            self._tally.retire(member.report)

    async def _beat(self) -> None:
        while True:
            try:
                self._crew.check()
                self._fence.set_ready(self._is_ready())
                self._watch(self._clock.monotonic_ns())
            except Exception:  # a full disk, say: the next beat must come all the same
                _log.exception("a beat failed")
            await asyncio.sleep(_BEAT_S)

    def _watch(self, now: int) -> None:
        """Go back where a lease lapsed or a candidate is over a ceiling."""
        for name, service in self._services.items():
            deadline = self._fence.deadline(service.slot)
            if deadline and now >= deadline and service.latch is None:
                self._go_back(name, "the lease of the rollout lapsed")
        live = [member.report.counts for member in self._crew.serving if member.report is not None]
        for name, reason in self._ceiling.look(now, live):
            held = self._services.get(name)
            if held is not None and held.table is not None and not held.table.settled:
                self._go_back(name, reason)

    async def _seal_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._options.seal_s)
            try:
                await self.seal()
            except (OSError, UnreachableError):
                _log.exception("segments could not be sealed; trying again")

    def _go_back(self, name: str, reason: str) -> None:
        now = self._clock.now_ns()
        self.retreat(name, uuid7(now, self._ids.random(10)), reason, "supervisor", now)

    def _is_ready(self) -> bool:
        routed = [name for name, service in self._services.items() if service.table is not None]
        return bool(routed) and bool(self._crew.serving) and not self._unready.intersection(routed)

    # --- small things ---------------------------------------------------------------------------

    def _service(self, name: str) -> shelf.Service:
        if name not in self._services:
            self._services[name] = shelf.Service(len(self._services))
        return self._services[name]

    def _lease(self, name: str) -> None:
        service = self._services[name]
        lease_s = service.table.lease_s if service.table else None
        deadline = 0 if lease_s is None else self._clock.monotonic_ns() + int(lease_s * NS_PER_S)
        self._fence.set_deadline(service.slot, deadline)

    def _state(self, name: str, reports: list[Report]) -> ServiceState:
        service = self._services[name]
        table = service.table
        oldest = [report.oldest[name] for report in reports if name in report.oldest]
        deadline = self._fence.deadline(service.slot)
        left = None if not deadline else max(0.0, (deadline - self._clock.monotonic_ns()) / NS_PER_S)
        return ServiceState(
            generation=table.generation if table else 0,
            epoch=table.epoch if table else 0,
            oldest_generation=min(oldest, default=0),
            latch=service.latch,
            lease_left_s=left,
            loaded=sorted(self._loaded),
            table=table,
        )

    @staticmethod
    def _refuse_older(current: RouteTable | None, table: RouteTable) -> None:
        if current is None:
            return
        if table.order < current.order:
            raise RefusedError("a table of an older epoch or generation", "observe what is installed first")
        if table.order == current.order and table != current:
            raise RefusedError("another table has this epoch and generation", "observe what is installed first")


def _load(service: str, bundle: str, folder: str) -> Callable[[int], LoadModel]:
    return lambda number: LoadModel(number, service, bundle, folder)


def _install(slot: int, table: RouteTable) -> Callable[[int], InstallTable]:
    return lambda number: InstallTable(number, slot, table)


def serve(settings: Settings) -> None:
    """The supervisor's process, until it is told to stop."""
    configure_logging("scorer")

    async def work() -> None:
        await Supervisor(settings).run()

    uvloop.run(work())
