"""How the supervisor makes a worker ready, with the worker's end of the conversation in the test's hands."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from interlock.apps.scorer.crew import Crew, Member
from interlock.base.clock import SystemClock
from interlock.base.errors import UnreachableError
from interlock.decision.admin import Frames
from interlock.decision.counts import WorkerCounts
from interlock.serving import fleet
from interlock.serving.messages import Answer, Report, Serve, Totals, frame, orders
from interlock.serving.options import ServingOptions


class Process:
    """A process that ends when the test says so."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        """Note the signal."""
        self.signals.append(number)


class Stage:
    """A crew with one starting worker."""

    def __init__(self) -> None:
        self.prepare = asyncio.Event()
        self.heard: list[Report] = []
        self.gone: list[Member] = []
        self.crew = Crew(
            ServingOptions(),
            SystemClock(),
            self._prepare,
            lambda member, report: self.heard.append(report),
            self.gone.append,
            lambda: "",
        )

    async def _prepare(self, member: Member) -> None:
        await self.prepare.wait()

    async def open(self) -> Stage:
        """Connect the two ends."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        self.reader, self.writer = await asyncio.open_connection(sock=theirs)
        now = SystemClock().monotonic_ns()
        process: Any = Process()
        self.member = Member(fleet.Worker("w", fleet.STARTING, now, now), process, writer)
        self.crew.members["w"] = self.member
        self.listening = asyncio.create_task(self.crew._listen(self.member, reader))
        self.rising = asyncio.create_task(self.crew._bring_up(self.member))
        return self

    async def order(self) -> Any:
        """The next order that the worker gets."""
        frames = Frames()
        while not (found := frames.feed(await self.reader.read(65_536))):
            pass
        return orders.decode(found[0])


def play(scene: Any) -> None:
    """Run a scene."""

    async def work() -> None:
        stage = await Stage().open()
        await asyncio.wait_for(scene(stage), 10)
        stage.writer.close()
        await stage.listening

    asyncio.run(work())


def test_a_change_waits_until_a_worker_that_is_being_prepared_serves() -> None:
    async def scene(stage: Stage) -> None:
        asked: list[list[Member]] = []

        async def change() -> None:
            async with stage.crew.changes:
                asked.append(stage.crew.serving)

        await asyncio.sleep(0)
        changing = asyncio.create_task(change())
        stage.prepare.set()
        order = await stage.order()
        assert isinstance(order, Serve)
        assert not asked
        stage.writer.write(frame(Answer(order.number)))
        await changing
        assert asked == [[stage.member]]

    play(scene)


def test_a_worker_that_is_told_to_stop_while_it_is_prepared_never_serves() -> None:
    async def scene(stage: Stage) -> None:
        await asyncio.sleep(0)
        stage.crew._event(stage.member, "stop")
        stage.prepare.set()
        await stage.rising
        assert stage.member.worker.state == fleet.LEAVING
        assert stage.crew.serving == []

    play(scene)


def test_whoever_waits_for_a_worker_that_ends_is_told_at_once() -> None:
    async def scene(stage: Stage) -> None:
        stage.prepare.set()
        order = await stage.order()
        stage.writer.write(frame(Answer(order.number)))
        await stage.rising
        waiting = asyncio.create_task(stage.crew.ask(stage.member, Serve, 60))
        await stage.order()
        stage.crew._stopping = True  # no replacement in this test
        stage.crew._ended(stage.member)
        found = (await asyncio.gather(waiting, return_exceptions=True))[0]
        assert isinstance(found, UnreachableError)
        assert stage.gone == [stage.member]
        assert stage.crew.members == {}

    play(scene)


def test_a_report_is_kept_and_keeps_a_worker_alive() -> None:
    async def scene(stage: Stage) -> None:
        before = stage.member.worker.heard_ns
        report = Report(WorkerCounts("w", "w"), {}, Totals({"200": 3}))
        stage.writer.write(frame(report))
        while stage.member.report is None:  # noqa: ASYNC110 - the crew tells nobody
            await asyncio.sleep(0)
        assert stage.heard == [report]
        assert stage.member.worker.heard_ns > before

    play(scene)
