"""The supervisor's workers: starts them by exec, talks to them, replaces the crashed, hung and silent.

Who should live is decided by the table in `serving.fleet`; this file carries it out. A replacement
is loaded and ready before it accepts; a worker that ended is replaced at once; one whose model call
hangs, or that is replaced on purpose, serves on until its successor is ready and then hands over.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from interlock.apps.scorer import handover
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.decision.admin import Frames, error_of
from interlock.serving import fleet
from interlock.serving.messages import (
    Answer,
    AskMetrics,
    AskVersion,
    HandOver,
    MetricsText,
    Order,
    Report,
    Serve,
    Word,
    frame,
    words,
)
from interlock.serving.options import ServingOptions

_log = logging.getLogger(__name__)
_PAUSE_S = 0.5
"""Before a worker that could not start is started again, so that it does not spin."""
_SPARE_S = 3.0
"""Beyond the sum of the limits that a leaving worker keeps."""
_OWN_STALL_NS = NS_PER_S
_LAST_WORDS_S = 5.0
"""How long the last reports of an ended worker are read."""


@dataclass
class Member:
    """One worker process and the conversation with it."""

    worker: fleet.Worker
    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    estate: socket.socket | None = None
    """For its successor to inherit, who takes its idle connections there (`handover`)."""
    predecessor: Member | None = None
    """Who may leave when this one is ready."""
    waiting: dict[int, asyncio.Future[Answer]] = field(default_factory=dict)
    report: Report | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes requests."""
        return self.worker.serves


class Crew:
    """All workers.

    Args:
        options: how many, and how patient.
        clock: for silence.
        prepare: loads and routes what a new worker needs before it is ready.
        heard: told of every report, with what the worker had reported before.
        gone: told once that a worker has ended and everything it said has been heard.
        page: the metrics page.

    Attributes:
        settle_version: carries out what a worker asks for about an admitted version.
        changes: held while a worker is made ready, so that a change that waits for the serving
            workers can miss none: a worker is ready before the change, or is prepared after it.
    """

    def __init__(
        self,
        options: ServingOptions,
        clock: Clock,
        prepare: Callable[[Member], Awaitable[None]],
        heard: Callable[[Member, Report], None],
        gone: Callable[[Member], None],
        page: Callable[[], str],
    ) -> None:
        self.members: dict[str, Member] = {}
        self.changes = asyncio.Lock()
        self.settle_version: Callable[[Member, AskVersion], Awaitable[None]] = _nobody
        self._options = options
        self._clock = clock
        self._prepare = prepare
        self._heard = heard
        self._gone = gone
        self._page = page
        self._checked_ns = clock.monotonic_ns()
        self._numbers = itertools.count(1)
        self._names = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._handles: tuple[socket.socket, socket.socket | None, int] | None = None
        self._stopping = False
        self._replacing = asyncio.Lock()
        # Twice the drain: once to hand over, once for what was not taken.
        stop_s = options.lag_s + 2 * options.drain_s + options.linger_s + options.held_s + options.hang_s
        self._leave_s = stop_s + _SPARE_S

    @property
    def serving(self) -> list[Member]:
        """The workers that take requests."""
        return [member for member in self.members.values() if member.serving]

    async def start(self, listener: socket.socket, grpc: socket.socket | None, fence: int) -> None:
        """Start as many workers as there should be."""
        self._handles = listener, grpc, fence
        for _ in range(self._options.workers):
            self._go(self._spawn())

    async def stop(self) -> None:
        """Ask every worker to drain and wait until they have ended."""
        self._stopping = True
        members = list(self.members.values())
        for member in members:
            self._event(member, "stop")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._leave_s):
                await asyncio.gather(*(member.process.wait() for member in members))
        for member in members:
            with contextlib.suppress(ProcessLookupError):
                member.process.kill()
        await asyncio.gather(*(member.process.wait() for member in members))

    def check(self) -> None:
        """Notice who is late or silent; called several times a second."""
        now = self._clock.monotonic_ns()
        slept, self._checked_ns = now - self._checked_ns > _OWN_STALL_NS, now
        if slept:  # This process stood still: what the workers said meanwhile is not read yet.
            for member in self.members.values():
                member.worker = fleet.heard(member.worker, now)
        for member in list(self.members.values()):
            options = self._options
            event = fleet.overdue(member.worker, now, options.start_s, options.silence_s, self._leave_s)
            if event:
                _log.error("worker %s is %s", member.worker.name, event)
                self._event(member, event)

    async def replace(self, name: str | None = None) -> int:
        """Replace a worker, or all that serve now one after the other; how many were.

        Raises:
            RefusedError: no such worker serves.
            UnreachableError: a successor did not become ready; the worker serves on.
        """
        async with self._replacing:
            chosen = [member for member in self.serving if name in (None, member.worker.name)]
            if not chosen:
                raise RefusedError("no such worker serves", "ask for the scorer's status")
            for member in chosen:
                if member.serving:  # it may have ended, and so been replaced, meanwhile
                    self._event(member, "replace")
                    await self._relieved(member)
            return len(chosen)

    def upgrade(self) -> None:
        """Begin to replace all workers; what fails is logged, for nobody waits."""
        self._go(self._upgrade())

    async def _upgrade(self) -> None:
        try:
            _log.info("replaced %d workers", await self.replace())
        except InterlockError:
            _log.exception("the workers could not all be replaced")

    async def _relieved(self, member: Member) -> None:
        try:
            async with asyncio.timeout(self._options.start_s + self._leave_s):
                await member.process.wait()
        except TimeoutError as error:
            raise UnreachableError(
                f"worker {member.worker.name} has no successor yet", "read run/scorer.log"
            ) from error

    async def ask(self, member: Member, make: Callable[[int], Order], patience_s: float) -> None:
        """Give an order and wait until it is done.

        Raises:
            UnreachableError: the worker ended or did not answer in time.
            InterlockError: what the worker answered.
        """
        if member.worker.name not in self.members:
            raise UnreachableError("the worker has ended", "its replacement is on the way")
        number = next(self._numbers)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        member.waiting[number] = answer
        try:
            member.writer.write(frame(make(number)))
            async with asyncio.timeout(patience_s):
                found = await answer
        except TimeoutError as error:
            raise UnreachableError(f"worker {member.worker.name} does not answer", "see run/scorer.log") from error
        finally:
            member.waiting.pop(number, None)
        if found.failure is not None:
            raise error_of(found.failure)

    async def ask_all(self, make: Callable[[int], Order], patience_s: float, heavy: bool = False) -> int:
        """Give an order to every serving worker; the number of workers that carried it out.

        Args:
            make: the order with that number.
            patience_s: for each worker.
            heavy: only half of them at a time, so that the others answer at full pace meanwhile.

        A worker that ends meanwhile does not count: its replacement is prepared anew.

        Raises:
            InterlockError: the first failure of a worker that still serves.
            UnreachableError: there is no worker.
        """
        asked = self.serving
        if not asked:
            raise UnreachableError("no worker is ready", "wait for `ready`, or read run/scorer.log")
        turns = asyncio.Semaphore(max(1, len(asked) // 2) if heavy else len(asked))

        async def one(member: Member) -> None:
            async with turns:
                await self.ask(member, make, patience_s)

        outcomes = await asyncio.gather(*map(one, asked), return_exceptions=True)
        failures = [
            outcome
            for member, outcome in zip(asked, outcomes, strict=True)
            if isinstance(outcome, BaseException) and member.serving
        ]
        if failures:
            raise failures[0]
        return sum(not isinstance(outcome, BaseException) for outcome in outcomes)

    # --- processes ----------------------------------------------------------------------------

    async def _spawn(self, predecessor: Member | None = None, pause_s: float = 0.0) -> None:
        await asyncio.sleep(pause_s)
        if self._stopping or self._handles is None:
            return
        listener, grpc, fence = self._handles
        ours, theirs = socket.socketpair()
        line, estate = handover.pair()
        name = f"{os.getpid()}-{next(self._names)}"
        arguments = {
            "name": name,
            "listener": listener.fileno(),
            "control": theirs.fileno(),
            "line": line.fileno(),
            "fence": fence,
            "parent": os.getpid(),
        }
        inherited = [listener.fileno(), theirs.fileno(), line.fileno(), fence]
        if grpc is not None:
            arguments["grpc"] = grpc.fileno()
            inherited.append(grpc.fileno())
        if predecessor is not None and predecessor.estate is not None:
            arguments["estate"] = predecessor.estate.fileno()
            inherited.append(predecessor.estate.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "interlock.apps.scorer.worker",
            *itertools.chain.from_iterable((f"--{key}", str(value)) for key, value in arguments.items()),
            pass_fds=inherited,
            stdin=asyncio.subprocess.DEVNULL,
        )
        theirs.close()
        line.close()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        now = self._clock.monotonic_ns()
        member = Member(fleet.Worker(name, fleet.STARTING, now, now), process, writer, estate, predecessor)
        self.members[name] = member
        listening = self._go(self._listen(member, reader))
        self._go(self._bring_up(member))
        await process.wait()
        # Its last counts may still be on their way: the socket ends after them.
        await asyncio.wait([listening], timeout=_LAST_WORDS_S)
        self._ended(member)

    async def _bring_up(self, member: Member) -> None:
        try:
            async with self.changes:
                await self._prepare(member)
                if member.worker.state == fleet.STARTING:
                    await self.ask(member, Serve, self._options.start_s)
                if member.worker.state == fleet.STARTING:
                    self._event(member, "ready")
        except UnreachableError:
            _log.warning("worker %s ended before it was ready", member.worker.name)
        except InterlockError:
            _log.exception("worker %s cannot be made ready", member.worker.name)
            if member.worker.state == fleet.STARTING:
                self._event(member, "unfit")

    def _ended(self, member: Member) -> None:
        self.members.pop(member.worker.name, None)
        self._gone(member)
        member.writer.close()
        _close_estate(member)
        for answer in member.waiting.values():
            if not answer.done():
                answer.set_exception(UnreachableError("the worker has ended", "its replacement is on the way"))
        if not self._stopping and member.worker.state != fleet.LEAVING:
            _log.error("worker %s ended with code %s", member.worker.name, member.process.returncode)
        self._event(member, "ended")

    def _event(self, member: Member, event: str) -> None:
        served = member.worker.state != fleet.STARTING
        after, actions = fleet.apply(member.worker, event, self._clock.monotonic_ns())
        if after is not None:
            member.worker = after
        for action in actions:
            if action == "spawn":
                self._go(self._spawn(_heir_of(member), 0.0 if served else _PAUSE_S))
            elif action == "relieve":
                self._relieve(member)
            elif action == "hand_over":
                member.writer.write(frame(HandOver(next(self._numbers))))
                _close_estate(member)  # the successor's copy alone: its end is then seen
            else:
                with contextlib.suppress(ProcessLookupError):
                    member.process.send_signal(signal.SIGKILL if action == "kill" else signal.SIGTERM)

    def _relieve(self, successor: Member) -> None:
        """It is ready: the one it replaces may leave."""
        predecessor, successor.predecessor = successor.predecessor, None
        if predecessor is not None and predecessor.worker.state == fleet.RETIRING:
            self._event(predecessor, "relieved")

    async def _listen(self, member: Member, reader: asyncio.StreamReader) -> None:
        frames = Frames()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                for body in frames.feed(data):
                    self._word(member, words.decode(body))

    def _word(self, member: Member, word: Word) -> None:
        member.worker = fleet.heard(member.worker, self._clock.monotonic_ns())
        if isinstance(word, Answer):
            waiting = member.waiting.get(word.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(word)
        elif isinstance(word, AskMetrics):
            member.writer.write(frame(MetricsText(word.number, self._page())))
        elif isinstance(word, AskVersion):
            self._go(self.settle_version(member, word))
        else:
            self._heard(member, word)
            member.report = word
            if word.hung and member.serving:
                if member.worker.state == fleet.SERVING:
                    _log.error("worker %s has a model call that hangs", member.worker.name)
                self._event(member, "hung")

    def _go(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _nobody(member: Member, word: AskVersion) -> None:
    """Nobody carries it out."""


def _heir_of(member: Member) -> Member | None:
    """Whose estate the replacement of a member takes: its own, or what the member died before taking."""
    return member if member.worker.state == fleet.RETIRING else member.predecessor


def _close_estate(member: Member) -> None:
    estate, member.estate = member.estate, None
    if estate is not None:
        estate.close()
