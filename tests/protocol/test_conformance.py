"""The conformance suite against a server that is right, and against the same server with one fault at a time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.protocol.oip_server import serving

from interlock.apps.conformance import run
from interlock.apps.conformance.connection import Door
from interlock.apps.conformance.discovery import Example
from interlock.apps.conformance.suite import CASES, chosen

pytestmark = pytest.mark.process

HTTP_GROUPS = ["v1", "v2", "http", "binary", "repository"]
ROWS = Example(instances=([1.0, 2.0],))


def judged(*faults: str, ids: frozenset[str] = frozenset(), **plan: Any) -> dict[str, Any]:
    """The report on the server with these faults."""

    async def work() -> dict[str, Any]:
        cases = tuple(case for case in chosen(HTTP_GROUPS) if not ids or case.id in ids)
        async with serving(*faults) as url:
            whole = {"model": "m", "example": ROWS, "with_repository": True} | plan
            return await run.conform(url, run.Plan(Door.at(url, wait_s=2.0), cases, **whole))

    return asyncio.run(work())


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {each["id"]: each["verdict"] for each in report["cases"]}


def test_a_server_without_fault_passes_every_case_that_applies() -> None:
    report = judged()
    found = [(each["id"], each["why"]) for each in report["cases"] if each["verdict"] in ("fail", "error")]
    assert found == []
    open_ones = {each["id"] for each in report["cases"] if each["verdict"] == "inconclusive"}
    assert open_ones == {"V1-017", "BIN-015"}  # no explanations; two inputs, so none can be raw
    assert (report["verdict"], report["failed"], report["errors"]) == ("pass", 0, 0)
    assert report["passed"] + report["inconclusive"] == len(chosen(HTTP_GROUPS))


FAULTS = {
    "400 for gzip": "HTTP-001 BIN-014",
    "405 without Allow": "HTTP-010",
    "500 for every fault": "V1-004 V2-META-012 V2-FAULT-004 V2-FAULT-008 V2-FAULT-024 BIN-022 REPO-004",
    "500 for shapes": "V2-FAULT-024 V2-FAULT-025 V2-FAULT-029 V2-FAULT-030 V2-FAULT-031 BIN-034",
    "500 for text": "V1-016",
    "503 for unknown loads": "REPO-004 REPO-005",
    "5xx for large bodies": "HTTP-016",
    "5xx for large headers": "HTTP-017",
    "answers in html": "V2-INFER-002",
    "binary as json": "BIN-010",
    "body with HEAD": "HTTP-009",
    "drops a row": "V2-INFER-006",
    "ends each connection": "V2-INFER-005 V2-INFER-019 HTTP-005 HTTP-006 HTTP-007 HTTP-009 BIN-002 REPO-007",
    "error in detail": "V1-004 V2-META-012 V2-FAULT-004 V2-FAULT-008 V2-FAULT-024 BIN-022 REPO-004",
    "errors in text": "V2-META-016",
    "explain breaks": "V1-017",
    "guesses where the JSON ends": "BIN-016 BIN-017 BIN-018 BIN-019 BIN-020 BIN-021",
    "ignores binary_data": "BIN-008 BIN-009",
    "ignores close": "HTTP-008 HTTP-012 HTTP-013 HTTP-015",
    "ignores codings": "HTTP-001 HTTP-002 HTTP-003 BIN-014",
    "ignores requested outputs": "V2-INFER-008 V2-INFER-010",
    "ignores versions": "V2-META-014 V2-META-015 V2-FAULT-002",
    "index lists the unready": "REPO-003",
    "leaves bytes over": "BIN-030",
    "lists nothing": "V1-002",
    "needs a content type": "V2-INFER-016 BIN-013",
    "needs no host": "HTTP-014",
    "never binary out": "BIN-005 BIN-007 BIN-008 BIN-010 BIN-011",
    "no id": "V2-INFER-003 HTTP-006 BIN-012",
    "not live": "V2-META-002 V2-META-003",
    "one prediction whatever": "V1-007",
    "replies out of order": "HTTP-006 HTTP-007",
    "shapes do not fit": "V2-INFER-001 V2-INFER-005 HTTP-004 BIN-001 BIN-005 REPO-006",
    "shows its stack": "V1-009 V2-META-012 V2-FAULT-004 BIN-016 REPO-008",
    "takes any element": "V2-FAULT-021 V2-FAULT-023",
    "takes any framing": "HTTP-011 HTTP-012 HTTP-013",
    "takes any method": "V1-015 V2-META-017 V2-META-018 V2-FAULT-003 HTTP-010 HTTP-019",
    "takes any name": "V2-FAULT-032",
    "takes negative shapes": "V2-FAULT-026",
    "trusts shapes": "V2-FAULT-020 V2-FAULT-024 V2-FAULT-025 V2-FAULT-029 V2-FAULT-030 V2-FAULT-031 BIN-034",
    "trusts sizes": "BIN-022 BIN-024 BIN-025 BIN-026 BIN-028 BIN-032",
    "unknown model is ready": "V2-META-012 V2-META-013 V2-META-014 V2-META-015 V2-META-019 V2-FAULT-001 HTTP-007",
    "unload does nothing": "REPO-007",
    "version is a number": "V2-META-001",
    "wants the plain type alone": "V2-INFER-017",
    "wrong framing": "BIN-005 BIN-006 BIN-007 BIN-008 BIN-010 BIN-011",
    "wrong metadata": "V2-META-005 V2-META-008 V2-INFER-012 V2-INFER-013",
    "wrong model name": "V2-INFER-001 V2-INFER-013 V2-INFER-014 BIN-001 REPO-006",
    "wrong sizes": "BIN-005 BIN-006 BIN-007 BIN-008 BIN-010 BIN-011",
}
"""What is wrong with the server, and cases that must find it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_cases(fault: str) -> None:
    ids = frozenset(FAULTS[fault].split())
    report = judged(fault, ids=ids)
    assert {name: verdict for name, verdict in verdicts(report).items() if verdict != "fail"} == {}
    assert report["verdict"] == "fail"
    assert ids == verdicts(report).keys(), "each id of the table exists"
    assert all(each["why"] for each in report["cases"])


def test_every_fault_of_the_server_stands_in_the_table() -> None:
    text = (Path(__file__).parent / "oip_server.py").read_text("utf-8")
    known = {part.split('"')[0] for part in text.split('self.has("')[1:]}
    assert known == set(FAULTS) | {"never the same"}


def test_a_model_that_never_answers_the_same_is_not_compared() -> None:
    found = judged("never the same", ids=frozenset({"V2-INFER-005", "V2-INFER-019", "BIN-002", "V2-INFER-001"}))
    assert verdicts(found) == {
        "V2-INFER-001": "pass",
        "V2-INFER-005": "inconclusive",
        "V2-INFER-019": "inconclusive",
        "BIN-002": "inconclusive",
    }


def test_without_permission_nothing_is_loaded_or_unloaded() -> None:
    found = verdicts(judged(ids=frozenset({"REPO-006", "REPO-007"}), with_repository=False))
    assert set(found.values()) == {"inconclusive"}


def test_a_server_that_is_gone_is_an_error_and_no_failure() -> None:
    async def work() -> dict[str, Any]:
        async with serving() as url:
            door = Door.at(url)
            plan = run.Plan(door, CASES[:1], model="m")
            subject = await run.discover(door, "m", "", ROWS, False)
        return run.report(url, subject, [await run.judge(plan, subject, case) for case in plan.cases])

    report = asyncio.run(work())
    assert (report["verdict"], report["cases"][0]["verdict"]) == ("error", "error")


def test_the_first_model_that_is_listed_is_judged_when_none_is_named() -> None:
    report = judged(ids=frozenset({"V2-META-004"}), model="")
    assert (report["model"], report["version"], report["verdict"]) == ("m", "1", "pass")
    assert json.loads(json.dumps(report)) == report
