"""A model call that never comes back: its worker is replaced, and nobody notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tests.admitting import admit
from tests.builders import tiny_files
from tests.scoring import SALT, Scorer, Traffic, card, scorer, transaction

from interlock.adapters.files.keys import token_key
from interlock.base.canonical import canonical
from interlock.decision import record
from interlock.decision.split import bucket
from interlock.features.definition import FRAUD
from interlock.privacy.token import Tokeniser
from interlock.registry import bundle as bundles

FOREVER = 10**9
"""Amount that keeps the model below busy for about a quarter of an hour."""


def looping_model() -> bytes:
    """Counts to the amount before it answers: quick for every amount but an absurd one."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["seen", "one"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("seen", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    constants = {
        "first": np.array([0], np.int64),
        "past": np.array([1], np.int64),
        "columns": np.array([1], np.int64),
        "yes": np.array(True),
        "nothing": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "small": np.array(1e-20, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["vectors", "first", "past", "columns"], ["amounts"]),
            helper.make_node("ReduceMax", ["amounts"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["turns", "yes", "nothing"], ["counted"], body=body),
            helper.make_node("Mul", ["counted", "small"], ["hardly"]),
            helper.make_node("Add", ["amounts", "hardly"], ["margin"]),
            helper.make_node("Sigmoid", ["margin"], ["probability"]),
        ],
        "looping",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, [None, FRAUD.width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def looping_bundle(home: Scorer) -> bundles.Bundle:
    """An admitted bundle with that model."""
    files = tiny_files(version="1.1.0")
    model = looping_model()
    vectors = np.random.default_rng(5).gamma(1.0, 20.0, (32, FRAUD.width)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = session.run(["probability"], {"vectors": vectors})[0][:, 0]
    golden = {
        "schema": 1,
        "vectors": [[float(value) for value in row] for row in vectors],
        "scores": [float(score) for score in scores],
    }
    folder = home.settings.places.bundles
    made = bundles.read(folder, bundles.write(folder, files | {"model.onnx": model, "golden.json": canonical(golden)}))
    admit(home.home, made, home.office)
    return made


def test_a_worker_whose_model_hangs_serves_on_until_its_successor_is_ready(tmp_path: Path) -> None:
    with scorer(tmp_path, hang_s=0.5) as home:
        champion = home.serve()
        candidate = looping_bundle(home)
        home.load(candidate)
        home.client.install(home.table(champion, candidate, 1_000))
        before = home.workers()
        tokens = Tokeniser(token_key(home.settings.places.trust))
        one = next(n for n in range(100_000, 200_000) if bucket(bytes.fromhex(SALT), tokens.card(card(n))) < 1_000)
        with Traffic(home.address, rate=200) as traffic:
            traffic.flows(100)
            found = home.answer(transaction("poison", one, amount=FOREVER))
            assert (found["model_version"], found["degraded"]) == ("1.0.0", False)
            home.until(lambda: len(set(before) - set(home.workers())) == 1, "the hung worker has left")
            home.until(lambda: home.status().workers == 2, "its successor serves")
            traffic.flows(100)
        assert traffic.failed == []
        assert set(traffic.answered) <= {each.transaction_id for each in home.records()}
        (poison,) = [each for each in home.records() if each.transaction_id == "poison"]
        assert (poison.arm, poison.degraded) == ("champion", record.MISS)
        assert home.get("/v2/health/ready")[0] == 200
