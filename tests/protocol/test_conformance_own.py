"""The conformance suite on our own scorer: both doors, both ways to call. What stays open is listed here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failures.load import transaction
from tests.protocol.open_scorer import Open, columns, open_scorer

from interlock.apps.conformance import run
from interlock.apps.conformance.connection import Door
from interlock.apps.conformance.discovery import Example
from interlock.apps.conformance.rpc import RpcDoor
from interlock.apps.conformance.suite import CASES
from interlock.apps.conformance.tensors import samples_from

pytestmark = pytest.mark.process

ALWAYS_OPEN = {
    "V1-017",  # this home runs no explainer
    "REPO-006", "REPO-007",  # load and unload are not called
}  # fmt: skip
OPEN_TENSORS = ALWAYS_OPEN | {
    "BIN-003", "BIN-032",  # one input, of numbers
    "V2-FAULT-032", "GRPC-029",  # the only tensor is taken under any name, as KServe's predictors do
}  # fmt: skip
OPEN_TRANSACTIONS = ALWAYS_OPEN | {
    "V2-INFER-005", "V2-INFER-006", "V2-INFER-012", "V2-FAULT-031",  # the metadata describe the model's own inputs
    "BIN-015",  # ten inputs: none is sent raw
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with open_scorer(tmp_path_factory.mktemp("conformance")) as made:
        yield made


def judged(server: Open, example: Example, with_repository: bool = False) -> dict[str, Any]:
    door = Door.at(server.url, [f"Authorization: Bearer {server.token}"])
    plan = run.Plan(
        door, CASES, example=example, rpc=RpcDoor.at(server.grpc, door.headers), with_repository=with_repository
    )
    return asyncio.run(run.conform(server.url, plan))


def bad(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["id"], each["why"]) for each in report["cases"] if each["verdict"] in ("fail", "error")]


def inconclusive(report: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["why"] for each in report["cases"] if each["verdict"] == "inconclusive"}


def test_the_models_own_inputs_conform(server: Open) -> None:
    instances = (transaction("conform-1", 1), transaction("conform-2", 2))
    report = judged(server, Example(instances=instances))
    assert bad(report) == []
    assert inconclusive(report).keys() == OPEN_TENSORS, inconclusive(report)


def test_transactions_conform(server: Open) -> None:
    inputs = samples_from(columns("conform-3"))
    report = judged(server, Example(inputs, (transaction("conform-4", 4),)))
    assert bad(report) == []
    assert inconclusive(report).keys() == OPEN_TRANSACTIONS, inconclusive(report)


def test_the_command_judges_a_server_and_ends_with_its_verdict(server: Open, tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(json.dumps({"instances": [transaction("conform-5", 5)]}))
    command = [sys.executable, "-m", "interlock.apps.cli.main", "conformance"]
    options = ["--grpc", server.grpc, "--only", "v1,grpc", "--example", str(path)]
    done = subprocess.run(
        [*command, server.url, *options, "--output", "json"], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"], bad(found)) == (0, "pass", [])
    assert {each["group"] for each in found["cases"]} == {"v1", "grpc"}
    assert "passed" in done.stderr
    gone = subprocess.run([*command, "http://127.0.0.1:1", "--model", "m"], capture_output=True, text=True, check=False)
    assert (gone.returncode, "remedy" in gone.stderr) == (3, True)
    wrong = subprocess.run([*command, server.url, "--only", "v9"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
