"""The reading side of a home's segments: find a decision, prove it, list what touched an entity.

Contract. Nothing is written. A sealed segment is believed only when its bytes have the length and
digest its seal states; one that is not sealed yet is read up to its torn tail and says so. Files
are searched as bytes first and decoded only where they match. A decision's id states its time and
a segment's name when it was begun, and a worker writes one segment after the other: so a lookup
reads the few segments of that time first, however long the history is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from interlock.base.canonical import digest_of
from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.ids import uuid7_ns
from interlock.decision import record as records
from interlock.decision import sealing, segment
from interlock.decision.record import DecisionRecord
from interlock.decision.seal import Seal
from interlock.trust import merkle

SLACK_NS = 60 * NS_PER_S
"""A record is written at most so long after it was received, and no clock was set back by more."""


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
    def _numbers(self) -> dict[str, int]:
        return sealing.numbers(self._folder) if self._folder.is_dir() else {}

    @cached_property
    def _read_seals(self) -> dict[str, Seal]:
        return {}

    def _seal(self, name: str) -> Seal | None:
        number = self._numbers.get(name)
        if number is None:
            return None
        if name not in self._read_seals:
            self._read_seals[name] = sealing.read(self._folder, number, name)
        return self._read_seals[name]

    def find(self, decision_id: str, everywhere: bool = True) -> Found | None:
        """The record of that decision, or None when every segment looked at is whole and none holds it.

        Args:
            decision_id: UUIDv7.
            everywhere: False looks at the segments of the id's own time alone, which is enough unless a clock was
                set back by more than `SLACK_NS`; it is for callers that anybody may keep busy.

        Raises:
            IntegrityError: a segment is not what its seal says, so that the record may have been in it.
        """
        needle = decision_id.encode()
        known = self._known()
        at = uuid7_ns(decision_id)
        near = [] if at is None else self._since(known, at - SLACK_NS, at + SLACK_NS)
        rest = sorted(set(known) - set(near)) if everywhere else []
        for name in [*_nearest_first(near, at or 0), *rest]:
            data = self._bytes(name)
            if needle in data:
                for found in self._matching(name, data, [needle]):
                    if found.record.decision_id == decision_id:
                        return found
        for name in [*near, *rest]:
            if data := self._bytes(name):
                self._parsed(name, data)
        return None

    def latest(self, service: str, transaction_id: str, since_ns: int = 0) -> Found | None:
        """The last record of that transaction, sent to that service at `since_ns` or later, or None.

        An id may come again once its window is over, and a retry may be written by another worker: the record
        received last is the one that was answered last.

        Raises:
            IntegrityError: a segment that holds one is not what its seal says.
        """
        needle = transaction_id.encode()
        wanted = set(names := self._since(self._known(), since_ns))
        best: Found | None = None
        for name in reversed(names):
            data = self._bytes(name) if name in wanted else b""
            if needle not in data:
                continue
            for found in self._matching(name, data, [needle]):
                one = found.record
                if (one.called, one.transaction_id) == (service, transaction_id) and one.received_ns >= max(
                    since_ns, best.record.received_ns if best else 0
                ):
                    best = found
            if best is not None:
                wanted = set(self._since(names, best.record.received_ns - SLACK_NS))
        return best

    def touching(self, tokens: Collection[str]) -> Iterator[Found]:
        """Every record whose inputs name one of these entity tokens, oldest segment first.

        Raises:
            IntegrityError: a segment that holds one is not what its seal says.
        """
        needles = [token.encode() for token in tokens]
        for name, data in self._files():
            if any(needle in data for needle in needles):
                yield from self._matching(name, data, needles)

    def records(self, since_ns: int = 0, until_ns: int | None = None) -> Iterator[DecisionRecord]:
        """The records received from one time to another, or all, oldest segment first.

        Raises:
            IntegrityError: a segment that may hold one is not what its seal says.
        """
        if not since_ns and until_ns is None:
            for name, data in self._files():
                yield from self._parsed(name, data).records()
            return
        until_slack = None if until_ns is None else until_ns + SLACK_NS
        for name in self._since(self._known(), since_ns - SLACK_NS, until_slack):
            data = self._bytes(name)
            if data or name in self._numbers:
                for record in self._parsed(name, data).records():
                    if since_ns <= record.received_ns and (until_ns is None or record.received_ns < until_ns):
                        yield record

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

    def _known(self) -> list[str]:
        """Every segment's name, ascending: of those that are there, and of those that have a seal."""
        sealed = set(self._numbers)  # before the folder is listed: what is sealed meanwhile is listed too
        return sorted(sealed | set(self._paths()))

    def _paths(self) -> dict[str, Path]:
        if not self._folder.is_dir():
            return {}
        suffixes = (segment.CLOSED_SUFFIX, segment.OPEN_SUFFIX)
        return {segment.name_of(p): p for p in self._folder.iterdir() if p.suffix in suffixes and p.name[0] != "."}

    def _since(self, names: Sequence[str], from_ns: int, to_ns: int | None = None) -> list[str]:
        """Of ascending names, those that may hold a record received between the two times, ascending.

        That is, what was begun between them, and each worker's last segment before, unless its seal says that
        it ended earlier.
        """
        before: dict[str, str] = {}
        found = []
        for name in names:
            begun, _, worker = name.partition("-")
            if not begun.isdigit() or from_ns <= int(begun) <= (int(begun) if to_ns is None else to_ns):
                found.append(name)
            elif int(begun) < from_ns:
                before[worker] = name
        for name in before.values():
            seal = self._seal(name)
            if seal is None or seal.last_ns >= from_ns:
                found.append(name)
        return sorted(found)

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for name in sorted(self._paths()):
            if data := self._bytes(name):
                yield name, data

    def _bytes(self, name: str) -> bytes:
        closed = self._folder / f"{name}{segment.CLOSED_SUFFIX}"
        # Its writer may close it between two looks: it is closed, or open, or closed by now.
        for path in (closed, closed.with_suffix(segment.OPEN_SUFFIX), closed):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                continue
        if name in self._numbers:
            raise IntegrityError("a sealed segment is gone", "restore it: its digest is in the log")
        return b""  # it held no record, and its writer removed it

    def _parsed(self, name: str, data: bytes) -> segment.Segment:
        seal = self._seal(name)
        if seal is not None and (len(data), digest_of(data)) != (seal.bytes, seal.sha256):
            raise IntegrityError("a sealed segment was altered", "keep it as evidence and restore a copy")
        return segment.parse(data)

    def _matching(self, name: str, data: bytes, needles: list[bytes]) -> Iterator[Found]:
        for index, payload in enumerate(self._parsed(name, data).payloads):
            if any(needle in payload for needle in needles):
                yield Found(records.decode(payload), payload, index, name, self._seal(name))


def _nearest_first(names: Sequence[str], at_ns: int) -> list[str]:
    """What was begun last before that time, going back; then what was begun after it."""
    begun = [name for name in names if name[:20] <= f"{at_ns + NS_PER_MS:020d}"]
    return [*reversed(begun), *names[len(begun) :]]
