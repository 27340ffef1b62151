"""A standing shadow that fails, on a real scorer: everything is answered, errors are counted, no worker is missing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tests.admitting import admit
from tests.builders import tiny_files
from tests.failures.deployment import deployment
from tests.failures.load import Load, transaction
from tests.failures.scorer_home import ScorerHome, get, predict, scorer_home, until

from interlock.base.canonical import digest_hex
from interlock.decision.table import Arm
from interlock.registry import bundle as bundles
from interlock.wiring import control as rows

pytestmark = pytest.mark.process
TRIED = (1, 4, 16, 32, 64)


def breaking(model: bytes) -> bytes:
    """The model, which raises for every batch size that no trial calls it with."""
    made = onnx.load_from_string(model)
    graph = made.graph
    known = [0 if size in TRIED else 9 for size in range(65)]
    graph.initializer.extend(
        [
            helper.make_tensor("first", TensorProto.INT64, [], [0]),
            helper.make_tensor("known", TensorProto.INT64, [65], known),
            helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
        ]
    )
    graph.node[1].input[0] = "sum"
    steps = [
        helper.make_node("Shape", ["vectors"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["size"]),
        helper.make_node("Gather", ["known", "size"], ["place"]),
        helper.make_node("Gather", ["nothing", "place"], ["added"]),
        helper.make_node("Add", ["margin", "added"], ["sum"]),
    ]
    for place, node in enumerate(steps, 1):
        graph.node.insert(place, node)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


def shadow(home: ScorerHome) -> Arm:
    files = tiny_files(version="0.9.0", seed=5)
    files["model.onnx"] = breaking(files["model.onnx"])
    folder = home.places.bundles
    made = bundles.read(folder, bundles.write(folder, files))
    return Arm("shadow-1", made.digest, admit(home.home, made, home.office), "0.9.0")


def counted(home: ScorerHome, what: str) -> float:
    """A figure of the shadow on the metrics page."""
    name = f'interlock_shadow_{what}{{service="fraud",model_version="0.9.0",arm="shadow-1"}} '
    page = get(home.connection(), "/metrics")[1].decode()
    return sum(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


def asked(home: ScorerHome, name: str) -> None:
    """Three transactions in one request, all answered by the champion."""
    status, body = predict(home.connection(), [transaction(f"{name}-{n}", n) for n in range(3)])
    answers = json.loads(body)["predictions"]
    assert (status, [(each["model_version"], each["degraded"]) for each in answers]) == (200, [("1.0.0", False)] * 3)


def test_a_settled_service_with_a_failing_standing_shadow_answers_everything_and_keeps_its_workers(
    tmp_path: Path,
) -> None:
    with scorer_home(tmp_path) as home:
        champion, beside = home.settle(), shadow(home)
        home.load(beside)
        home.route(champion, generation=2, shadows=(beside,))
        for number in range(10):
            asked(home, f"a{number}")
        until(lambda: counted(home, "errors_total") == 30, "every error is counted")
        assert home.versions("single", 4) == {"1.0.0": 4}
        until(lambda: counted(home, "pairs_total") == 4, "the pairs are counted")
        # Now it cannot even be loaded any more: a new worker, and then a new supervisor, do without it.
        (home.places.admissions / digest_hex(beside.bundle) / f"{digest_hex(beside.folder)}.json").unlink()
        before = home.workers()
        os.kill(before[0], signal.SIGKILL)
        until(lambda: len(home.workers()) == 2 and before[0] not in home.workers(), "a new worker has begun")
        until(lambda: home.client.status().workers == 2, "both serve")
        asked(home, "b")
        assert home.terminate() == 0
        home.serve()
        until(home.ready, "the scorer is ready again")
        asked(home, "c")
        state = home.state()
        assert (state.latch, state.generation) == (None, 2)


def test_a_controller_keeps_the_champion_before_as_a_shadow_of_its_successor(tmp_path: Path) -> None:
    with deployment(tmp_path) as made:
        url = made.serve()
        made.control()
        made.release("1.0.0")
        old = made.until(lambda: made.ended("1.0.0"), "the first release settles")
        with Load(url) as load:
            row = f'version: "1.0.0", bundle: "{old["bundle"]}", folder: "{old["folder"]}"'
            made.release("1.1.0", shadows=f"[{{{row}}}]")
            new = made.until(lambda: made.ended("1.1.0"), "its successor settles")
            seen = rows.scorers(made.settings).observe("fraud", 0)
            table = seen.services["fraud"].table
            assert new["state"] == "settled", new["reason"]
            assert table is not None
            assert table.settled
            assert [(arm.name, arm.version) for arm in table.shadows] == [("shadow-1", "1.0.0")]
            answered = load.answers["1.1.0"]
            made.until(lambda: load.answers["1.1.0"] > answered + 20, "its successor answers")
        assert load.failures == []
