"""The fence: one page of shared memory that every worker reads at every tick.

Contract. The supervisor is the only writer. Per service slot: one byte for the retreat latch and
eight bytes for the lease's deadline on CLOCK_MONOTONIC (0: no lease); a header byte says whether
the supervisor is ready. A latch is visible to a worker before the retreat's `Done` is sent, also
to one that was stalled: it reads the page before it decides anything. Readers never write.
"""

from __future__ import annotations

import mmap
import os
import struct

from interlock.base.errors import UsageError

SLOTS = 64
_HEAD = 64
_SLOT = 16
_SIZE = _HEAD + SLOTS * _SLOT
_DEADLINE = struct.Struct("<Q")


def create() -> int:
    """The file descriptor of a new fence, for the supervisor and, inherited, for its workers."""
    handle = os.memfd_create("interlock-fence", 0)
    os.ftruncate(handle, _SIZE)
    return handle


class Fence:
    """One process's view of the fence."""

    def __init__(self, handle: int, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._page = mmap.mmap(handle, _SIZE, access=access)

    @property
    def ready(self) -> bool:
        """Whether the supervisor takes traffic."""
        return self._page[0] == 1

    def set_ready(self, ready: bool) -> None:
        """Say whether traffic should come."""
        self._page[0] = int(ready)

    def retreated(self, slot: int, now_ns: int) -> bool:
        """Whether the champion alone may answer: the latch is set, or the lease has lapsed."""
        at = _HEAD + slot * _SLOT
        if self._page[at]:
            return True
        deadline: int = _DEADLINE.unpack_from(self._page, at + 8)[0]
        return deadline != 0 and now_ns >= deadline

    def set_latch(self, slot: int, on: bool) -> None:
        """Set or open the latch."""
        self._page[_HEAD + _checked(slot) * _SLOT] = int(on)

    def set_deadline(self, slot: int, deadline_ns: int) -> None:
        """Set the lease's deadline; 0: none."""
        _DEADLINE.pack_into(self._page, _HEAD + _checked(slot) * _SLOT + 8, deadline_ns)

    def deadline(self, slot: int) -> int:
        """The lease's deadline, or 0."""
        found: int = _DEADLINE.unpack_from(self._page, _HEAD + slot * _SLOT + 8)[0]
        return found


def _checked(slot: int) -> int:
    if not 0 <= slot < SLOTS:
        raise UsageError(f"more than {SLOTS} services in one scorer", "run another scorer for the others")
    return slot
