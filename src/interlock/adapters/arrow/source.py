"""Parquet in: a file, a folder of files, or a URI of `pyarrow.fs`, read a row group at a time.

Contract. The parts of a folder are its `*.parquet` files, however deep, in the order of their
names; names that begin with `.` or `_` are somebody's metadata. `Source.digest` hashes a part's
bytes; `Source.unchanged` tells whether a part still has the size and time it was hashed with, so
that nobody scores one file and reports another. A message never holds a cell of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from interlock.base.errors import IntegrityError, UnreachableError, UsageError

_PIECE = 8 * 1_048_576
_SUFFIX = ".parquet"


@dataclass(frozen=True)
class Part:
    """One file of an input.

    Attributes:
        name: its path below the input, `/` between folders.
        path: on the file system.
        size: bytes.
        mtime_ns: when it was last written; 0 where the store does not say.
    """

    name: str
    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Shape:
    """Columns (name, Arrow type) and the rows of each row group."""

    columns: tuple[tuple[str, str], ...]
    groups: tuple[int, ...]


def locate(place: str) -> tuple[Any, str]:
    """The file system and path of a local path or a URI (`file://`, `s3://`, `gs://`, …).

    Raises:
        UsageError: a URI of a kind that pyarrow does not know.
    """
    if "://" not in place:
        return fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        found, path = fs.FileSystem.from_uri(place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UsageError(
            f"not a place that can be read ({type(error).__name__})", "give a path, or a URI such as s3://bucket/key"
        ) from None
    return found, path


class Source:
    """An input and its parts.

    Args:
        place: path or URI.

    Raises:
        UsageError: nothing is there, or no Parquet.
    """

    def __init__(self, place: str) -> None:
        self._fs, path = locate(place)
        info = self._info(path)
        self.folder = info.type == fs.FileType.Directory
        if not self.folder:
            self.parts = [_part(info, info.base_name)]
            return
        inside = _reached(lambda: self._fs.get_file_info(fs.FileSelector(path, recursive=True)))
        start = len(path.rstrip("/")) + 1
        found = [_part(each, each.path[start:]) for each in inside if each.type == fs.FileType.File]
        self.parts = sorted((part for part in found if _is_data(part.name)), key=lambda part: part.name)
        if not self.parts:
            raise UsageError("a folder without Parquet files", f"give a folder with files that end in {_SUFFIX}")

    def digest(self, part: Part) -> str:
        """`sha256:` and the hex digest of the part's bytes."""
        found = hashlib.sha256()
        with _reached(lambda: self._fs.open_input_stream(part.path)) as stream:
            while piece := stream.read(_PIECE):
                found.update(piece)
        return f"sha256:{found.hexdigest()}"

    def shape(self, part: Part) -> Shape:
        """Columns and row groups, from the footer.

        Raises:
            UsageError: it is no Parquet file.
        """
        with self._open(part) as file:
            groups = tuple(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups))
            return Shape(tuple((each.name, str(each.type)) for each in file.schema_arrow), groups)

    def read(self, part: Part, group: int, columns: Sequence[str]) -> pa.Table:
        """Those of the columns that the part has, of one row group.

        Raises:
            UsageError: it cannot be read.
        """
        with self._open(part) as file:
            found = set(file.schema_arrow.names)
            try:
                return file.read_row_group(group, [name for name in columns if name in found], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(part, error) from None

    def unchanged(self, part: Part) -> bool:
        """Whether the part is still the file that was listed."""
        info = self._info(part.path)
        return (info.size, _mtime(info)) == (part.size, part.mtime_ns)

    def _open(self, part: Part) -> Any:
        try:
            return pq.ParquetFile(self._fs.open_input_file(part.path))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(part, error) from None

    def _info(self, path: str) -> Any:
        info = _reached(lambda: self._fs.get_file_info(path))
        if info.type == fs.FileType.NotFound:
            raise UsageError("there is no such input", "check the path or URI")
        return info


def part_of(data: Any) -> Part:
    """A part from its plain form (`dataclasses.asdict`)."""
    return Part(str(data["name"]), str(data["path"]), int(data["size"]), int(data["mtime_ns"]))


def refuse_changed(source: Source, parts: Sequence[Part]) -> None:
    """Raise if a part was written while it was read.

    Raises:
        IntegrityError: naming the part.
    """
    for part in parts:
        if not source.unchanged(part):
            raise IntegrityError(f"{part.name} changed while it was scored", "score it again once it is whole")


def _part(info: Any, name: str) -> Part:
    return Part(name, info.path, info.size, _mtime(info))


def _mtime(info: Any) -> int:
    return info.mtime_ns or 0


def _is_data(name: str) -> bool:
    return name.endswith(_SUFFIX) and not any(piece.startswith((".", "_")) for piece in name.split("/"))


def _reached(ask: Any) -> Any:
    try:
        return ask()
    except FileNotFoundError:
        raise UsageError("there is no such input", "check the path or URI") from None
    except OSError as error:
        raise UnreachableError(
            f"the input cannot be reached ({type(error).__name__})", "check its address and your rights"
        ) from None


def _unreadable(part: Part, error: Exception) -> UsageError:
    # The library's message may quote a cell, and a cell may be a card number.
    return UsageError(f"{part.name} cannot be read as Parquet ({type(error).__name__})", "write the file again")
