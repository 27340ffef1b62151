"""What a look keeps of the evidence: only what it added, packed, in numbered and chained pieces.

Contract. An addition holds what was counted since the look that was kept before, per worker and life
of its counters, so that the sums give back every worker's last reading, and whoever goes on from them
counts nothing twice. It is msgpack, compressed, in base64; beyond one event it is cut into several,
of which the last also carries the verdict. Additions of one rollout are numbered from 1, and each digest
covers the one before. Of two with one number the later holds: the first was stored without an answer.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from typing import Any

import msgspec

from interlock.base.errors import IntegrityError

PIECE = 44_000
"""Characters of base64 in one event; the verdict beside them needs at most a third of an event."""
_MOST = 64 * 1024 * 1024
_REMEDY = "restore the events from the log"


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """What one worker added to one arm, or to one shadow, under one generation.

    Attributes:
        worker: its name.
        life: of its counters: they began at zero with it.
        name: the key of the counts.
        paired: ShadowCounts, else ArmCounts.
        packed: the difference, as its kind packs it.
    """

    worker: str
    life: str
    name: str
    paired: bool
    packed: bytes


class Addition(msgspec.Struct, frozen=True, array_like=True):
    """What one kept look added.

    Attributes:
        resets: the reset id of every worker that was heard, by worker.
        cells: counts, in the order in which they came.
        steps: the champion over time: (instant, counts of every second card group, of all groups).
        samples: both arms over time for limits: (instant, seen, champion's sums, candidate's sums), each as
            its changes (place, by) since the sample before; sums are the counts, then model calls by bin.
    """

    resets: dict[str, str]
    cells: tuple[Cell, ...] = ()
    steps: tuple[tuple[int, ...], ...] = ()
    samples: tuple[tuple[int, bool, tuple[int, ...], tuple[int, ...]], ...] = ()


def pack(addition: Addition) -> str:
    """Base64 of the compressed addition."""
    return base64.b64encode(zlib.compress(msgspec.msgpack.encode(addition), 6)).decode()


def unpack(text: str) -> Addition:
    """The addition.

    Raises:
        IntegrityError: it is damaged.
    """
    try:
        reader = zlib.decompressobj()
        raw = reader.decompress(base64.b64decode(text, validate=True), _MOST)
        if not reader.eof:
            raise IntegrityError("the evidence of a look is cut off", _REMEDY)
        return msgspec.msgpack.decode(raw, type=Addition)
    except (binascii.Error, zlib.error, msgspec.DecodeError) as error:
        raise IntegrityError(f"the evidence of a look is damaged: {error}", _REMEDY) from error


def chained(before: str, text: str) -> str:
    """The digest of an addition after another, hex."""
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def pieces(number: int, digest: str, text: str) -> list[dict[str, Any]]:
    """The `kept` of each event that an addition needs; the last belongs to the verdict."""
    cut = [text[start : start + PIECE] for start in range(0, len(text), PIECE)] or [""]
    head = {"n": number, "digest": digest, "of": len(cut)}
    return [{**head, "part": place, "counts": piece} for place, piece in enumerate(cut, 1)]


class Collected:
    """Puts pieces together again, in the order of their events."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._head: tuple[int, str] = (0, "")

    def add(self, kept: dict[str, Any]) -> tuple[int, str, str] | None:
        """(number, digest, text) once the last piece is here; None before.

        Raises:
            IntegrityError: a piece is missing or malformed.
        """
        try:
            head, part, whole = (int(kept["n"]), str(kept["digest"])), int(kept["part"]), int(kept["of"])
            text = str(kept["counts"])
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"a look without evidence: {error}", _REMEDY) from error
        if part == 1:
            self._texts, self._head = [], head
        if part != len(self._texts) + 1 or head != self._head:
            raise IntegrityError(f"a piece of look {head[0]} is missing", _REMEDY)
        self._texts.append(text)
        return (*head, "".join(self._texts)) if part == whole else None
