"""The transparency log as a dossier reads it: entries that give exactly the checkpoint's root.

Contract. `open` checks the checkpoint's signature under the given key. Construction computes the tree over
every entry and refuses entries that do not give the signed root, so that whatever is read from
here was logged; a proof is made for each entry used and checked again, and can be checked by
anybody who holds the checkpoint alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from interlock.base.errors import IntegrityError
from interlock.governance.dossier import Evidence
from interlock.trust import merkle
from interlock.trust.event import Event, parse_entry
from interlock.trust.log import LogReader
from interlock.trust.note import Checkpoint, Verifier


class EntriesLedger:
    """`Ledger` over the entries of a whole log.

    Args:
        entries: the log's entries in order; those after the checkpoint's size are left out.
        tree: the verified checkpoint.

    Raises:
        IntegrityError: the entries do not give the checkpoint's root, or one is no event.
    """

    def __init__(self, entries: Sequence[bytes], tree: Checkpoint) -> None:
        self._entries = list(entries[: tree.size])
        self._tree = tree
        if len(self._entries) != tree.size or merkle.root(self._entries) != tree.root:
            raise IntegrityError("the log's entries do not give its checkpoint's root", "run `interlock audit verify`")
        self._events = [parse_entry(entry, index) for index, entry in enumerate(self._entries)]

    @classmethod
    def open(cls, folder: Path, vkey: str) -> EntriesLedger:
        """The log in a folder, under its signed checkpoint.

        Raises:
            UsageError: the key is malformed.
            IntegrityError: signature, entries or root do not hold.
        """
        reader = LogReader.open(folder, Verifier.parse(vkey))
        return cls(list(reader.entries()), reader.checkpoint)

    def events(self, kinds: Collection[str]) -> list[Event]:
        """The logged events of these types, by log index."""
        return [event for event in self._events if event.type in kinds]

    def prove(self, index: int) -> Evidence:
        """A checked inclusion proof of one entry, as plain values."""
        if not 0 <= index < self._tree.size:
            raise IntegrityError("the entry lies beyond the checkpoint", "wait for the next checkpoint")
        leaf = merkle.leaf_hash(self._entries[index])
        path = merkle.inclusion_proof(self._entries, index)
        merkle.verify_inclusion(leaf, index, self._tree.size, path, self._tree.root)
        return {
            "log": self._tree.origin,
            "log_index": index,
            "log_size": self._tree.size,
            "log_root": self._tree.root.hex(),
            "leaf": leaf.hex(),
            "path": [each.hex() for each in path],
        }
