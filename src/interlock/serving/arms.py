"""Runs the arms of a tick: inline when settled, each on an executor thread of its own otherwise.

Contract. While a rollout is unsettled *every* arm, the champion too, runs on an identical thread,
so that what is compared is the models and not who holds the interpreter. A candidate has a queue
of one tick and a deadline: what it has not answered by then is a miss, answered by the champion.
Model time is measured around the call itself, in the thread that makes it. A thread cannot be
killed: `hung_since` tells who must replace the worker.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from interlock.base.clock import Clock
from interlock.decision.decide import Decided, Model, Vectors, decide


@dataclass(frozen=True)
class Called:
    """One model call: what it decided, or None when it failed, and how long it took."""

    decided: Decided | None
    model_ns: int
    error: str = ""


def call(model: Model, vectors: Vectors, clock: Clock) -> Called:
    """Call a model; whatever it raises is an answer, not an exception."""
    started = clock.monotonic_ns()
    try:
        decided = decide(model, vectors)
    except Exception as error:  # a model may raise anything; the champion answers then
        return Called(None, clock.monotonic_ns() - started, type(error).__name__)
    return Called(decided, clock.monotonic_ns() - started)


class Lane:
    """One arm's executor thread."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"arm-{name}")
        self._running: asyncio.Future[Called] | None = None
        self._since = 0

    @property
    def busy(self) -> bool:
        """Whether an earlier call still runs."""
        return self._running is not None and not self._running.done()

    def hung_since(self) -> int:
        """Monotonic time at which the running call began; 0 when none runs."""
        return self._since if self.busy else 0

    async def run(self, model: Model, vectors: Vectors, deadline_s: float | None) -> Called | None:
        """Call the model on this thread; None when the lane is busy or the deadline passed."""
        if self._running is not None and not self._running.done():
            if deadline_s is not None:
                return None
            await asyncio.wait([self._running])
        loop = asyncio.get_running_loop()
        self._since = self._clock.monotonic_ns()
        # Another caller may put its own call there while this one waits.
        running = self._running = loop.run_in_executor(self._pool, call, model, vectors, self._clock)
        done, _ = await asyncio.wait([running], timeout=deadline_s)
        return running.result() if done else None

    def close(self) -> None:
        """Let the thread end after its current call."""
        self._pool.shutdown(wait=False)
