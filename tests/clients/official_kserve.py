"""KServe's own clients, unmodified and with retries off, against a real scorer.

Run by `make test-clients`, which makes their environment (tests/clients/.venv) first; it is not part of
`make test`, because kserve needs some hundred packages of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.failures.load import transaction
from tests.protocol.open_scorer import columns, open_scorer

HERE = Path(__file__).parent
PYTHON = Path(os.environ.get("INTERLOCK_KSERVE_PYTHON", HERE / ".venv" / "bin" / "python"))
NAMES = ["kserve-1", "kserve-2"]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every call returned; a call that fails ends the script, and with it these tests."""
    given = {
        "columns": columns(*NAMES),
        "instances": [transaction(name, number) for number, name in enumerate(NAMES)],
    }
    with open_scorer(tmp_path_factory.mktemp("kserve")) as server:
        done = subprocess.run(
            [PYTHON, HERE / "kserve_calls.py", server.url, server.grpc, server.token],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_health(calls: dict[str, Any], door: str) -> None:
    assert [calls[door][name] for name in ("live", "ready", "model_ready")] == [True, True, True]


def test_every_framing_gives_the_same_scores(calls: dict[str, Any]) -> None:
    rest, grpc = calls["rest"], calls["grpc"]
    results = [rest["json"], rest["binary"], rest["raw"], grpc["typed"], grpc["raw"]]
    assert [each["id"] for each in results] == ["rest-json", "rest-binary", "rest-raw", "grpc-typed", "grpc-raw"]
    assert {each["model"] for each in results} == {"fraud"}
    assert len({tuple(each["score"]) for each in results}) == 1
    assert len({tuple(each["decision"]) for each in results}) == 1
    assert len(results[0]["score"]) == 3


def test_a_transaction_is_decided_once_over_all_three_protocols(calls: dict[str, Any]) -> None:
    rest, grpc, v1 = calls["rest"]["columns"], calls["grpc"]["columns"], calls["rest"]["v1"]["predictions"]
    assert rest["transaction_id"] == grpc["transaction_id"] == NAMES
    assert rest["decision_id"] == grpc["decision_id"] == [each["decision_id"] for each in v1]
    assert rest["score"] == grpc["score"] == [each["score"] for each in v1]


def test_v1(calls: dict[str, Any]) -> None:
    assert calls["rest"]["v1_ready"] is True


def test_a_callers_fault_reaches_the_client_as_a_message(calls: dict[str, Any]) -> None:
    status, message = calls["rest"]["refused"]
    assert status == 400
    assert "61" in message
    _, message = calls["grpc"]["refused"]
    assert "INVALID_ARGUMENT" in message
