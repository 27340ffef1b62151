"""Identifiers are arguments too: `Ids` is handed in, so that a simulation can be replayed."""

from __future__ import annotations

import os
import random
import uuid
from typing import Protocol

from interlock.base.clock import NS_PER_MS

_VARIANT = {f"{value:x}": "89ab"[value & 3] for value in range(16)}


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
    milliseconds = f"{now_ns // NS_PER_MS & 0xFFFF_FFFF_FFFF:012x}"
    chance = entropy.hex()
    variant = _VARIANT[chance[3]]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{chance[:3]}-{variant}{chance[4:7]}-{chance[7:19]}"


def uuid7_ns(text: str) -> int | None:
    """The millisecond that a UUIDv7 states, in nanoseconds since the epoch; None for anything else."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        return None
    return (value.int >> 80) * NS_PER_MS if value.version == 7 else None
