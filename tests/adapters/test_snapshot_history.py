from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from interlock.adapters.delta.history import SnapshotHistory
from interlock.adapters.delta.snapshots import write_snapshot
from interlock.base.errors import IntegrityError, UsageError

MS = 1_000_000


def table(rows: int, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    tokens = {kind: [f"{kind}{n}" for n in rng.integers(5, size=rows)] for kind in ("card", "terminal", "device", "ip")}
    # Out of time order on purpose: the snapshot's order is the sequence.
    times = rng.integers(0, 10_000, rows) * MS + 7
    return pa.table(
        {"event_time": pa.array(times, pa.int64()), **tokens, "amount": pa.array(rng.integers(1, 99, rows))}
    )


def test_an_entitys_events_come_in_the_snapshots_order(tmp_path: Path) -> None:
    events = table(300)
    write_snapshot(tmp_path / "other", table(10, seed=2), "other", "a test")
    snapshot = write_snapshot(tmp_path / "base", events, "base", "a test")
    found = SnapshotHistory(tmp_path)(snapshot.digest, {"card": "card3", "ip": "ip1", "device": "nobody"})
    rows = events.to_pylist()
    for kind, token in (("card", "card3"), ("ip", "ip1")):
        assert found[kind] == [(row["event_time"] // MS, row["amount"]) for row in rows if row[kind] == token]
        assert len(found[kind]) > 10
    assert found["device"] == []


def test_an_older_version_is_found_by_its_digest(tmp_path: Path) -> None:
    first = write_snapshot(tmp_path / "base", table(20, seed=3), "base", "a test")
    write_snapshot(tmp_path / "base", table(30, seed=4), "base", "a test")
    found = SnapshotHistory(tmp_path)(first.digest, {"card": "card0"})
    assert len(found["card"]) == sum(row["card"] == "card0" for row in table(20, seed=3).to_pylist())


def test_a_snapshot_that_is_not_there_or_altered_is_said(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "base", table(20), "base", "a test")
    with pytest.raises(UsageError, match="not at hand"):
        SnapshotHistory(tmp_path)("blake2b-128:" + "0" * 32, {"card": "card0"})
    with pytest.raises(UsageError, match="not at hand"):
        SnapshotHistory(tmp_path / "nowhere")(snapshot.digest, {"card": "card0"})
    for path in (tmp_path / "base").glob("*.parquet"):
        path.unlink()
    with pytest.raises(IntegrityError):
        SnapshotHistory(tmp_path)(snapshot.digest, {"card": "card0"})
