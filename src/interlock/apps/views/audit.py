"""The audit log as people read it: verified counts, and entries in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.base.clock import rfc3339
from interlock.base.errors import IntegrityError
from interlock.trust.event import parse_entry
from interlock.trust.fsck import Report
from interlock.trust.log import LogReader
from interlock.trust.merkle import leaf_hash, root_of, verify_inclusion
from interlock.trust.note import Verifier


def verified(report: Report) -> dict[str, Any]:
    """An offline verification: `{entries, root, verified, errors}`."""
    return {
        "entries": report.entries,
        "root": report.root,
        "verified": report.verified,
        "errors": list(report.errors),
    }


def entries(folder: Path, vkey: str, last: int | None, types: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Entries of a log under its signed checkpoint, oldest first.

    Args:
        folder: the log.
        vkey: its verifier key.
        last: only so many from the end; None: all.
        types: only these; empty: all.

    Raises:
        IntegrityError: what was read is not what the checkpoint covers.
    """
    reader = LogReader.open(folder, Verifier.parse(vkey))
    start = 0 if last is None or types else max(0, reader.checkpoint.size - last)
    found = []
    for index, entry in enumerate(_proven(reader, start), start=start):
        event = parse_entry(entry, index)
        if types and event.type not in types:
            continue
        found.append(
            {
                "index": index,
                "time": rfc3339(event.time_ns),
                "type": event.type,
                "actor": event.actor,
                "object": event.object,
                "outcome": event.outcome,
                "body": event.body,
            }
        )
    yield from found if last is None else found[-last:]


def _proven(reader: LogReader, start: int) -> list[bytes]:
    """Entries from `start` on, each under the signed root: whoever changed one must not be read as a witness."""
    read = list(reader.entries(start))
    checkpoint = reader.checkpoint
    if start:
        for index, entry in enumerate(read, start=start):
            path = reader.inclusion(index)
            verify_inclusion(leaf_hash(entry), index, checkpoint.size, path, checkpoint.root)
    elif root_of([leaf_hash(entry) for entry in read]) != checkpoint.root:
        raise IntegrityError(
            "the log's entries do not give the root of its checkpoint",
            "see what is damaged with `interlock audit verify`",
        )
    return read
