"""A seal: what is said, for ever, about one closed segment of decisions."""

from __future__ import annotations

from typing import Any

import msgspec

from interlock.base.errors import IntegrityError

SCHEMA = 1


class Seal(msgspec.Struct, frozen=True):
    """The content of a seal file, and the body of the event `segment.sealed`.

    Attributes:
        segment: the segment's name, without a folder.
        number: place in the home's order of seals, from 1, without gaps.
        records: how many records it holds.
        bytes: length of the sealed file.
        sha256: digest of the whole file, `sha256:<hex>`.
        root: RFC 6962 root over the records' payloads in order, hexadecimal.
        first_ns: the first record's receive time (0 in an empty segment).
        last_ns: the last record's receive time.
        cut: bytes of a torn tail that were cut off before sealing.
    """

    segment: str
    number: int
    records: int
    bytes: int
    sha256: str
    root: str
    first_ns: int
    last_ns: int
    cut: int = 0
    schema: int = SCHEMA


def encode(seal: Seal) -> bytes:
    """The seal file's bytes."""
    return msgspec.json.encode(seal)


def decode(data: bytes) -> Seal:
    """A seal from its file's bytes.

    Raises:
        IntegrityError: they are none, or of another schema.
    """
    try:
        seal = msgspec.json.decode(data, type=Seal)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a seal file does not hold a seal", "restore it from the log's segment.sealed") from error
    if seal.schema != SCHEMA:
        raise IntegrityError(f"seal schema {seal.schema} is unknown", "read it with the version that wrote it")
    return seal


def body(seal: Seal) -> dict[str, Any]:
    """The seal as the body of the event `segment.sealed`; nanoseconds are strings there."""
    plain: dict[str, Any] = msgspec.structs.asdict(seal)
    return plain | {"first_ns": str(seal.first_ns), "last_ns": str(seal.last_ns)}


def of_body(plain: dict[str, Any]) -> Seal:
    """The seal in an event's body.

    Raises:
        IntegrityError: it holds none.
    """
    try:
        return msgspec.convert(plain, Seal, strict=False)
    except msgspec.MsgspecError as error:
        raise IntegrityError("an event's body holds no seal", "keep the log and look at the event") from error
