"""Models that were really trained, small, with their native booster: what explanations are about."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tests.builders import tiny_files

from interlock.adapters.onnx.export import OnnxExporter
from interlock.adapters.xgboost.explain import NATIVE
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.base.canonical import canonical
from interlock.decision import reasons
from interlock.features.definition import FRAUD
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.training.ports import Fitted

SMALL = {"rounds": 15, "max_depth": 3}
LINEAGE = {"dataset": "blake2b-128:" + "0" * 32, "run_id": "run-7", "commit": "c0ffee"}


def rows(count: int = 1200, seed: int = 0) -> np.ndarray:
    """Vectors of the fraud feature set with amounts and counts as a shop sees them, float32 [n, 61]."""
    rng = np.random.default_rng(seed)
    vectors = rng.gamma(1.0, 20.0, (count, FRAUD.width)).astype(np.float32)
    vectors[:, FRAUD.names.index("amount")] = rng.integers(100, 90_000, count)
    vectors[:, FRAUD.names.index("card_count_7d")] = rng.integers(0, 30, count)
    return vectors


@functools.cache
def fitted(seed: int = 0) -> Fitted:
    """A booster that looks at the amount and at this card's last week most."""
    vectors = rows(seed=seed)
    amount, count = (vectors[:, FRAUD.names.index(name)] for name in ("amount", "card_count_7d"))
    noise = np.random.default_rng(seed).normal(0, 10_000, len(vectors))
    return XgboostTrainer().fit(vectors, amount + 2_000 * count + noise > 70_000, FRAUD.names, SMALL, seed)


@functools.cache
def exported(seed: int = 0) -> tuple[bytes, str]:
    """The same booster as ONNX, and its score output."""
    return OnnxExporter().export(fitted(seed), FRAUD.width)


def trained_files(seed: int = 0, changes: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
    """The files of a trained bundle; `changes` puts other bytes in a file's place, or None to leave it out."""
    model, output = exported(seed)
    made: dict[str, Any] = dict(tiny_files(lineage=LINEAGE))
    golden = rows(32, seed + 100)
    manifest = bundles.Bundle("", made).manifest | {"output": output}
    scores = [float(score) for score in OnnxExporter().scores(model, output, golden)]
    vectors = [[float(value) for value in row] for row in golden]
    made |= {
        "model.onnx": model,
        "manifest.json": canonical(manifest),
        "golden.json": canonical({"schema": 1, "vectors": vectors, "scores": scores}),
        NATIVE: fitted(seed).model,
        reasons.FILE: canonical(reasons.default(FRAUD).to_json()),
        **(changes or {}),
    }
    return {name: data for name, data in made.items() if data is not None}


def trained_bundle(folder: Path, seed: int = 0, changes: Mapping[str, bytes | None] | None = None) -> Bundle:
    """Write a trained bundle below `folder` (the home's `bundles`) and read it back."""
    return bundles.read(folder, bundles.write(folder, trained_files(seed, changes)))
