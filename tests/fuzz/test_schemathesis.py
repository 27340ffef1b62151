"""Requests made from the OpenAPI page, valid and not, with card numbers where strings stand, at a real scorer.

`make fuzz` (INTERLOCK_FUZZ=n) sends n times as many.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.failures.load import card, transaction
from tests.failures.scorer_home import predict
from tests.protocol.open_scorer import Open, columns, open_scorer

from interlock.serving.options import ServingOptions
from interlock.serving.wire import openapi

pytestmark = pytest.mark.process

TIMES = int(os.environ.get("INTERLOCK_FUZZ", "1"))
CARDS = tuple(card(number) for number in range(900, 908))
SPELT = re.compile("|".join(f"{each}|{' '.join(re.findall('.{1,4}', each))}" for each in CARDS))
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
NO_PROCESS = frozenset({"explain"})
"""What needs a process that this home does not run: 503 is the right answer."""
MARK = "nearly-valid-"
SEEN: Counter[tuple[str, int]] = Counter()
"""Replies by operation and status."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with open_scorer(tmp_path_factory.mktemp("fuzz")) as made:
        workers = made.home.workers()
        yield made
        assert made.home.workers() == workers, "a worker ended"
        for name in ("predict", "infer"):
            found = {status for operation, status in SEEN if operation == name}
            assert not found or {200, 400} <= found, f"{name} saw only {found}: the fuzz stays at the door"
        status, body = predict(made.home.connection(), [transaction("after-the-fuzz", 1)])
        assert (status, json.loads(body)["predictions"][0]["degraded"]) == (200, False)
        for name, data in made.written():
            assert not SPELT.search(data.decode("latin-1")), f"a card number is in {name}"


schema = schemathesis.openapi.from_dict(openapi.document(["fraud"], ServingOptions()))
schema.config.phases.coverage.enabled = TIMES > 1  # every boundary of every field: minutes, not seconds


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Some bodies become nearly valid, in others some strings card numbers; which, follows from the body alone."""
    try:
        seed = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    except (TypeError, ValueError):
        return body
    if seed % 3 == 0 and isinstance(body, dict):
        return nearly_valid(body, seed)
    return sown(body, seed)


def nearly_valid(body: dict[str, Any], seed: int) -> dict[str, Any]:
    """A request that is decided, or would be but for one member of the generated one."""
    pan = CARDS[seed % len(CARDS)]
    if "instances" in body:
        given = body["instances"]
        strange = given[0] if isinstance(given, list) and given and isinstance(given[0], dict) else {}
        kept = dict(list(strange.items())[: seed % 5 == 1])
        return {"instances": [transaction(f"{MARK}{seed}", seed % 1_000) | {"pan": pan} | kept]}
    if "inputs" in body:
        tensors = columns(f"{MARK}{seed}")
        for each in tensors:
            if each["name"] == "pan":
                each["data"] = [pan]
        return {**({} if seed % 5 else body), "inputs": tensors}
    return body


def sown(value: Any, seed: int) -> Any:
    """`value` with card numbers in some of its strings."""
    if isinstance(value, dict):
        return {name: sown(each, zlib.crc32(name.encode(), seed)) for name, each in value.items()}
    if isinstance(value, list):
        return [sown(each, seed + place) for place, each in enumerate(value)]
    if isinstance(value, str) and seed % 3 == 0:
        return CARDS[seed % len(CARDS)] if seed % 2 else f"{value[:20]} {CARDS[seed % len(CARDS)]}"
    return value


@schema.parametrize()
@settings(max_examples=12 * TIMES, derandomize=TIMES == 1, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_scorer_or_gets_a_card_number_back(case: Any, server: Open) -> None:
    if MARK in repr(case.body) and case.headers:
        case.headers.pop("Inference-Header-Content-Length", None)  # a generated length would cut the JSON anywhere
    reply = case.call(base_url=server.url, headers=server.header)
    assert not SPELT.search(f"{reply.headers} {reply.text}")
    operation = case.operation.definition.raw["operationId"]
    SEEN[operation, reply.status_code] += 1
    unable = operation in NO_PROCESS and reply.status_code == 503
    assert reply.status_code < 500 or unable, f"{reply.status_code} {reply.text}"
    case.validate_response(reply, checks=CHECKS)


def test_the_page_that_is_served_is_the_one_that_is_fuzzed(server: Open) -> None:
    connection = server.home.connection()
    connection.request("GET", "/openapi.json")
    served = json.loads(connection.getresponse().read())
    assert served["paths"] == schema.raw_schema["paths"]
    assert schemathesis.openapi.from_dict(served).statistic.operations.total > 15


def test_card_numbers_are_really_sown() -> None:
    bodies = [{"instances": [transaction(f"t{number}", number)]} for number in range(30)]
    assert sum(SPELT.search(json.dumps(map_body(None, body))) is not None for body in bodies) > 10
