"""Append-only segments: where a worker writes its decisions before it answers.

Format (version 1). A file is a sequence of frames: u32 little-endian length, u32 little-endian
CRC32C over the length's bytes and the payload, payload. The first payload is the header, a
msgpack map {format, version, worker, created_ns, schema}; every other payload is a
`DecisionRecord`. A length of 0 ends the segment: an open file is preallocated with zeros.

Contract. One writer per file, which holds an exclusive lock on it while it lives, so that a
segment whose lock is free has lost its writer. A tick is one write. `append` returns after the
bytes are with the kernel: they survive the death of the process, and with `fsync` also that of
the machine; without it a machine's crash loses at most what was not yet sealed. A full disk meets
`open`, never `append`. A file is named `<segment>.open` while it is written and `<segment>.seg`
once closed; then it never changes again.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import msgspec

from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.decision import record as records_module
from interlock.decision.record import DecisionRecord

FORMAT = "interlock-segment"
VERSION = 1
OPEN_SUFFIX = ".open"
CLOSED_SUFFIX = ".seg"

_FRAME = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_WORKER = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class SegmentOptions:
    """How segments are written.

    Attributes:
        size_bytes: preallocated size of a segment; a full one is followed by the next.
        fsync: whether every append waits for the disk.
    """

    size_bytes: int = 32 * 1024 * 1024
    fsync: bool = False


class Header(msgspec.Struct, frozen=True):
    """The first payload of a segment."""

    worker: str
    created_ns: int
    format: str = FORMAT
    version: int = VERSION
    schema: int = records_module.SCHEMA


@dataclass(frozen=True)
class Segment:
    """A segment's content.

    Attributes:
        header: who wrote it, and when.
        payloads: the records' bytes, in order.
        length: bytes up to the end of the last whole frame.
        cut: bytes of a torn tail after it, which belong to no record.
    """

    header: Header
    payloads: tuple[bytes, ...]
    length: int
    cut: int

    def records(self) -> Iterator[DecisionRecord]:
        """The decoded records, in order."""
        return map(records_module.decode, self.payloads)


def frame(payload: bytes) -> bytes:
    """One payload as a frame."""
    length = _LENGTH.pack(len(payload))
    return b"%b%b%b" % (length, _LENGTH.pack(google_crc32c.value(length + payload)), payload)


def checksum(payload: bytes) -> int:
    """CRC32C over the length's four bytes and the payload: a damaged length is found too."""
    return int(google_crc32c.extend(google_crc32c.value(_LENGTH.pack(len(payload))), payload))


def parse(data: bytes) -> Segment:
    """The segment in these bytes; what follows the last whole frame is cut and counted.

    Raises:
        IntegrityError: there is no whole header, or it is of an unknown version.
    """
    frames: list[bytes] = []
    at = 0
    while (payload := _payload_at(data, at)) is not None:
        frames.append(payload)
        at += _FRAME.size + len(payload)
    if not frames:
        raise IntegrityError("a segment without a header", "set the file aside: no record can be in it")
    return Segment(_header(frames[0]), tuple(frames[1:]), at, len(data[at:].rstrip(b"\0")))


def read(path: Path) -> Segment:
    """The segment in a file, open or closed.

    Raises:
        IntegrityError: it has no whole header, or one of an unknown version.
        FileNotFoundError: there is no such file.
    """
    return parse(path.read_bytes())


def name_of(path: Path) -> str:
    """The segment's name: the file's without suffix."""
    return path.name.removesuffix(OPEN_SUFFIX).removesuffix(CLOSED_SUFFIX)


def _payload_at(data: bytes, at: int) -> bytes | None:
    if len(data) < at + _FRAME.size:
        return None
    length, crc = _FRAME.unpack_from(data, at)
    payload = data[at + _FRAME.size : at + _FRAME.size + length]
    whole = 0 < length == len(payload) and checksum(payload) == crc
    return payload if whole else None


def _header(payload: bytes) -> Header:
    try:
        header = msgspec.msgpack.decode(payload, type=Header)
    except msgspec.MsgspecError as error:
        raise IntegrityError("a segment with a malformed header", "set the file aside") from error
    if (header.format, header.version) != (FORMAT, VERSION):
        raise IntegrityError("a segment of an unknown version", "read it with the version that wrote it")
    return header


class SegmentWriter:
    """Writes one worker's segments, one after the other.

    Args:
        folder: the home's `segments` folder.
        worker: the worker's name, unique while it lives: `[A-Za-z0-9_-]`.
        now_ns: the wall clock, for names and headers.
        options: sizes and durability.

    Raises:
        UnreachableError: there is no room for the first segment.
    """

    def __init__(
        self, folder: Path, worker: str, now_ns: Callable[[], int], options: SegmentOptions | None = None
    ) -> None:
        if not _WORKER.fullmatch(worker):
            raise UsageError("not a worker's name", "use letters, digits, dash and underscore")
        self._folder = folder
        self._worker = worker
        self._now_ns = now_ns
        self._options = options or SegmentOptions()
        folder.mkdir(parents=True, exist_ok=True)
        self._handle, self._path, self._offset = self._open()
        self._records = 0

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._path

    @property
    def records(self) -> int:
        """Records in the current segment."""
        return self._records

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Write a tick's records with one call to the kernel.

        Raises:
            UnreachableError: they could not be written; none of them counts as written.
            UsageError: the tick is larger than a segment.
        """
        block = b"".join(frame(records_module.encode(record)) for record in records)
        if not block:
            return
        if self._offset + len(block) > self._options.size_bytes:
            self._make_room(len(block))
        self._write(self._handle, block, self._offset)
        self._offset += len(block)
        self._records += len(records)

    def roll(self) -> Path | None:
        """Open the next segment, close the current one, and return its path; None if it was empty.

        Raises:
            UnreachableError: there is no room for the next one; the current one stays open.
        """
        if not self._records:
            return None
        following = self._open()
        try:
            closed = self._close()
        except OSError as error:
            following[1].unlink(missing_ok=True)
            os.close(following[0])
            raise UnreachableError("a segment cannot be closed", "repair the disk under segments/") from error
        self._handle, self._path, self._offset = following
        self._records = 0
        return closed

    def close(self) -> Path | None:
        """Close for good; returns the closed segment, or None when it held no record (it is removed)."""
        if self._records:
            return self._close()
        self._path.unlink(missing_ok=True)
        os.close(self._handle)
        return None

    def _make_room(self, size: int) -> None:
        if size > self._options.size_bytes // 2:
            raise UsageError("one tick is larger than half a segment", "raise the segment size or cap the batch")
        self.roll()

    def _open(self) -> tuple[int, Path, int]:
        created = self._now_ns()
        header = frame(msgspec.msgpack.encode(Header(self._worker, created)))
        path = self._folder / f"{created:020d}-{self._worker}{OPEN_SUFFIX}"
        while path.exists() or path.with_suffix(CLOSED_SUFFIX).exists():
            created += 1
            path = self._folder / f"{created:020d}-{self._worker}{OPEN_SUFFIX}"
        # The lock comes before the name: a sealer never sees an unlocked segment that has a writer.
        hidden = path.with_name(f".{path.name}")
        try:
            handle = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise UnreachableError("no segment can be opened", "repair the disk under segments/") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(handle, 0, self._options.size_bytes)
            self._write(handle, header, 0)
            hidden.rename(path)
        except OSError as error:
            hidden.unlink(missing_ok=True)
            os.close(handle)
            raise UnreachableError("no room for a segment of decisions", "free space under segments/") from error
        return handle, path, len(header)

    def _close(self) -> Path:
        os.ftruncate(self._handle, self._offset)
        closed = self._path.with_suffix(CLOSED_SUFFIX)
        self._path.rename(closed)
        os.close(self._handle)
        return closed

    def _write(self, handle: int, block: bytes, offset: int) -> None:
        try:
            done = os.pwrite(handle, block, offset)
            while done < len(block):  # only a signal or a quota cuts a write into a preallocated file
                done += os.pwrite(handle, memoryview(block)[done:], offset + done)
            if self._options.fsync:
                os.fdatasync(handle)
        except OSError as error:
            raise UnreachableError("decisions cannot be written", "repair the disk under segments/") from error
