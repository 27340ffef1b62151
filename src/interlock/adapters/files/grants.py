"""`trust/access.yaml` on disk: one editor at a time, replaced whole.

Contract. `editing` holds an exclusive lock on `access.lock` beside the file; a write is atomic and
durable, so that a scorer which reads at any moment sees the grants of before or of after. A new
file is readable by its owner alone; an existing one keeps its mode. It holds digests, no secrets,
but whoever can write it decides who may score.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.base.files import write_atomic


class GrantsFile:
    """The file, while its lock is held."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes | None:
        """Its bytes; None: there is none yet."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        """Replace it; durable on return."""
        mode = stat.S_IMODE(self._path.stat().st_mode) if self._path.exists() else 0o600
        write_atomic(self._path, data, mode)


@contextmanager
def editing(trust: Path) -> Iterator[GrantsFile]:
    """The access file of a home's trust folder, locked."""
    trust.mkdir(parents=True, exist_ok=True)
    handle = os.open(trust / "access.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield GrantsFile(trust / "access.yaml")
    finally:
        os.close(handle)
