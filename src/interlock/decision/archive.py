"""The reading side of a home's segments: find a decision, prove it, list what touched an entity.

Contract. Nothing is written. A sealed segment is believed only when its bytes have the length and
digest its seal states; one that is not sealed yet is read up to its torn tail and says so. Files
are searched as bytes first and decoded only where they match, so that a lookup over a hundred
thousand decisions takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interlock.base.canonical import digest_of
from interlock.base.errors import IntegrityError, UsageError
from interlock.decision import record as records
from interlock.decision import sealing, segment
from interlock.decision.record import DecisionRecord
from interlock.decision.seal import Seal
from interlock.trust import merkle


@dataclass(frozen=True)
class Found:
    """A record where it lies.

    Attributes:
        record: the decoded record.
        payload: its bytes, a leaf of the segment's tree.
        index: its place among the segment's records.
        segment: the segment's name.
        seal: the segment's seal, or None while it has none.
    """

    record: DecisionRecord
    payload: bytes
    index: int
    segment: str
    seal: Seal | None


@dataclass(frozen=True)
class Inclusion:
    """Proof that a payload is leaf `index` of `size` under `root` (RFC 6962)."""

    index: int
    size: int
    root: bytes
    path: tuple[bytes, ...]


class Archive:
    """The segments in one folder, as they are when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _seals(self) -> dict[str, Seal]:
        return {each.segment: each for each in sealing.seals(self._folder)} if self._folder.is_dir() else {}

    def find(self, decision_id: str) -> Found | None:
        """The record of that decision, or None when every sealed segment is whole and none holds it.

        Raises:
            IntegrityError: a segment is not what its seal says, so that the record may have been in it.
        """
        needle = decision_id.encode()
        for name, data in self._files():
            if needle in data:
                for found in self._matching(name, data, [needle]):
                    if found.record.decision_id == decision_id:
                        return found
        self._refuse_damage()
        return None

    def touching(self, tokens: Collection[str]) -> Iterator[Found]:
        """Every record whose inputs name one of these entity tokens, oldest segment first.

        Raises:
            IntegrityError: a segment that holds one is not what its seal says.
        """
        needles = [token.encode() for token in tokens]
        for name, data in self._files():
            if any(needle in data for needle in needles):
                yield from self._matching(name, data, needles)

    def records(self) -> Iterator[DecisionRecord]:
        """Every record of every segment, oldest segment first."""
        for name, data in self._files():
            yield from self._parsed(name, data).records()

    def proof(self, found: Found) -> Inclusion:
        """Proof that the record belongs to its segment's sealed root.

        Raises:
            UsageError: the segment has no seal yet.
            IntegrityError: the segment is gone, or not what its seal says.
        """
        if found.seal is None:
            raise UsageError("the segment is not sealed yet", "wait for the next seal, or ask the supervisor for one")
        path = self._folder / f"{found.segment}{segment.CLOSED_SUFFIX}"
        if not path.exists():
            raise IntegrityError("a sealed segment is gone", "restore it: its digest is in the log")
        payloads = self._parsed(found.segment, path.read_bytes()).payloads
        root = merkle.root(payloads)
        if root.hex() != found.seal.root:
            raise IntegrityError("a segment's records do not give its sealed root", "keep both and restore a copy")
        path_hashes = merkle.inclusion_proof(payloads, found.index)
        return Inclusion(found.index, len(payloads), root, tuple(path_hashes))

    def _refuse_damage(self) -> None:
        missing = dict(self._seals)
        for name, data in self._files():
            self._parsed(name, data)
            missing.pop(name, None)
        if missing:
            raise IntegrityError("a sealed segment is gone", "restore it: its digest is in the log")

    def _files(self) -> Iterator[tuple[str, bytes]]:
        if not self._folder.is_dir():
            return
        suffixes = (segment.CLOSED_SUFFIX, segment.OPEN_SUFFIX)
        names = {segment.name_of(p): p for p in self._folder.iterdir() if p.suffix in suffixes and p.name[0] != "."}
        for name in sorted(names):
            try:
                yield name, names[name].read_bytes()
            except FileNotFoundError:  # its writer closed it after the listing
                yield name, names[name].with_suffix(segment.CLOSED_SUFFIX).read_bytes()

    def _parsed(self, name: str, data: bytes) -> segment.Segment:
        seal = self._seals.get(name)
        if seal is not None and (len(data), digest_of(data)) != (seal.bytes, seal.sha256):
            raise IntegrityError("a sealed segment was altered", "keep it as evidence and restore a copy")
        return segment.parse(data)

    def _matching(self, name: str, data: bytes, needles: list[bytes]) -> Iterator[Found]:
        for index, payload in enumerate(self._parsed(name, data).payloads):
            if any(needle in payload for needle in needles):
                yield Found(records.decode(payload), payload, index, name, self._seals.get(name))
