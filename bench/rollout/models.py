"""The versions that the rollout bench releases: trained models under new versions, and bad ones made of them.

Every version is a bundle of its own, registered like a trained one. *Good* versions hold the very
files of one of two trainings. *Bad* ones are a trained model with one thing changed: thresholds that
flag everybody, golden scores that it does not give, or a graph that raises or never returns on what
live traffic brings and the golden vectors do not (amounts above a limit).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from interlock.base.canonical import canonical
from interlock.registry.bundle import Bundle

AMOUNT = "amount"
OPSET = 15
BALLAST_WIDTH = 512
"""Side of the square matrix of the ballast: 1 MiB of weights, about 30 µs a layer for one row."""


def renamed(bundle: Bundle, version: str, changes: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """The files of a bundle as another version of its service."""
    files = {**bundle.files, **(changes or {})}
    for name in ("manifest.json", "card.json"):
        files[name] = canonical({**msgspec.json.decode(files[name]), "version": version})
    return files


def flags_everybody(bundle: Bundle) -> dict[str, bytes]:
    """Thresholds that send every transaction to review."""
    return {"thresholds.json": canonical({"schema": 1, "cuts": [{"at": 0.0, "decision": "REVIEW"}]})}


def raises(bundle: Bundle) -> dict[str, bytes]:
    """A model that looks up beyond a table for amounts above the limit."""
    return _guarded(bundle, _lookup_nodes)


def hangs(bundle: Bundle) -> dict[str, bytes]:
    """A model that does not return for amounts above the limit."""
    return _guarded(bundle, _loop_nodes)


def misremembers(bundle: Bundle) -> dict[str, bytes]:
    """Golden scores that the model does not give: what was built is not what was trained."""
    golden = bundle.golden
    return {"golden.json": canonical({**golden, "scores": [1.0 - score for score in golden["scores"]]})}


def ballasted(bundle: Bundle, layers: int) -> dict[str, bytes]:
    """The same scores after `layers` dense layers whose result counts for nothing: a heavier model."""
    model = onnx.load_from_string(bundle.files["model.onnx"])
    graph = model.graph
    width = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    rng = np.random.default_rng(1)
    scale = 1.0 / BALLAST_WIDTH**0.5
    weights = {
        "ballast_in": rng.normal(0, scale, (width, BALLAST_WIDTH)),
        "ballast": rng.normal(0, scale, (BALLAST_WIDTH, BALLAST_WIDTH)),
        "ballast_out": np.zeros((BALLAST_WIDTH, 1)),
    }
    graph.initializer.extend(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items())
    nodes = [
        helper.make_node("Tanh", [graph.input[0].name], ["ballast_x"]),
        helper.make_node("MatMul", ["ballast_x", "ballast_in"], ["ballast_0"]),
    ]
    for layer in range(layers):
        nodes.append(helper.make_node("MatMul", [f"ballast_{layer}", "ballast"], [f"ballast_m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"ballast_m{layer}"], [f"ballast_{layer + 1}"]))
    nodes.append(helper.make_node("MatMul", [f"ballast_{layers}", "ballast_out"], ["ballast_zero"]))
    _add_to_score(model, bundle.manifest["output"], nodes, "ballast_zero")
    return {"model.onnx": _bytes(model)}


def _guarded(bundle: Bundle, nodes: Any) -> dict[str, bytes]:
    """A model that misbehaves above a limit, with golden vectors that stay below it."""
    model = onnx.load_from_string(bundle.files["model.onnx"])
    column = bundle.manifest["inputs"].index(AMOUNT)
    golden = bundle.golden
    amounts = np.array([row[column] for row in golden["vectors"]])
    limit = float(np.quantile(amounts, 0.5))
    kept = [number for number, amount in enumerate(amounts) if amount <= limit]
    _add_to_score(model, bundle.manifest["output"], nodes(model, column, limit), "bad_zero")
    seen = {
        "schema": 1,
        "vectors": [golden["vectors"][number] for number in kept],
        "scores": [golden["scores"][number] for number in kept],
    }
    return {"model.onnx": _bytes(model), "golden.json": canonical(seen)}


def _above_nodes(model: onnx.ModelProto, column: int, limit: float) -> list[onnx.NodeProto]:
    """`bad_above`, bool [n, 1]: which rows are above the limit."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([column], np.int64), "bad_column"))
    graph.initializer.append(numpy_helper.from_array(np.array([limit], np.float32), "bad_limit"))
    return [
        helper.make_node("Gather", [graph.input[0].name, "bad_column"], ["bad_amount"], axis=1),
        helper.make_node("Greater", ["bad_amount", "bad_limit"], ["bad_above"]),
    ]


def _lookup_nodes(model: onnx.ModelProto, column: int, limit: float) -> list[onnx.NodeProto]:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "bad_table"))
    return [
        *_above_nodes(model, column, limit),
        helper.make_node("Cast", ["bad_above"], ["bad_index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["bad_table", "bad_index"], ["bad_zero"], axis=0),
    ]


def _loop_nodes(model: onnx.ModelProto, column: int, limit: float) -> list[onnx.NodeProto]:
    """As many turns of an empty loop as take hours, when any row is above the limit."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_out"]),
            helper.make_node("Sin", ["sum"], ["sum_out"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1, 1]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [1, 1]),
        ],
    )
    initial = {
        "bad_turns": np.array(1 << 40, np.int64),
        "bad_go": np.array(True),
        "bad_start": np.zeros((1, 1), np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in initial.items())
    return [
        *_above_nodes(model, column, limit),
        helper.make_node("Cast", ["bad_above"], ["bad_count"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["bad_count"], ["bad_any"], keepdims=0),
        helper.make_node("Mul", ["bad_any", "bad_turns"], ["bad_trips"]),
        helper.make_node("Loop", ["bad_trips", "bad_go", "bad_start"], ["bad_zero"], body=body),
    ]


def _add_to_score(model: onnx.ModelProto, output: str, nodes: list[onnx.NodeProto], what: str) -> None:
    """Add a tensor [n or 1, 1] to the score, in front of its output."""
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == output:
                node.output[place] = "score_before"
    model.graph.node.extend([*nodes, helper.make_node("Add", ["score_before", what], [output])])


def _bytes(model: onnx.ModelProto) -> bytes:
    if all(each.domain for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid("", OPSET))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
