"""One request between a door and the ticks that answer its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interlock.serving.trace import Trace


class Unanswered(Exception):
    """A request that gets no prediction: HTTP status, message, and when to come again (seconds; 0: not)."""

    def __init__(self, status: int, message: str, retry_s: int) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_s = retry_s


Done = Callable[[list[Any] | Unanswered], None]


class Call:
    """One request with one or more rows; `done` is called once, with all replies or a failure.

    Args:
        size: rows in it; `expect` says it later where it is not known at once.
        done: takes what answers the rows, in order (a prediction's bytes; for a given vector the
            record), or the failure. A kind of call may override the method instead.
        deadline_ns: monotonic time after which nobody waits; 0: none.
        urgent: a real-time authorisation, which goes before batch work.

    Attributes:
        version: of the last decision made for it; empty while every reply was a stored one.
        trace: what it goes through, where that is sampled.
    """

    __slots__ = ("_done", "deadline_ns", "ended", "left", "replies", "trace", "urgent", "version")

    def __init__(self, size: int = 0, done: Done | None = None, deadline_ns: int = 0, urgent: bool = True) -> None:
        self._done = done
        self.deadline_ns = deadline_ns
        self.urgent = urgent
        self.ended = False
        self.version = ""
        self.trace: Trace | None = None
        self.expect(size)

    def expect(self, size: int) -> None:
        """So many rows follow."""
        self.left = size
        self.replies: list[Any] = [None] * size

    def done(self, outcome: list[Any] | Unanswered) -> None:
        """The end of it."""
        if self._done is not None:
            self._done(outcome)

    def answer(self, place: int, reply: Any) -> None:
        """One row's reply."""
        if self.replies[place] is None:
            self.replies[place] = reply
            self.left -= 1
        if not self.left and not self.ended:
            self.ended = True
            self.done(self.replies)

    def fail(self, why: Unanswered) -> None:
        """The whole request cannot be answered."""
        if not self.ended:
            self.ended = True
            self.done(why)
