"""The absolute ceilings that a supervisor enforces by itself, without statistics or a controller."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from interlock.base.clock import NS_PER_S
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, WorkerCounts
from interlock.decision.table import CANDIDATE
from interlock.serving.options import ServingOptions

_Sums = dict[str, tuple[int, int, int]]
_Packed = dict[str, tuple[bytes, tuple[int, int, int]]]


class Ceiling:
    """Watches candidates: many misses or errors within a few seconds, and a large share of their calls."""

    def __init__(self, options: ServingOptions) -> None:
        self._options = options
        self._seen: deque[tuple[int, _Sums]] = deque()
        self._packed: _Packed = {}

    def look(self, now_ns: int, live: Iterable[WorkerCounts]) -> Iterator[tuple[str, str]]:
        """(service, reason) of each candidate that is over a ceiling now."""
        sums = self._sums(live)
        self._seen.append((now_ns, sums))
        while now_ns - self._seen[0][0] > self._options.ceiling_s * NS_PER_S:
            self._seen.popleft()
        before = self._seen[0][1]
        for key, (requests, errors, misses) in sums.items():
            old = before.get(key, (0, 0, 0))
            calls = requests - old[0]
            for what, number in (("deadline misses", misses - old[2]), ("errors", errors - old[1])):
                if number >= self._options.ceiling_events and number >= self._options.ceiling_share * calls > 0:
                    yield counts.parse_key(key)[0], f"{number} {what} in {calls} calls of the candidate"
                    break

    def _sums(self, live: Iterable[WorkerCounts]) -> _Sums:
        found: _Sums = {}
        before, self._packed = self._packed, {}  # what is no longer reported is forgotten
        for worker in live:
            for key, packed in worker.arms.items():
                if counts.parse_key(key)[2] == CANDIDATE:
                    mine = self._totals(before, f"{worker.reset_id}/{key}", packed)
                    known = found.get(key, (0, 0, 0))
                    found[key] = known[0] + mine[0], known[1] + mine[1], known[2] + mine[2]
        return found

    def _totals(self, before: _Packed, name: str, packed: bytes) -> tuple[int, int, int]:
        """Sums of one worker's arm; unpacked only when they changed."""
        known = before.get(name)
        if known is None or known[0] is not packed:
            arm = ArmCounts.unpack(packed)
            known = packed, (arm.total(counts.REQUESTS), arm.total(counts.ERRORS), arm.total(counts.MISSES))
        self._packed[name] = known
        return known[1]
