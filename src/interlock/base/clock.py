"""Clocks are arguments: pure functions take `now`, shells take one `Clock`.

All times are int nanoseconds: `now_ns` since the Unix epoch in UTC, `monotonic_ns` on
CLOCK_MONOTONIC, which every process of one machine shares until reboot.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """Two readings, in nanoseconds."""

    def now_ns(self) -> int:
        """Wall-clock time since the Unix epoch."""
        ...

    def monotonic_ns(self) -> int:
        """Time that never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Wall-clock time since the Unix epoch."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC, shared by every process of this machine."""
        return time.monotonic_ns()


@dataclass
class ManualClock:
    """A clock that stands still until told otherwise (tests, simulations, replays)."""

    wall_ns: int = 1_790_000_000 * NS_PER_S
    mono_ns: int = 0

    def now_ns(self) -> int:
        """The scripted wall time."""
        return self.wall_ns

    def monotonic_ns(self) -> int:
        """The scripted monotonic time."""
        return self.mono_ns

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        step = round(seconds * NS_PER_S)
        if step < 0:
            raise ValueError("time does not go back")
        self.wall_ns += step
        self.mono_ns += step


@dataclass(frozen=True)
class ClockOptions:
    """Which edge clock the scorers take; anything but real time is for demos and replays only."""

    origin_ns: int | None = None
    """Edge time at `started_ns`, in ns since the Unix epoch; None: real time."""
    started_ns: int = 0
    """The CLOCK_MONOTONIC instant, in ns, at which the edge clock read `origin_ns`."""
    speed: float = 1.0
    """Edge seconds per real second."""

    def edge(self, clock: Clock) -> EdgeClock:
        """The edge clock that these options describe, driven by `clock`."""
        return EdgeClock(clock, self.origin_ns, self.started_ns, self.speed)


@dataclass(frozen=True)
class EdgeClock:
    """The receive clock of the edge: the window clock of every velocity feature.

    Real time unless a demo or a replay says otherwise: then it reads `origin_ns` at the
    monotonic instant `started_ns` and runs `speed` times as fast. Which clock was used is
    recorded in every decision.
    """

    clock: Clock
    origin_ns: int | None = None
    started_ns: int = 0
    speed: float = 1.0

    def now_ns(self) -> int:
        """Edge time since the Unix epoch."""
        if self.origin_ns is None:
            return self.clock.now_ns()
        return self.origin_ns + int((self.clock.monotonic_ns() - self.started_ns) * self.speed)


def rfc3339(ns: int) -> str:
    """`ns` since the epoch as RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(ns // 1000 / 1_000_000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
