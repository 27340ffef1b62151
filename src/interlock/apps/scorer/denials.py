"""Denials on their way to the events: numbered by the supervisor, kept until the controller has had time.

The scorers write no events: the controller reads these with everything else that it observes, and
records each number once. Kept are the newest `MOST`; beyond them, and when the supervisor ends
before the controller looked, a denial is in the counters alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from interlock.decision.admin import Denial

MOST = 512


class Denials:
    """What a supervisor's workers reported, newest last."""

    def __init__(self) -> None:
        self._kept: deque[Denial] = deque(maxlen=MOST)
        self._last = 0

    def add(self, reported: Iterable[Denial], now_ns: int) -> None:
        """Number what a worker reported.

        Args:
            reported: its denials since its report before.
            now_ns: wall clock; numbers begin with it, and so ascend over restarts.
        """
        for each in reported:
            self._last = max(self._last + 1, now_ns)
            self._kept.append(msgspec.structs.replace(each, number=self._last, at_ns=now_ns))

    def newest(self) -> list[Denial]:
        """Those that are kept, by number."""
        return list(self._kept)
