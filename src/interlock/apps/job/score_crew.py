"""The processes of a batch: started by exec, given one unit at a time, gone with who started them.

Contract. A process is a new program (never a fork of this one) with a death signal, so a killed
batch leaves nobody at work. Start and use a crew from one thread that lives as long as the batch.
A process that ends early, or answers with an error, ends the batch; what is finished stays.
"""

from __future__ import annotations

import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from interlock.base.errors import (
    IntegrityError,
    InterlockError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from interlock.base.guard import guarded

Task = tuple[str, int, int]
"""(step, unit, start)"""

_KINDS: dict[str, type[InterlockError]] = {
    "usage": UsageError,
    "refused": RefusedError,
    "integrity": IntegrityError,
    "unreachable": UnreachableError,
}
_END_S = 5.0


class Crew:
    """Processes on one work folder; use it as a context manager.

    Args:
        folder: with the plan in it.
        size: how many.
    """

    def __init__(self, folder: Path, size: int) -> None:
        command = guarded([sys.executable, "-m", "interlock.apps.job.score_worker", str(folder)], signal.SIGKILL)
        self._hands = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) for _ in range(size)
        ]

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hand in self._hands:
            if kind is not None:
                hand.kill()
            for pipe in (hand.stdin, hand.stdout):
                if pipe is not None:
                    pipe.close()
        for hand in self._hands:
            try:
                hand.wait(_END_S)
            except subprocess.TimeoutExpired:
                hand.kill()
                hand.wait()

    def run(self, tasks: Sequence[Task], done: Callable[[Task, dict[str, Any]], None]) -> None:
        """Do every task; `done` is told each one with its facts, as they finish.

        Raises:
            InterlockError: what the process said.
            UnreachableError: a process ended.
        """
        waiting = list(reversed(tasks))
        busy: dict[int, Task] = {}
        with selectors.DefaultSelector() as ready:
            for index, hand in enumerate(self._hands):
                if waiting:
                    busy[index] = _give(hand, waiting.pop())
                    ready.register(hand.stdout or 0, selectors.EVENT_READ, index)
            while busy:
                for event, _ in ready.select():
                    index = event.data
                    hand = self._hands[index]
                    done(busy.pop(index), _answer(hand))
                    if waiting:
                        busy[index] = _give(hand, waiting.pop())


def _give(hand: subprocess.Popen[bytes], task: Task) -> Task:
    try:
        if hand.stdin is not None:
            hand.stdin.write(msgspec.json.encode(task) + b"\n")
    except BrokenPipeError as error:
        raise _ended() from error
    return task


def _answer(hand: subprocess.Popen[bytes]) -> dict[str, Any]:
    line = hand.stdout.readline() if hand.stdout is not None else b""
    if not line.endswith(b"\n"):
        raise _ended()
    found = msgspec.json.decode(line, type=dict[str, dict[str, Any]])
    if "facts" in found:
        return found["facts"]
    error = found["error"]
    if error["kind"] in _KINDS:
        raise _KINDS[error["kind"]](error["message"], error["remedy"])
    raise UnreachableError(f"a scoring process failed ({error['message']})", "see its message, then run again")


def _ended() -> UnreachableError:
    return UnreachableError("a scoring process ended", "look for a lack of memory, then run again: it goes on")
