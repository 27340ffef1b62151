"""Identifiers are arguments too: `Ids` is handed in, so that a simulation can be replayed."""

from __future__ import annotations

import os
import random
import uuid
from typing import Protocol

from interlock.base.clock import NS_PER_MS


class Ids(Protocol):
    """A source of random bytes for identifiers and salts."""

    def random(self, size: int) -> bytes:
        """`size` random bytes."""
        ...


class SystemIds:
    """The operating system's randomness."""

    def random(self, size: int) -> bytes:
        """`size` bytes from the system's generator."""
        return os.urandom(size)


class SeededIds:
    """The same bytes for the same seed: for tests and simulations only."""

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)  # noqa: S311 - replayable on purpose, never a secret

    def random(self, size: int) -> bytes:
        """The next `size` bytes of the seeded stream."""
        return self._generator.randbytes(size)


def uuid7(now_ns: int, entropy: bytes) -> str:
    """A UUIDv7 (RFC 9562 section 5.7) of `now_ns` and 10 bytes of entropy."""
    milliseconds = now_ns // NS_PER_MS & 0xFFFF_FFFF_FFFF
    tail = int.from_bytes(entropy[:10], "big")
    value = milliseconds << 80 | 0x7 << 76 | (tail >> 68 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    return str(uuid.UUID(int=value))
