"""Closes what writers left and seals what is closed.

Contract. A seal is final: sealing a segment again returns the first seal. Numbers are given under
a lock, from 1, without gaps, one series per home; the seal file `<number>-<segment>.seal` appears
atomically beside its segment, after the segment itself is durable. A segment is an orphan when
nobody holds its lock: its torn tail is cut and counted, then it is closed and sealed like any
other. Nothing here waits for a writer.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from interlock.base.canonical import digest_of
from interlock.base.errors import IntegrityError
from interlock.base.files import sync_folder, write_new
from interlock.decision import record, seal, segment
from interlock.decision.seal import Seal
from interlock.trust import merkle

SEAL_SUFFIX = ".seal"
BROKEN_SUFFIX = ".broken"
_LOCK = ".seals.lock"
_ABANDONED_S = 60


@dataclass(frozen=True)
class Sealed:
    """What one sweep did.

    Attributes:
        seals: new seals, in order of their numbers.
        orphans: segments whose writer was gone.
        broken: files without a whole header, set aside as `.broken`.
    """

    seals: list[Seal] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def sweep(folder: Path) -> Sealed:
    """Close every orphan, then seal every closed segment that has no seal yet.

    Raises:
        OSError: the disk refuses; what was sealed before stays sealed, call again.
    """
    done = Sealed()
    for path in sorted(folder.glob(f"*{segment.OPEN_SUFFIX}")):
        if not path.name.startswith("."):
            _adopt(path, done)
    _drop_abandoned(folder)
    with _locked(folder):
        known = numbers(folder)
        for path in sorted(folder.glob(f"*{segment.CLOSED_SUFFIX}")):
            if segment.name_of(path) not in known:
                done.seals.append(_seal(path, _next(known), 0))
                known[segment.name_of(path)] = done.seals[-1].number
    return done


def seal_segment(path: Path) -> Seal:
    """Seal one closed segment, or return the seal it has.

    Raises:
        IntegrityError: a frame of it is damaged.
    """
    with _locked(path.parent):
        known = numbers(path.parent)
        name = segment.name_of(path)
        if name in known:
            return seal.decode(seal_path(path.parent, known[name], name).read_bytes())
        return _seal(path, _next(known), 0)


def seals(folder: Path, after: int = 0) -> list[Seal]:
    """The seals with a number above `after`, ascending.

    Raises:
        IntegrityError: a seal file is damaged or does not carry its own number.
    """
    ordered = sorted(numbers(folder).items(), key=lambda item: item[1])
    return [read(folder, number, name) for name, number in ordered if number > after]


def read(folder: Path, number: int, name: str) -> Seal:
    """The seal of that number and segment.

    Raises:
        IntegrityError: its file is damaged or does not carry its own number.
    """
    found = seal.decode(seal_path(folder, number, name).read_bytes())
    if (found.number, found.segment) != (number, name):
        raise IntegrityError("a seal file was renamed", "restore it from the log's segment.sealed")
    return found


def seal_path(folder: Path, number: int, name: str) -> Path:
    """Where the seal of that number and segment lies."""
    return folder / f"{number:08d}-{name}{SEAL_SUFFIX}"


def _seal(path: Path, number: int, cut: int) -> Seal:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    sync_folder(path.parent)
    data = path.read_bytes()
    content = segment.parse(data)
    if content.cut or content.length != len(data):
        raise IntegrityError(f"{path.name} has a damaged frame", "keep it, and restore a copy before sealing")
    times = [record.decode(payload).received_ns for payload in (content.payloads[:1] + content.payloads[-1:])]
    made = Seal(
        segment=segment.name_of(path),
        number=number,
        records=len(content.payloads),
        bytes=len(data),
        sha256=digest_of(data),
        root=merkle.root(content.payloads).hex(),
        first_ns=times[0] if times else 0,
        last_ns=times[-1] if times else 0,
        cut=cut,
    )
    write_new(seal_path(path.parent, number, made.segment), seal.encode(made))
    return made


def _adopt(path: Path, done: Sealed) -> None:
    """Close an open segment whose writer is gone; leave one that is being written."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # its writer closed it meanwhile
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_ino == path.stat().st_ino:
            _close_orphan(path, handle, done)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(handle)


def _close_orphan(path: Path, handle: int, done: Sealed) -> None:
    try:
        content = segment.read(path)
    except IntegrityError:
        path.rename(path.with_suffix(BROKEN_SUFFIX))
        done.broken.append(segment.name_of(path))
        return
    done.orphans.append(segment.name_of(path))
    if not content.payloads and not content.cut:
        path.unlink()
        return
    os.ftruncate(handle, content.length)
    closed = path.with_suffix(segment.CLOSED_SUFFIX)
    path.rename(closed)
    with _locked(path.parent):
        done.seals.append(_seal(closed, _next(numbers(path.parent)), content.cut))


def _drop_abandoned(folder: Path) -> None:
    """Remove segments that died between their creation and their first name."""
    for path in folder.glob(f".*{segment.OPEN_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                path.unlink()
        except FileNotFoundError:
            continue


def numbers(folder: Path) -> dict[str, int]:
    """Segment name → seal number, from the names of the seal files alone."""
    found: dict[str, int] = {}
    for path in folder.glob(f"*{SEAL_SUFFIX}"):
        number, _, name = path.name.removesuffix(SEAL_SUFFIX).partition("-")
        if number.isdigit():
            found[name] = int(number)
    return found


def _next(known: dict[str, int]) -> int:
    return max(known.values(), default=0) + 1


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
