"""Files on disk: atomic or append-only, nothing between.

*Durable* means: the bytes were fsynced, and so was the folder that names them. A reader sees
the old file or the new one, whole; a crash leaves at most a temporary file beside it.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` with `data`: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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
