import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.errors import RefusedError, UsageError

WIDTH = 3


def graph(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], **fields: object) -> onnx.ModelProto:
    kind = fields.get("kind", TensorProto.FLOAT)
    shape = fields.get("shape", [None, WIDTH])
    source = helper.make_tensor_value_info("x", kind, shape)
    made = helper.make_graph(nodes, "g", [source], outputs, fields.get("weights", []))
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opset, ir_version=8)


def floats(name: str, *shape: int | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def logistic(shape: tuple[int | None, ...] = (None, 1)) -> bytes:
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=int(len(shape) == 2)),
        helper.make_node("Sigmoid", ["sum"], ["probability"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    return graph(nodes, [floats("probability", *shape)], weights=[axis]).SerializeToString()


def trees(count: int, depth: int, seed: int = 7) -> bytes:
    """A forest of full trees: the shape of work a boosted model gives the runtime."""
    rng = np.random.default_rng(seed)
    inner, total = 2**depth - 1, 2 ** (depth + 1) - 1
    node = np.arange(total)
    modes = (["BRANCH_LT"] * inner + ["LEAF"] * (total - inner)) * count
    attributes = {
        "nodes_treeids": np.repeat(np.arange(count), total),
        "nodes_nodeids": np.tile(node, count),
        "nodes_featureids": rng.integers(0, WIDTH, total * count),
        "nodes_values": rng.random(total * count).astype(np.float32),
        "nodes_truenodeids": np.tile(np.where(node < inner, 2 * node + 1, 0), count),
        "nodes_falsenodeids": np.tile(np.where(node < inner, 2 * node + 2, 0), count),
        "target_treeids": np.repeat(np.arange(count), total - inner),
        "target_nodeids": np.tile(node[inner:], count),
        "target_ids": np.zeros((total - inner) * count, np.int64),
        "target_weights": (rng.standard_normal((total - inner) * count) * 0.1).astype(np.float32),
    }
    plain = {name: values.tolist() for name, values in attributes.items()}
    forest = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["probability"],
        domain="ai.onnx.ml",
        nodes_modes=modes,
        n_targets=1,
        post_transform="LOGISTIC",
        **plain,
    )
    return graph([forest], [floats("probability", None, 1)]).SerializeToString()


def test_scores_are_one_float32_a_row() -> None:
    for shape in ((None, 1), (None,)):
        scores = OnnxRuntime.from_bytes(logistic(shape)).run(np.zeros((4, WIDTH), np.float32))
        assert scores.shape == (4,)
        assert scores.dtype == np.float32
        assert scores.tolist() == [0.5] * 4


def test_the_width_is_the_models() -> None:
    assert OnnxRuntime.from_bytes(logistic()).width == WIDTH


def test_of_two_columns_the_last_is_the_score() -> None:
    node = helper.make_node("Identity", ["x"], ["probabilities"])
    model = graph([node], [floats("probabilities", None, 2)], shape=[None, 2]).SerializeToString()
    assert OnnxRuntime.from_bytes(model).run(np.array([[0.9, 0.1]], np.float32)).tolist() == [np.float32(0.1)]


def test_a_row_scores_the_same_bits_alone_and_in_any_batch() -> None:
    runtime = OnnxRuntime.from_bytes(trees(60, 5))
    rows = np.random.default_rng(1).random((130, WIDTH), dtype=np.float32)
    together = runtime.run(rows)
    assert len(set(together.tolist())) > 50
    for size in (1, 2, 3, 7, 16, 64):
        parts = [runtime.run(rows[at : at + size]) for at in range(0, len(rows), size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_the_interpreter_runs_while_a_model_does() -> None:
    runtime = OnnxRuntime.from_bytes(trees(400, 7))
    rows = np.random.default_rng(1).random((3_000, WIDTH), dtype=np.float32)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (runtime.run(rows), done.set()))
    thread.start()
    ticks = 0
    while not done.is_set():
        ticks += 1
        time.sleep(0)
    thread.join()
    assert ticks > 10


def test_bytes_that_are_no_model_are_refused() -> None:
    for data in (b"", b"not a model", logistic()[:40]):
        with pytest.raises(RefusedError, match="cannot load"):
            OnnxRuntime.from_bytes(data)


def test_weights_in_another_file_are_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # type: ignore[arg-type]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [WIDTH], [1, 2, 3])
    with open("weights.bin", "wb") as file:
        file.write(np.array([1, 2, 3], np.float32).tobytes())
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("Mul", ["x", "w"], ["probability"])
    model = graph([node], [floats("probability", None, WIDTH)], weights=[weights])
    with pytest.raises(RefusedError):
        OnnxRuntime.from_bytes(model.SerializeToString())


def test_an_input_or_output_of_another_kind_is_refused() -> None:
    node = helper.make_node("Identity", ["x"], ["probability"])
    doubles = helper.make_tensor_value_info("probability", TensorProto.DOUBLE, [None, WIDTH])
    with pytest.raises(UsageError, match="float32"):
        OnnxRuntime.from_bytes(graph([node], [doubles], kind=TensorProto.DOUBLE).SerializeToString())
    with pytest.raises(UsageError, match="float32"):
        OnnxRuntime.from_bytes(graph([node], [floats("probability", None)], shape=[None]).SerializeToString())
    with pytest.raises(UsageError, match="probability"):
        OnnxRuntime.from_bytes(logistic(), output="score")
