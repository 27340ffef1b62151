"""Runs the arms of a tick: inline when settled, each on a thread of its own otherwise.

Contract. While a rollout is unsettled *every* arm, the champion too, runs on an identical thread,
so that what is compared is the models and not who holds the interpreter. A lane has room for a few
waiting calls and a deadline for each; what it has not answered by then is a miss, and what has not
begun by then never runs. Model time is measured around the call itself, in the thread that makes
it. A thread cannot be killed: `hung_since` tells who must replace the worker.
"""

from __future__ import annotations

import asyncio
import queue
import threading

import msgspec

from interlock.base.clock import Clock
from interlock.decision.decide import Decided, Model, Vectors, decide

ROOM = 8
"""Calls that may wait for a lane. One would do for a candidate as fast as its champion, were it not for
the machine: a thread that is not scheduled for a few milliseconds must not read as a slow model, and
the deadline bounds the waiting anyway."""


class Called(msgspec.Struct, frozen=True):
    """One model call.

    Attributes:
        decided: None when it failed.
        model_ns: how long it took.
        error: the class of what it raised.
        started_ns: monotonic.
        rows: for how many rows the model was run; fewer than were asked where scores were known.
    """

    decided: Decided | None
    model_ns: int
    error: str = ""
    started_ns: int = 0
    rows: int = 1


def call(model: Model, vectors: Vectors, clock: Clock) -> Called:
    """Call a model; whatever it raises is an answer, not an exception."""
    started = clock.monotonic_ns()
    try:
        decided = decide(model, vectors)
    except Exception as error:  # a model may raise anything; the champion answers then
        return Called(None, clock.monotonic_ns() - started, type(error).__name__, started)
    return Called(decided, clock.monotonic_ns() - started, "", started, len(vectors))


class _Job:
    """One call on its way through a lane; `given_up` is set by the loop, read by the thread."""

    __slots__ = ("answer", "given_up", "model", "vectors")

    def __init__(self, model: Model, vectors: Vectors, answer: asyncio.Future[Called | None]) -> None:
        self.model = model
        self.vectors = vectors
        self.answer = answer
        self.given_up = False


class Lane:
    """One arm's thread; used from one event loop.

    Args:
        name: for the thread.
        clock: measures the calls.
        room: calls that may wait behind the one that runs.
    """

    def __init__(self, name: str, clock: Clock, room: int = ROOM) -> None:
        self._name = name
        self._clock = clock
        self._room = room
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outstanding = 0
        self._since = 0

    def hung_since(self) -> int:
        """Monotonic time at which the running call began; 0 when none runs."""
        return self._since

    async def run(self, model: Model, vectors: Vectors, deadline_s: float) -> Called | None:
        """Call the model on this thread; None when there is no room or the deadline passed."""
        if self._outstanding > self._room:
            return None
        loop = self._started()
        job = _Job(model, vectors, loop.create_future())
        self._outstanding += 1
        self._jobs.put(job)
        timer = loop.call_later(deadline_s, _give_up, job)
        try:
            return await job.answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let the thread end after what it has been given."""
        self._jobs.put(None)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            # A daemon: a call that hangs must not keep the process from ending.
            threading.Thread(target=self._work, name=f"arm-{self._name}", daemon=True).start()
        return self._loop

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            called = None
            if not job.given_up:
                self._since = self._clock.monotonic_ns()
                called = call(job.model, job.vectors, self._clock)
                self._since = 0
            try:
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._finish, job, called)
            except RuntimeError:  # the loop has ended, and with it everybody who waited
                return

    def _finish(self, job: _Job, called: Called | None) -> None:
        self._outstanding -= 1
        if not job.answer.done():
            job.answer.set_result(called)


def _give_up(job: _Job) -> None:
    job.given_up = True
    if not job.answer.done():
        job.answer.set_result(None)
