"""Follows the protected branch on a thread: a slow or dead remote delays wishes and nothing else."""

from __future__ import annotations

from concurrent.futures import Executor, Future

from interlock.apps.control.wishes import Wish, read
from interlock.base.clock import NS_PER_S, Clock
from interlock.rollout.options import RolloutOptions
from interlock.rollout.ports import Source


class Branch:
    """One branch of one repository; `source` None follows nothing."""

    def __init__(self, source: Source | None, runner: Executor, clock: Clock, options: RolloutOptions) -> None:
        self._source = source
        self._runner = runner
        self._clock = clock
        self._options = options
        self._polled_ns: int | None = None
        self._polling: Future[dict[str, Wish]] | None = None

    def poll(self) -> dict[str, Wish]:
        """What the branch asks for, by service, when a poll has just ended; nothing in between.

        Raises:
            UnreachableError, RefusedError: as the source says; the next poll tries again.
        """
        now = self._clock.monotonic_ns()
        if self._polling is None and self._source is not None and self._due(now):
            self._polled_ns = now
            self._polling = self._runner.submit(self._wishes, self._source)
        if self._polling is None or not self._polling.done():
            return {}
        polling, self._polling = self._polling, None
        return polling.result()

    def at(self, commit: str, service: str) -> Wish | None:
        """One service as a known commit asks for it."""
        return None if self._source is None else read(self._source, commit, self._options.environment).get(service)

    def _due(self, now: int) -> bool:
        return self._polled_ns is None or now - self._polled_ns >= self._options.poll_s * NS_PER_S

    def _wishes(self, source: Source) -> dict[str, Wish]:
        return read(source, source.head(), self._options.environment)
