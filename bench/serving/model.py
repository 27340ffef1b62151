"""The model that every contestant serves: XGBoost, 200 trees of depth 6, on the 61 columns of FRAUD.

Trained and exported by the product's own trainer and exporter on vectors drawn from a seed; the
labels follow a few products of columns, so that the trees grow to their full depth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from interlock.adapters.onnx.export import OnnxExporter
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.base.canonical import canonical
from interlock.features.definition import FRAUD
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.training.ports import Fitted

TREES = {"rounds": 200, "max_depth": 6, "learning_rate": 0.1, "min_child_weight": 1.0, "threads": 1}
ROWS = 10_000
CUTS = ((0.7, "STEP_UP"), (0.8, "REVIEW"), (0.9, "DECLINE"))
_GOLDEN = 32


def vectors(rows: int, seed: int) -> np.ndarray:
    """float32 [rows, 61]: non-negative, skewed, as counts and sums are."""
    return np.random.default_rng(seed).gamma(1.0, 60.0, (rows, FRAUD.width)).astype(np.float32)


def train(seed: int) -> Fitted:
    """The native model."""
    data = vectors(ROWS, seed)
    noise = np.random.default_rng(seed + 1).normal(0, 20, ROWS)
    score = np.sqrt(data[:, 0] * data[:, 5]) + np.sqrt(data[:, 10] * data[:, 20]) - data[:, 30:40].mean(1) + noise
    return XgboostTrainer().fit(data, score > np.quantile(score, 0.8), FRAUD.names, TREES, seed)


def write_bundle(folder: Path, version: str, seed: int) -> Bundle:
    """Train, export, and write a bundle below `folder`."""
    fitted = train(seed)
    exporter = OnnxExporter()
    onnx, output = exporter.export(fitted, FRAUD.width)
    golden = vectors(_GOLDEN, seed + 2)
    scores = exporter.scores(onnx, output, golden)
    documents = {
        "manifest.json": {
            "schema": 1,
            "service": "fraud",
            "version": version,
            "feature_set": FRAUD.to_json(),
            "feature_set_digest": FRAUD.digest,
            "inputs": list(FRAUD.names),
            "request_schema": {"currencies": list(FRAUD.currencies)},
            "runtime": "onnx",
            "model": "model.onnx",
            "output": output,
        },
        "thresholds.json": {"schema": 1, "cuts": [{"at": at, "decision": decision} for at, decision in CUTS]},
        "golden.json": {"schema": 1, "vectors": golden.tolist(), "scores": scores.tolist()},
        "card.json": {"schema": 1, "service": "fraud", "version": version, "purpose": "a benchmark"},
        "lineage.json": {
            "schema": 1,
            "dataset": "blake2b-128:" + "0" * 32,
            "run_id": "bench",
            "trained_by": "bench.serving",
        },
    }
    files = {
        "model.onnx": onnx,
        "explain/booster.ubj": fitted.model,
        **{name: canonical(document) for name, document in documents.items()},
    }
    return bundles.read(folder, bundles.write(folder, files))
