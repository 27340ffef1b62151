"""What a batch is: its input, its model and its rules, in a form that every process reads alike.

Contract. `key` digests everything that decides an output byte: the input's bytes by part, the
bundle, the mode, the history, the layout of the output and the versions of what writes it. Work
found under a key is work on exactly this; anything else begins anew. `Desk` says that a step is
done only when its files are there with the digests that were noted after they were durable.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from interlock.base.canonical import canonical, sha256_hex
from interlock.base.errors import IntegrityError, RefusedError
from interlock.base.files import write_atomic

FORMAT = 1
RAW = "raw"
VECTORS = "vectors"
_PLAN = "plan.json"
_PIECE = 8 * 1_048_576


class PlannedPart(msgspec.Struct, frozen=True):
    """One file of the input: where it lies, its digest, and the rows of its row groups."""

    name: str
    path: str
    size: int
    mtime_ns: int
    digest: str
    groups: tuple[int, ...]


class Unit(msgspec.Struct, frozen=True):
    """One row group: what one process works on at a time.

    Attributes:
        number: among all units, in the input's order.
        part: index of its part.
        group: index of the row group in the part.
        start: the first row's place in its part.
    """

    number: int
    part: int
    group: int
    start: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A batch.

    Attributes:
        home: of the installation, whose token key and bundles are used.
        source: the input as it was named.
        mode: `raw` or `vectors`.
        columns: what is read of the input.
        admission: digest of the service folder that was approved; None: unadmitted, for research.
        history: digest of the snapshot that velocities start from; None: nothing.
        window_s: how long a transaction id keeps its first reply.
    """

    home: str
    source: str
    parts: tuple[PlannedPart, ...]
    mode: str
    columns: tuple[str, ...]
    service: str
    version: str
    bundle: str
    threshold_set: str
    feature_set: str
    admission: str | None
    history: str | None
    window_s: int
    with_vectors: bool
    packages: Mapping[str, str]
    format: int = FORMAT

    @property
    def units(self) -> tuple[Unit, ...]:
        """Every row group, in order."""
        found: list[Unit] = []
        for index, part in enumerate(self.parts):
            start = 0
            for group, rows in enumerate(part.groups):
                found.append(Unit(len(found), index, group, start))
                start += rows
        return tuple(found)

    @property
    def rows(self) -> int:
        """Rows of the input."""
        return sum(sum(part.groups) for part in self.parts)

    @property
    def input_digest(self) -> str:
        """`sha256:` over the names and digests of the parts."""
        return f"sha256:{sha256_hex(canonical([[part.name, part.digest] for part in self.parts]))}"

    @property
    def key(self) -> str:
        """32 hex digits: of everything that decides an output byte."""
        body = msgspec.to_builtins(self)
        parts = [[part.name, part.digest, list(part.groups)] for part in self.parts]
        kept = {name: value for name, value in body.items() if name not in ("home", "source", "parts")}
        return sha256_hex(canonical({**kept, "parts": parts}))[:32]

    def metadata(self) -> bytes:
        """What an output file says of itself: a claim for people, the manifest has the digests."""
        names = ("format", "mode", "service", "version", "bundle", "threshold_set", "feature_set", "history")
        body = {name: getattr(self, name) for name in names}
        body["admission"] = self.admission or "none: unadmitted research"
        body["edge_clock"] = "event_time" if self.mode == RAW else None
        return canonical(body | {"input": self.input_digest})


def read(path: Path) -> Plan:
    """The plan in a work folder.

    Raises:
        IntegrityError: it is none.
    """
    try:
        return msgspec.json.decode((path / _PLAN).read_bytes(), type=Plan)
    except (msgspec.MsgspecError, FileNotFoundError) as error:
        raise IntegrityError("a damaged plan of a batch", "remove the work folder and score again") from error


class _Done(msgspec.Struct, frozen=True):
    files: dict[str, str]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """The work folder of one batch."""

    folder: Path

    def finished(self, step: str) -> dict[str, Any] | None:
        """What was noted of a step that is done and whole; None: do it."""
        try:
            done = msgspec.json.decode((self.folder / f"{step}.json").read_bytes(), type=_Done)
            whole = all(_digest(self.folder / name) == digest for name, digest in done.files.items())
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return done.facts if whole else None

    def finish(self, step: str, files: Sequence[str], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Note that a step's files are durable; returns the facts."""
        done = _Done({name: _digest(self.folder / name) for name in files}, dict(facts))
        write_atomic(self.folder / f"{step}.json", canonical(msgspec.to_builtins(done)), 0o600)
        return done.facts


def open_desk(folder: Path, plan: Plan) -> tuple[Desk, int]:
    """The work folder of a plan, and the lock that this process holds on it while it lives.

    Raises:
        RefusedError: another run works on the same batch.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that has just ended removed its folder, and with it the file that we hold.
        if os.fstat(lock).st_ino != path.stat().st_ino:
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError) as error:
        os.close(lock)
        raise RefusedError("another run scores this very batch", "wait for it, or stop it") from error
    write_atomic(folder / _PLAN, msgspec.json.encode(plan), 0o600)
    return Desk(folder), lock


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
    return found.hexdigest()
