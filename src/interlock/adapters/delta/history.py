"""`governance.recompute.BaseEvents` over the snapshots of one installation.

The snapshot is found by its digest among all tables and verified whole before a row of it is
used; then only the rows of the asked entities are turned into Python values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from interlock.adapters.delta import snapshots
from interlock.base.clock import NS_PER_MS
from interlock.base.errors import UsageError


class SnapshotHistory:
    """Reads entities' events out of base snapshots.

    Args:
        tables: the home's `tables`, one folder per table.
    """

    def __init__(self, tables: Path) -> None:
        self._tables = tables
        self._verified: dict[str, pa.Table] = {}

    def __call__(self, digest: str, tokens: Mapping[str, str]) -> dict[str, list[tuple[int, int]]]:
        """(event_ms, amount) of each entity in the snapshot's order, by kind.

        Raises:
            UsageError: no table at hand has that snapshot.
            IntegrityError: its rows are not those of its digest.
        """
        table = self._verified.get(digest)
        if table is None:
            table = self._verified[digest] = self._read(digest)
        return {kind: _events(table, kind, token) for kind, token in tokens.items()}

    def _read(self, digest: str) -> pa.Table:
        folders = sorted(path for path in self._tables.glob("*") if path.is_dir()) if self._tables.is_dir() else []
        for folder in folders:
            for snapshot in snapshots.snapshots(folder):
                if snapshot.digest == digest:
                    return snapshots.read(folder, snapshot)
        raise UsageError("the base snapshot is not at hand", "restore the table that the store was loaded from")


def _events(table: pa.Table, kind: str, token: str) -> list[tuple[int, int]]:
    rows = table.filter(pc.equal(table.column(kind), token))
    times = rows.column("event_time").to_pylist()
    return [(at // NS_PER_MS, amount) for at, amount in zip(times, rows.column("amount").to_pylist(), strict=True)]
