"""The gRPC cases against a server that is right, and against the same server with one fault at a time."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.protocol.oip_rpc_server import calling

from interlock.apps.conformance import run
from interlock.apps.conformance.case import Subject
from interlock.apps.conformance.connection import Door
from interlock.apps.conformance.rpc import RpcDoor
from interlock.apps.conformance.suite import chosen
from interlock.apps.conformance.tensors import sample_of
from interlock.base.errors import UsageError

pytestmark = pytest.mark.process

METADATA = {"name": "m", "inputs": [{"name": "a", "datatype": "FP32", "shape": [-1, 2]}]}
SUBJECT = Subject(model="m", version="1", metadata=METADATA, inputs=sample_of(METADATA), outputs=("sum",))


def verdicts(*faults: str, only: str = "") -> dict[str, str]:
    """Verdicts by case id on the server with these faults; `only`: ids."""

    async def work() -> dict[str, str]:
        cases = tuple(case for case in chosen(["grpc"]) if not only or case.id in only.split())
        async with calling(*faults) as address:
            plan = run.Plan(Door("unused", 1), cases, rpc=RpcDoor.at(address, wait_s=2.0))
            found = [await run.judge(plan, SUBJECT, case) for case in cases]
        return {each.case.id: each.verdict.word for each in found}

    logging.getLogger("grpclib").setLevel(logging.CRITICAL)
    return asyncio.run(work())


def test_a_server_without_fault_passes_every_case() -> None:
    found = verdicts()
    # grpclib's server answers an unknown method without a Content-Type, which a client may not take for gRPC.
    assert found.pop("GRPC-031") == "fail"
    assert {name: verdict for name, verdict in found.items() if verdict != "pass"} == {}
    assert len(found) == len(chosen(["grpc"])) - 1


FAULTS = {
    "adds when raw": "GRPC-009",
    "empty index": "GRPC-032",
    "ignores outputs": "GRPC-009 GRPC-011 GRPC-012",
    "ignores versions": "GRPC-016 GRPC-017 GRPC-033",
    "internal for shapes": "GRPC-020 GRPC-021 GRPC-024 GRPC-025 GRPC-028",
    "no id": "GRPC-010",
    "no name": "GRPC-004",
    "not live": "GRPC-001 GRPC-002 GRPC-003",
    "other inputs": "GRPC-005",
    "other shape": "GRPC-006 GRPC-007 GRPC-008 GRPC-009 GRPC-010 GRPC-011",
    "takes any bytes": "GRPC-030",
    "takes any datatype": "GRPC-026",
    "takes both": "GRPC-019 GRPC-023",
    "trusts shapes": "GRPC-020 GRPC-021 GRPC-024 GRPC-025 GRPC-028",
    "typed for raw": "GRPC-008",
    "unknown for every fault": "GRPC-012 GRPC-013 GRPC-014 GRPC-015 GRPC-016 GRPC-017 GRPC-018",
    "wrong model name": "GRPC-006 GRPC-007 GRPC-008 GRPC-010 GRPC-011",
}
"""What is wrong with the server, and cases that must find it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_by_its_cases(fault: str) -> None:
    found = verdicts(fault, only=FAULTS[fault])
    assert found == dict.fromkeys(FAULTS[fault].split(), "fail")


def test_every_fault_of_the_server_stands_in_the_table() -> None:
    text = (Path(__file__).parent / "oip_rpc_server.py").read_text("utf-8")
    assert {part.split('"')[0] for part in text.split('self.has("')[1:]} == set(FAULTS)


def test_without_a_port_the_cases_are_inconclusive_and_say_how_to_name_it() -> None:
    (case, *_) = chosen(["grpc"])
    plan: Any = run.Plan(Door("unused", 1), (case,))
    found = asyncio.run(run.judge(plan, SUBJECT, case))
    assert (found.verdict.word, "--grpc" in found.why) == ("inconclusive", True)


def test_a_port_that_nobody_listens_on_is_an_error_and_no_failure() -> None:
    (case, *_) = chosen(["grpc"])
    plan = run.Plan(Door("unused", 1), (case,), rpc=RpcDoor.at("127.0.0.1:1"))
    assert asyncio.run(run.judge(plan, SUBJECT, case)).verdict.word == "error"


@pytest.mark.parametrize("address", ["", "8081", "host:", ":8081", "host:port"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(UsageError):
        RpcDoor.at(address)
