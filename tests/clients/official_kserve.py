"""KServe's own clients, unmodified and with retries off, against a real scorer.

Run by `make test-clients`, which makes their environment (tests/clients/.venv) first; it is not part of
`make test`, because kserve needs some hundred packages of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failures.load import transaction
from tests.failures.scorer_home import until
from tests.protocol.open_scorer import columns, open_scorer

from interlock.apps.conformance import run
from interlock.apps.conformance.connection import Door
from interlock.apps.conformance.rpc import RpcDoor
from interlock.apps.conformance.suite import CASES

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


# --- the suite on their server: it must find what it is known for ------------------------------------

KNOWN = {
    "V1-013": "status 500",
    "V2-META-014": "status 501",
    "V2-INFER-016": "status 400, 200 is due",
    "V2-FAULT-004": "status 422: the error object holds detail",
    "V2-FAULT-008": "status 422: the error object holds detail",
    "V2-FAULT-024": "status 500",
    "V2-FAULT-035": "status 200",
    "HTTP-001": "status 400, 415 is due",
    "BIN-023": "status 500",
    "BIN-030": "status 200",
    "GRPC-016": "code OK",
    "GRPC-020": "code INTERNAL",
    "REPO-004": "status 503",
}
"""What docs/guide/conformance.md says of KServe 0.21.0: case, and how its reason begins."""


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, tuple[str, str]]]:
    """Verdict and reason by case on KServe's own server."""
    ports = [str(_free()) for _ in range(2)]
    server = subprocess.Popen(
        [PYTHON, HERE / "kserve_sum.py", *ports], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: _answers(int(ports[0])), "KServe's server is ready")
        door = Door.at(f"http://127.0.0.1:{ports[0]}", wait_s=3.0)
        plan = run.Plan(door, CASES, model="m", rpc=RpcDoor.at(f"127.0.0.1:{ports[1]}", wait_s=3.0))
        report = asyncio.run(run.conform("kserve", plan))
        yield {each["id"]: (each["verdict"], each["why"]) for each in report["cases"]}
    finally:
        server.terminate()
        server.wait(30)


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v2/models/m/ready")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def test_the_suite_finds_what_kserves_server_is_known_for(verdicts: dict[str, tuple[str, str]]) -> None:
    found = {case: verdicts[case] for case in KNOWN}
    assert {case: verdict for case, (verdict, why) in found.items() if verdict != "fail"} == {}
    assert {case: why for case, (_, why) in found.items() if not why.startswith(KNOWN[case])} == {}


def test_the_suite_passes_what_kserves_server_does_well(verdicts: dict[str, tuple[str, str]]) -> None:
    counted = Counter(verdict for verdict, _ in verdicts.values())
    assert counted["error"] == 0
    assert counted["pass"] > 100
    well = (
        "V2-INFER-001",
        "V2-INFER-003",
        "V2-INFER-005",
        "V2-INFER-008",
        "BIN-001",
        "BIN-005",
        "GRPC-006",
        "GRPC-008",
    )
    assert {case for case in well if verdicts[case][0] != "pass"} == set()
