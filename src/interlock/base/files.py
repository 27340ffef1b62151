"""Files on disk: atomic or append-only, nothing between.

*Durable* means: the bytes were fsynced, and so was the folder that names them. A reader sees
the old file or the new one, whole; a crash leaves at most a temporary file beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_SUN_PATH = 100
"""Longest socket path that every platform takes (`sun_path` holds 104 or 108 bytes with its NUL)."""


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the file's bytes durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` with `data`: temporary file, fsync, rename, fsync of the folder."""
    with replacing(path, mode) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """`write_atomic` for data that comes in pieces: `path` changes when the block ends well, else not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_new(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Create `path` durably; an existing file with the same bytes is fine.

    Raises:
        FileExistsError: it exists with other bytes (immutable paths are written once).
    """
    if path.exists():
        if path.read_bytes() != data:
            raise FileExistsError(f"{path.name} exists with other bytes")
        return
    write_atomic(path, data, mode)


def create_once(path: Path, make: Callable[[], bytes], mode: int = 0o600) -> bytes:
    """The bytes of `path`, made on first use; whoever comes first at once agrees on one content, whole."""
    if not path.exists():
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        write_atomic(scratch, make(), mode)
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return path.read_bytes()


def socket_address(path: Path) -> str:
    """An address for a unix socket at `path` that bind and connect take, however long the path is.

    A long path is reached through a descriptor of its folder, which this process keeps open;
    the address therefore means something in this process only. The folder must exist.
    """
    absolute = Path(os.path.abspath(path))
    if len(os.fsencode(absolute)) <= _SUN_PATH:
        return str(absolute)
    folder = absolute.parent
    return f"/proc/self/fd/{_folder_handle(folder, folder.stat().st_ino)}/{absolute.name}"


def listen_alone(path: Path) -> tuple[socket.socket, int]:
    """A listening unix socket that only its owner may open, and the lock that says who listens there.

    A socket that a dead process left is replaced. The lock (`<path>.lock`) holds until its
    descriptor is closed, at the latest when the process ends, however it ends.

    Raises:
        BlockingIOError: a process that lives listens there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_address(path))
    path.chmod(0o600)
    return listener, held


@functools.cache
def _folder_handle(folder: Path, inode: int) -> int:
    del inode  # part of the key: a folder made anew under the same name is another folder
    return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
