"""The fence: one page of shared memory that every worker reads at every tick.

Contract. The supervisor is the only writer. Per service slot there are three words: the retreat
latch, the lease's deadline on CLOCK_MONOTONIC (0: no lease), and the floor, the least (epoch,
generation) that may still give traffic to a candidate; a header word says whether the supervisor
takes traffic. Each word is read and written whole, by one aligned access of 8 bytes. A latch is
visible to a worker before the retreat's `Done` is sent, also to one that was stalled: it reads the
page before it decides anything. Readers never write.
"""

from __future__ import annotations

import mmap
import os

from interlock.base.errors import UsageError

SLOTS = 64
_WORD = 8
_HEAD = 8
_SLOT = 4
_LATCH, _DEADLINE, _FLOOR = range(3)
_SIZE = (_HEAD + SLOTS * _SLOT) * _WORD
_GENERATIONS = 1 << 32
NEWEST = (1 << 63) - 1
"""A place that no table reaches."""


def create() -> int:
    """The file descriptor of a new fence, for the supervisor and, inherited, for its workers."""
    handle = os.memfd_create("interlock-fence", os.MFD_CLOEXEC)
    os.ftruncate(handle, _SIZE)
    return handle


def place(epoch: int, generation: int) -> int:
    """(epoch, generation) in one word, in the same order.

    Raises:
        UsageError: one of them does not fit.
    """
    if not (0 <= epoch < _GENERATIONS // 2 and 0 <= generation < _GENERATIONS):
        raise UsageError("an epoch or generation beyond 32 bits", "this is a defect: report it")
    return epoch * _GENERATIONS + generation


class Fence:
    """One process's view of the fence."""

    def __init__(self, handle: int, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        # A cast view moves whole words; struct would write them byte by byte, and a reader might see half.
        self._words = memoryview(mmap.mmap(handle, _SIZE, access=access)).cast("Q")

    @property
    def ready(self) -> bool:
        """Whether the supervisor takes traffic."""
        return self._words[0] == 1

    def set_ready(self, ready: bool) -> None:
        """Say whether traffic should come."""
        self._words[0] = int(ready)

    def retreated(self, slot: int, now_ns: int, at: int = NEWEST) -> bool:
        """Whether the champion alone may answer under a table at `at` (of `place`).

        So it is when the latch is set, when the table is below the floor, or when the lease has lapsed.
        """
        first = _HEAD + slot * _SLOT
        words = self._words
        if words[first + _LATCH] or at < words[first + _FLOOR]:
            return True
        deadline = words[first + _DEADLINE]
        return deadline != 0 and now_ns >= deadline

    def set_latch(self, slot: int, on: bool) -> None:
        """Set or open the latch."""
        self._words[_first(slot) + _LATCH] = int(on)

    def set_deadline(self, slot: int, deadline_ns: int) -> None:
        """Set the lease's deadline; 0: none."""
        self._words[_first(slot) + _DEADLINE] = deadline_ns

    def set_floor(self, slot: int, at: int) -> None:
        """Tables below `at` are fenced off."""
        self._words[_first(slot) + _FLOOR] = at

    def deadline(self, slot: int) -> int:
        """The lease's deadline, or 0."""
        return self._words[_first(slot) + _DEADLINE]


def _first(slot: int) -> int:
    if not 0 <= slot < SLOTS:
        raise UsageError(f"more than {SLOTS} services in one scorer", "run another scorer for the others")
    return _HEAD + slot * _SLOT
