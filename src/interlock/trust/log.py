"""The transparency log on disk: C2SP tlog-tiles v0.1.0, one writer, any number of readers.

Layout: `checkpoint` (a signed note), `tile/<L>/<N>[.p/<W>]` (up to 256 hashes), `tile/entries/<N>[.p/<W>]`
(up to 256 entries, each a big-endian uint16 length and its bytes).

Contract. `append` returns when the entries are *durable*: their bundles, the hash tiles and last the
checkpoint that covers them are fsynced, as are the folders that name them. Paths other than
`checkpoint` are written once; other bytes under an existing name are an IntegrityError, also beyond
the checkpoint: indexes are durable before files are, so a crash's remainder holds the same bytes
(or, torn, their beginning), and anything else means that an older checkpoint was put back. The
writer recomputes the root when it opens, and never signs a tree that does not extend the last one
it knows. A lock on `.lock` keeps other writers out while one appends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.base.files import write_atomic
from interlock.trust import proof
from interlock.trust.event import MAX_ENTRY_BYTES
from interlock.trust.merkle import leaf_hash, root_of
from interlock.trust.note import Checkpoint, Signer, Verifier, open_checkpoint

WIDTH = 256
_EMPTY_ROOT = hashlib.sha256(b"").digest()
CHECKPOINT = "checkpoint"
LOCK = ".lock"


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """The path of a tile below the log's folder; level `entries` for entry bundles."""
    digits = f"{index:03d}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[start : start + 3] for start in range(0, len(digits), 3)]
    name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return f"tile/{level}/{name}" + ("" if width == WIDTH else f".p/{width}")


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unpack_entries(data: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        IntegrityError: the bundle ends inside an entry.
    """
    entries, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        if at + 2 + size > len(data):
            raise IntegrityError("an entry bundle ends inside an entry", "restore it from the mirror")
        entries.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return entries


class LogReader:
    """Reads a log under one checkpoint, from its folder alone."""

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        self._folder = folder
        self.checkpoint = checkpoint
        self._tiles: dict[tuple[int, int], bytes] = {}

    @classmethod
    def open(cls, folder: Path, verifier: Verifier) -> LogReader:
        """The log under its newest checkpoint.

        Raises:
            IntegrityError: there is none, or its signature does not hold.
        """
        return cls(folder, open_checkpoint(read_note(folder), verifier))

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Entries [start, stop), in order.

        Raises:
            IntegrityError: a bundle is missing or has another number of entries.
        """
        stop = self.checkpoint.size if stop is None else min(stop, self.checkpoint.size)
        for number in range(start // WIDTH, -(-stop // WIDTH)):
            first = number * WIDTH
            for index, entry in enumerate(self._bundle(number), start=first):
                if start <= index < stop:
                    yield entry

    def entry(self, index: int) -> bytes:
        """One entry.

        Raises:
            UsageError: the log has no such entry.
        """
        found = next(self.entries(index, index + 1), None)
        if found is None or index < 0:
            raise UsageError(f"the log has no entry {index}", f"it has {self.checkpoint.size}")
        return found

    def inclusion(self, index: int) -> list[bytes]:
        """The audit path of an entry under this checkpoint."""
        return proof.inclusion_path(index, self.checkpoint.size, self.subtree)

    def consistency(self, older: int) -> list[bytes]:
        """The proof that this checkpoint extends the tree of `older` entries."""
        return proof.consistency_path(older, self.checkpoint.size, self.subtree)

    def subtree(self, height: int, index: int) -> bytes:
        """The hash of a perfect subtree, out of the tiles."""
        level, inner = divmod(height, 8)
        first = index << inner
        tile = self.tile(level, first // WIDTH)
        start = first % WIDTH * 32
        hashes = [tile[at : at + 32] for at in range(start, start + (32 << inner), 32)]
        if any(len(each) != 32 for each in hashes):
            raise IntegrityError("a hash tile is too short", "restore it from the mirror")
        return root_of(hashes)

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile, as wide as this checkpoint makes it."""
        key = level, number
        if key not in self._tiles:
            count = self.checkpoint.size >> 8 * level
            width = min(WIDTH, count - number * WIDTH)
            data = self._read(tile_path(level, number, width))
            if len(data) != 32 * width:
                raise IntegrityError("a hash tile has another width than its name says", "restore it from the mirror")
            self._tiles[key] = data
        return self._tiles[key]

    def _bundle(self, number: int) -> list[bytes]:
        width = min(WIDTH, self.checkpoint.size - number * WIDTH)
        entries = unpack_entries(self._read(tile_path("entries", number, width)))
        if len(entries) != width:
            raise IntegrityError("an entry bundle has another number of entries", "restore it from the mirror")
        return entries

    def _read(self, path: str) -> bytes:
        try:
            return (self._folder / path).read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path} of the log is missing", "restore it from the mirror") from error


def read_note(folder: Path) -> str:
    """The text of the checkpoint file.

    Raises:
        IntegrityError: it is missing or no text.
    """
    try:
        return (folder / CHECKPOINT).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError("the log has no readable checkpoint", "restore it from the mirror") from error


class LogWriter:
    """Writes a log. One thread at a time; other processes are kept out by a lock and noticed.

    Args:
        folder: the log's folder; made when missing.
        signer: signs checkpoints; its name is the origin.
        write: replaces a file durably; tests hand in one that fails.

    Raises:
        IntegrityError: the tiles do not give the checkpoint's root, or the checkpoint is gone.
    """

    def __init__(self, folder: Path, signer: Signer, write: Callable[[Path, bytes], None] = write_atomic) -> None:
        self._folder = folder
        self._signer = signer
        self._replace = write
        self._levels: list[list[bytes]] = [[]]
        self._entries: list[bytes] = []
        self._note = ""
        self.checkpoint = Checkpoint(signer.name, 0, _EMPTY_ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            if (folder / CHECKPOINT).exists():
                self._load()
            elif (folder / "tile").exists():
                raise IntegrityError("the log has tiles and no checkpoint", "keep the folder; restore the checkpoint")
            else:
                self._sign()

    def refresh(self) -> None:
        """Take in what another process appended since; cheap when nobody did.

        Raises:
            IntegrityError: the folder's tree does not extend the one this writer knows.
        """
        if read_note(self._folder) == self._note:
            return
        before = self.checkpoint
        with self._alone():
            self._load()
        if self.size < before.size:
            raise IntegrityError("an older checkpoint was put back", "keep the folder; restore the log from its mirror")
        if before.size:
            path = self.reader().consistency(before.size)
            proof.verify_consistency((before.size, self.size), (before.root, self.checkpoint.root), path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        handle = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _load(self) -> None:
        note = read_note(self._folder)
        reader = LogReader(self._folder, open_checkpoint(note, self._signer.verifier))
        size = reader.checkpoint.size
        levels: list[list[bytes]] = []
        while size >> 8 * len(levels) or not levels:
            number, width = divmod(size >> 8 * len(levels), WIDTH)
            data = reader.tile(len(levels), number) if width else b""
            levels.append([data[at : at + 32] for at in range(0, len(data), 32)])
        entries = list(reader.entries(size - size % WIDTH))
        if [leaf_hash(entry) for entry in entries] != levels[0] or _root(levels) != reader.checkpoint.root:
            raise IntegrityError(
                "the log's tiles do not give the root of its checkpoint", "keep the folder; restore it from the mirror"
            )
        self._note, self.checkpoint, self._levels, self._entries = note, reader.checkpoint, levels, entries

    @property
    def size(self) -> int:
        """Entries under the checkpoint."""
        return self.checkpoint.size

    def reader(self) -> LogReader:
        """A reader under the current checkpoint."""
        return LogReader(self._folder, self.checkpoint)

    def append(self, entries: Sequence[bytes]) -> Checkpoint:
        """Add entries; durable on return.

        Raises:
            UsageError: an entry is longer than 65,535 bytes.
            IntegrityError: the folder holds other bytes under a name that is to be written.
            UnreachableError: the disk refuses, or another process appended since (`refresh` first).
        """
        if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
            raise UsageError("a log entry is longer than 65,535 bytes", "log the evidence's digest instead")
        if not entries:
            return self.checkpoint
        with self._alone():
            if read_note(self._folder) != self._note:
                raise UnreachableError("another process wrote to the log", "refresh and append again")
            before = self.checkpoint, [list(level) for level in self._levels], list(self._entries)
            try:
                self._extend(entries)
            except OSError as error:
                self.checkpoint, self._levels, self._entries = before
                raise UnreachableError(
                    f"the log cannot be written: {error.strerror}", "repair its disk or make room on it"
                ) from error
            except BaseException:
                self.checkpoint, self._levels, self._entries = before
                raise
        return self.checkpoint

    def _extend(self, entries: Sequence[bytes]) -> None:
        size = self.size
        for entry in entries:
            self._entries.append(entry)
            size += 1
            self._add(0, leaf_hash(entry), size)
            if size % WIDTH == 0:
                self._write(tile_path("entries", size // WIDTH - 1), pack_entries(self._entries))
                self._entries = []
        self._write_partials(size)
        self.checkpoint = Checkpoint(self._signer.name, size, _root(self._levels))
        self._sign()

    def _add(self, level: int, node: bytes, size: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(node)
        if len(hashes) == WIDTH:
            number = (size >> 8 * (level + 1)) - 1
            self._write(tile_path(level, number), b"".join(hashes))
            self._levels[level] = []
            self._add(level + 1, root_of(hashes), size)

    def _write_partials(self, size: int) -> None:
        for level, hashes in enumerate(self._levels):
            if hashes:
                self._write(tile_path(level, size >> 8 * (level + 1), len(hashes)), b"".join(hashes))
        if self._entries:
            self._write(tile_path("entries", size >> 8, len(self._entries)), pack_entries(self._entries))

    def _write(self, path: str, data: bytes) -> None:
        target = self._folder / path
        try:
            there = target.read_bytes()
        except FileNotFoundError:
            there = b""
        if there == data:
            return
        if not data.startswith(there):
            raise IntegrityError(
                f"{path} of the log holds other bytes", "an older checkpoint was put back: restore the log's mirror"
            )
        self._replace(target, data)

    def _sign(self) -> None:
        note = self._signer.sign(self.checkpoint.to_text())
        self._replace(self._folder / CHECKPOINT, note.encode())
        self._note = note


def _root(levels: Sequence[list[bytes]]) -> bytes:
    """The root over the right edge of the tiles, which holds all that is needed."""
    tail: list[bytes] = []
    for hashes in levels:
        nodes = hashes + tail
        tail = [root_of(nodes)] if nodes else []
    return tail[0] if tail else _EMPTY_ROOT
