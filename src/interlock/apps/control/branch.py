"""Follows the protected branch on a thread: a slow or dead remote delays wishes and nothing else.

Whoever hears of a push may `hurry` the next look, from any thread. That says when to look, never what
is there; however often it is said, one look is under way and one is waiting, and between two looks
there is a pause.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import Executor, Future

from interlock.apps.control.wishes import Wish, gone, read
from interlock.base.clock import NS_PER_S, Clock
from interlock.rollout.options import RolloutOptions
from interlock.rollout.ports import Source

_PAUSE_S = 1.0
"""Seconds between two looks that nobody's impatience shortens."""


class Branch:
    """One branch of one repository; `source` None follows nothing."""

    def __init__(self, source: Source | None, runner: Executor, clock: Clock, options: RolloutOptions) -> None:
        self._source = source
        self._runner = runner
        self._clock = clock
        self._options = options
        self._polled_ns: int | None = None
        self._polling: Future[tuple[str, dict[str, Wish]]] | None = None
        self._hurried = threading.Event()
        self._seen: tuple[str, dict[str, Wish]] | None = None

    def hurry(self) -> None:
        """Make the next look due; of any thread."""
        self._hurried.set()

    def poll(self, known: Collection[str] = ()) -> dict[str, Wish]:
        """What the branch asks for, by service, when a poll has just ended; nothing in between.

        Args:
            known: services that the branch should have; a missing one is a wish with a problem.

        Raises:
            UnreachableError, RefusedError: as the source says; the next poll tries again.
        """
        now = self._clock.monotonic_ns()
        if self._polling is None and self._source is not None and self._due(now):
            self._polled_ns = now
            self._hurried.clear()
            self._polling = self._runner.submit(self._wishes, self._source)
        if self._source is None or self._polling is None or not self._polling.done():
            return {}
        polling, self._polling = self._polling, None
        head, wishes = polling.result()
        missing = [name for name in known if name not in wishes]
        return wishes | {name: gone(self._source, head, self._options.environment, name) for name in missing}

    def at(self, commit: str, service: str) -> Wish | None:
        """One service as a known commit asks for it."""
        return None if self._source is None else read(self._source, commit, self._options.environment).get(service)

    def _due(self, now: int) -> bool:
        if self._polled_ns is None:
            return True
        poll_s = self._options.poll_s
        wait_s = min(poll_s, _PAUSE_S) if self._hurried.is_set() else poll_s
        return now - self._polled_ns >= wait_s * NS_PER_S

    def _wishes(self, source: Source) -> tuple[str, dict[str, Wish]]:
        head = source.head()
        if self._seen is None or self._seen[0] != head:
            self._seen = head, read(source, head, self._options.environment)
        return self._seen
