"""Small real artefacts for tests: bundles whose model ONNX Runtime really runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from interlock.base.canonical import canonical
from interlock.features.definition import FRAUD, FeatureSet
from interlock.registry import bundle as bundles

CUTS = ((0.7, "STEP_UP"), (0.8, "REVIEW"), (0.9, "DECLINE"))


def tree_model(width: int, trees: int = 8, seed: int = 0, depth: int = 3) -> bytes:
    """A tree ensemble with random splits, float32 [n, width] → `probability` float32 [n, 1]."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {
        key: [] for key in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    inner = 2**depth - 1
    for tree in range(trees):
        for node in range(2 * inner + 1):
            leaf = node >= inner
            rows["treeids"].append(tree)
            rows["nodeids"].append(node)
            rows["featureids"].append(0 if leaf else int(rng.integers(width)))
            rows["modes"].append("LEAF" if leaf else "BRANCH_LT")
            rows["values"].append(0.0 if leaf else float(np.float32(rng.gamma(1.0, 20.0))))
            rows["truenodeids"].append(0 if leaf else 2 * node + 1)
            rows["falsenodeids"].append(0 if leaf else 2 * node + 2)
            if leaf:
                leaves["treeids"].append(tree)
                leaves["nodeids"].append(node)
                leaves["ids"].append(0)
                leaves["weights"].append(float(np.float32(rng.normal(0, 6 / trees**0.5))))
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["vectors"],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        base_values=[-1.0],
        **{f"nodes_{key}": values for key, values in rows.items()},
        **{f"target_{key}": values for key, values in leaves.items()},
    )
    graph = helper.make_graph(
        [node, helper.make_node("Sigmoid", ["margin"], ["probability"])],
        "tiny",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 15)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def tiny_files(  # long: each argument is one thing a test wants to vary
    version: str = "1.0.0",
    service: str = "fraud",
    features: FeatureSet = FRAUD,
    trees: int = 8,
    seed: int = 0,
    cuts: tuple[tuple[float, str], ...] = CUTS,
    lineage: Mapping[str, Any] | None = None,
    golden_off: float = 0.0,
) -> dict[str, bytes]:
    """The files of a small bundle, without its index; with `golden_off` no trial lets it pass."""
    model = tree_model(features.width, trees, seed)
    vectors = np.random.default_rng(seed + 1).gamma(1.0, 20.0, (32, features.width)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(["probability"], {"vectors": vectors})[0][:, 0]
    manifest = {
        "schema": 1,
        "service": service,
        "version": version,
        "feature_set": features.to_json(),
        "feature_set_digest": features.digest,
        "inputs": list(features.names),
        "request_schema": {"currencies": list(features.currencies)},
        "runtime": "onnx",
        "model": "model.onnx",
        "output": "probability",
    }
    documents: dict[str, Any] = {
        "manifest.json": manifest,
        "thresholds.json": {"schema": 1, "cuts": [{"at": at, "decision": decision} for at, decision in cuts]},
        "golden.json": {
            "schema": 1,
            "vectors": [[float(value) for value in row] for row in vectors],
            "scores": [float(score) + golden_off for score in scores],
        },
        "card.json": {"schema": 1, "service": service, "version": version, "purpose": "a test"},
        "lineage.json": {
            "schema": 1,
            "dataset": "blake2b-128:" + "0" * 32,
            "run_id": "test-run",
            "trained_by": "nobody",
            **(lineage or {}),
        },
    }
    return {"model.onnx": model, **{name: canonical(document) for name, document in documents.items()}}


def tiny_bundle(folder: Path, **options: Any) -> bundles.Bundle:
    """Write a small bundle below `folder` (the home's `bundles`) and read it back; options as `tiny_files`."""
    return bundles.read(folder, bundles.write(folder, tiny_files(**options)))


def read_json(data: bytes) -> Any:
    """The JSON in a bundle's file."""
    return json.loads(data)
