"""Token buckets: how often each principal may ask, counted over all workers of a scorer.

A bucket of `burst` tokens is refilled with `per_second`; a request takes its cost or waits. Over any
span of t seconds a principal gets at most `burst + per_second * t`. Kept is one number per bucket, the
time at which it will be full again (the generic cell rate algorithm, ITU-T I.371), in whole
nanoseconds, a token's worth being rounded up: against the caller, by less than a nanosecond.

The numbers lie in a table of fixed size that the workers share, so that the rate does not depend on
how many there are or which of them a connection met. A word is written at once, without a lock: a
worker that is stopped in between stops no other. Two that ask in the same microsecond may both get
the last token. A full bucket may be forgotten, since a new one is full; one in use never is: when its
neighbourhood of the table is full of those, a newcomer waits for the first that is not.
"""

from __future__ import annotations

import math
import mmap
import os
from hashlib import blake2b
from pathlib import Path

from interlock.base.clock import NS_PER_S
from interlock.trust.principal import Rates

SLOTS = 16_384
PROBE = 16
"""Places of the table in which a principal's bucket may lie."""
_WORD = 8

Cells = memoryview
"""Signed 64-bit words, two per slot: the principal's number (0: none yet), and when its bucket is full again."""


def private_cells(slots: int = SLOTS) -> Cells:
    """A table of this process alone."""
    return memoryview(bytearray(2 * _WORD * slots)).cast("q")


def shared_cells(path: Path, slots: int = SLOTS) -> Cells:
    """The table in a file, shared by every process that maps it.

    Whoever starts the first worker removes the file before: its times mean nothing after a reboot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(handle, 2 * _WORD * slots)
        return memoryview(mmap.mmap(handle, 2 * _WORD * slots)).cast("q")
    finally:
        os.close(handle)


class Limits:
    """The buckets of all principals that have a rate.

    Args:
        rates: who has which; None of a principal: no limit.
        cells: the table; None: one of its own.
    """

    def __init__(self, rates: Rates, cells: Cells | None = None) -> None:
        self.rates = rates
        self._cells: Cells = private_cells() if cells is None else cells
        self._slots = len(self._cells) // 2
        self._places: dict[str, tuple[int, int]] = {}
        """Name to (its number, where its bucket was last)."""

    def admit(self, principal: str, cost: int, now_ns: int) -> float:
        """Let a request in, or say when to come again.

        Args:
            principal: its name.
            cost: tokens that the request takes, at least 1.
            now_ns: monotonic, of the clock that all workers share.

        Returns:
            0 when it is admitted, else the seconds to wait; infinite when it asks for more than the
            bucket can hold.
        """
        rate = self.rates.of(principal)
        if rate is None:
            return 0.0
        if cost > rate.burst:
            return math.inf
        cells = self._cells
        at = self._bucket(principal, now_ns)
        if at < 0:
            return -at / NS_PER_S
        token_ns = -(-NS_PER_S // rate.per_second)
        empty_ns = now_ns + rate.burst * token_ns
        full_ns = cells[at + 1]
        if full_ns > empty_ns + NS_PER_S:  # more than another worker's reading of the clock explains
            # A larger burst, or a clock, of before: nobody is emptier than empty.
            full_ns = cells[at + 1] = empty_ns
        full_ns = (full_ns if full_ns > now_ns else now_ns) + cost * token_ns
        if full_ns > empty_ns:
            return (full_ns - empty_ns) / NS_PER_S
        cells[at + 1] = full_ns
        return 0.0

    def _bucket(self, principal: str, now_ns: int) -> int:
        """Index of the bucket's first word; below 0: there is none, and no room for one before so many ns."""
        cells = self._cells
        number, at = self._places.get(principal) or self._number(principal)
        if cells[at] == number:
            return at
        start, free, soonest = number % self._slots, -1, 1 << 62
        for step in range(min(PROBE, self._slots)):
            at = 2 * ((start + step) % self._slots)
            if cells[at] == number:
                break
            soonest = min(soonest, cells[at + 1])
            if free < 0 and cells[at + 1] <= now_ns:
                free = at
        else:
            if free < 0:
                return now_ns - soonest
            at = free
            cells[at] = number
        self._places[principal] = number, at
        return at

    def _number(self, principal: str) -> tuple[int, int]:
        if len(self._places) >= self._slots:
            self._places.clear()
        number = int.from_bytes(blake2b(principal.encode(), digest_size=_WORD).digest(), "big", signed=True) or 1
        return number, 2 * (number % self._slots)
