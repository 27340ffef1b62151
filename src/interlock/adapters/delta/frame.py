"""A snapshot's verified rows as the columns that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from interlock.adapters.delta.snapshots import Snapshot, events_of, latest, read, snapshots
from interlock.base.errors import UsageError
from interlock.training.frame import Frame

_INPUTS = ("mcc", "country")
_GROUPS = ("age_group", "country")


def choose(folder: Path, version: int | None) -> Snapshot:
    """The snapshot of that version; the newest for None.

    Raises:
        UsageError: there is none.
    """
    if version is None:
        return latest(folder)
    found = [snapshot for snapshot in snapshots(folder) if snapshot.version == version]
    if not found:
        raise UsageError(f"no snapshot of version {version}", "leave the version out to take the newest")
    return found[0]


def frame(folder: Path, snapshot: Snapshot) -> Frame:
    """Its rows, verified against the digest.

    Raises:
        UsageError: it has no labels.
    """
    table = read(folder, snapshot)
    if "label" not in table.column_names:
        raise UsageError("the snapshot has no labels", "write one with a column `label`")

    def columns(names: tuple[str, ...]) -> dict[str, np.ndarray[tuple[int], np.dtype[np.object_]]]:
        return {name: np.asarray(table.column(name).to_pylist()) for name in names if name in table.column_names}

    labels = table.column("label").to_numpy().astype(bool)
    return Frame(events_of(table), columns(_INPUTS), labels, columns(_GROUPS))
