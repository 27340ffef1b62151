"""The OpenAPI page: loads in a client's tool, lists everything, and says what the parsers do."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
import schemathesis
from tests.protocol.bodies import CARD, COLUMNS, body, columns, tensor

from interlock.apps.scorer import doors
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions
from interlock.serving.wire import oip, openapi, v1, v2

OPTIONS = ServingOptions(max_instances=4)
PAGE = openapi.document(["fraud", "loans"], OPTIONS)


def valid(name: str, value: Any) -> bool:
    schema = {"$ref": f"#/components/schemas/{name}", "components": PAGE["components"]}
    return jsonschema_rs.validator_for(schema).is_valid(value)


def referred(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(referred, value.values()))
    return set[str]().union(*map(referred, value)) if isinstance(value, list) else set()


def test_schemathesis_loads_it_and_lists_every_operation() -> None:
    loaded = schemathesis.openapi.from_dict(PAGE)
    labels = {each.ok().label for each in loaded.get_all_operations()}
    assert labels == {
        "GET /", "GET /metrics", "GET /openapi.json",
        "GET /v1/models", "GET /v1/models/{model}",
        "POST /v1/models/{model}:predict", "POST /v1/models/{model}:explain",
        "GET /v2", "GET /v2/health/live", "GET /v2/health/ready", "GET /v2/models",
        "GET /v2/models/{model}", "GET /v2/models/{model}/ready", "POST /v2/models/{model}/infer",
        "GET /v2/models/{model}/versions/{version}", "GET /v2/models/{model}/versions/{version}/ready",
        "POST /v2/models/{model}/versions/{version}/infer",
        "POST /v2/repository/index",
        "POST /v2/repository/models/{model}/load", "POST /v2/repository/models/{model}/unload",
    }  # fmt: skip


def test_it_is_plain_json_and_every_reference_has_its_target() -> None:
    assert json.loads(json.dumps(PAGE)) == PAGE
    for reference in referred(PAGE):
        place: Any = PAGE
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_the_doors_serve_every_operation_and_nothing_that_the_page_leaves_out() -> None:
    unlisted = set(doors._ROUTES)
    for each in openapi.OPERATIONS:
        path = each.path.format(model="fraud", version="1.0.0")
        route = next(route for route in doors._ROUTES if route.path.fullmatch(path))
        assert ("POST" if each.takes else "GET") in route.methods
        assert (route.action == "") == each.public
        unlisted.discard(route)
    assert not unlisted


def test_operations_are_named_once() -> None:
    names = [each.name for each in openapi.OPERATIONS]
    assert len(names) == len(set(names))


def test_models_limits_and_no_models() -> None:
    assert PAGE["components"]["parameters"]["model"]["schema"]["enum"] == ["fraud", "loans"]
    assert PAGE["components"]["schemas"]["PredictRequest"]["properties"]["instances"]["maxItems"] == 4
    empty = openapi.document([], OPTIONS)
    assert empty["components"]["parameters"]["model"]["schema"] == {"type": "string"}


@pytest.mark.parametrize("row", openapi.OPERATIONS, ids=lambda row: row.name)
def test_every_operation_says_how_it_fails(row: Any) -> None:
    operation = PAGE["paths"][row.path]["post" if row.takes else "get"]
    assert {"200", "400", "401", "403", "404", "429", "503"} <= operation["responses"].keys()
    assert ("413" in operation["responses"]) == bool(row.takes)
    assert valid("Error", json.loads(v2.error("no such model")))


TRANSACTIONS: list[tuple[str, Any]] = [
    ("transaction_id", "a" * 64), ("transaction_id", "a" * 65), ("transaction_id", "tx\n"), ("transaction_id", "a b"),
    ("pan", "41111111111"), ("amount", -1), ("amount", v1.MAX_AMOUNT), ("amount", v1.MAX_AMOUNT + 1), ("amount", "1"),
    ("currency", "eur"), ("currency", "EUR\n"), ("terminal_id", ""), ("terminal_id", "t" * 65), ("ip", None),
    ("mcc", None), ("mcc", "54"), ("mcc", "5411"), ("country", "NLD"), ("event_time", "2026-11-24T09:00:00+01:00"),
    ("event_time", "2026-11-24 09:00:00Z"), ("event_time", "2026-11-24T09:00:00Z\n"), ("cvv", "123"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), TRANSACTIONS)
def test_the_page_and_the_parser_agree_about_a_transaction(name: str, value: Any) -> None:
    request = {"instances": [COLUMNS | {name: value}]}
    try:
        v1.decode(json.dumps(request).encode(), ("EUR",), 4)
        taken = True
    except UsageError:
        taken = False
    assert valid("PredictRequest", request) == taken


def test_an_explanation_is_asked_for_by_decisions_or_by_instances() -> None:
    decision = "0199f0a0-7a1b-7c3d-8e4f-0123456789ab"
    assert valid("ExplainRequest", {"decision_ids": [decision]})
    assert valid("ExplainRequest", {"instances": [COLUMNS]})
    assert not valid("ExplainRequest", {"decision_ids": [decision], "instances": [COLUMNS]})
    assert not valid("ExplainRequest", {"decision_ids": [decision + "\n"]})
    assert not valid("ExplainRequest", {"decision_ids": [decision] * 5})


def test_a_missing_field_and_too_many_instances_are_not_valid() -> None:
    assert not valid("PredictRequest", {"instances": [{k: v for k, v in COLUMNS.items() if k != "pan"}]})
    assert not valid("PredictRequest", {"instances": [COLUMNS] * 5})
    assert not valid("PredictRequest", {"instances": []})


@pytest.mark.parametrize(
    "sent",
    [
        body(*columns({}, {})),
        body(tensor([[1.0, 2.0]], shape=[1, 2]), id="7", model_name="fraud", outputs=[{"name": "score"}]),
        body(tensor(..., shape=[0], parameters={"binary_data_size": 0}), parameters={"binary_data_output": True}),
    ],
)
def test_bodies_that_v2_reads_are_valid(sent: bytes) -> None:
    assert v2.decode(sent, len(sent), "fraud", "").inputs
    assert valid("InferenceRequest", json.loads(sent))


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"inputs": []},
        {"inputs": [tensor([1], "FP8")]},
        {"inputs": [tensor([1], shape=[-1])]},
        {"inputs": [tensor([1], shape=[1] * 9)]},
        {"inputs": [tensor([1])], "output": []},
        {"inputs": [tensor([1])], "parameters": {"x": []}},
    ],
)
def test_bodies_that_v2_refuses_by_their_shape_are_not_valid(sent: Any) -> None:
    assert not valid("InferenceRequest", sent)


def test_answers_are_valid() -> None:
    given = v2.decode(body(*columns({})), None, "fraud", "")
    prediction = v1.encode(v1.Prediction("tx-1", "d-1", None, "REVIEW", [], "1.0.0", True))
    assert valid("Predictions", json.loads(v1.reply([prediction])))
    for answer in (
        oip.predictions(given, "1.0.0", [prediction]),
        oip.scores(given, "1.0.0", np.array([0.5], np.float32), ["REVIEW"]),
    ):
        assert valid("InferenceResponse", json.loads(v2.encode(answer, given)[0]))
    assert valid("ModelMetadata", oip.model_metadata("fraud", ["1.0.0"], ["a"], 1))
    assert valid("ServerMetadata", json.loads(v2.server_metadata("0.1.0")))
    assert valid("ModelReady", json.loads(v2.model_ready("fraud", True)))
    assert valid("Models", json.loads(v2.models(["fraud"])))
    assert valid("Ready", json.loads(v2.ready(False)))
    assert valid("Live", json.loads(v2.live(True)))


def test_patterns_are_portable_regular_expressions() -> None:
    text = json.dumps(PAGE)
    assert r"\\Z" not in text
    assert re.search(r'"pattern": "\^\[A-Z\]\{3\}\$"', text)
    assert CARD not in text
