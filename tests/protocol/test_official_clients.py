"""The official Triton clients, unmodified, against a real scorer. They retry nothing: every reply counts."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as rpc
import tritonclient.grpc.aio
import tritonclient.http as rest
import tritonclient.http.aio
from tests.failures.load import transaction
from tests.protocol.open_scorer import Open, columns, open_scorer
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.process

ROWS = np.random.default_rng(7).random((5, 61), dtype=np.float32) * 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with open_scorer(tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.fixture(params=["rest", "grpc"])
def client(server: Open, request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any, dict[str, str]]]:
    """(the client's module, the client, the caller's headers), once per protocol."""
    module, address = (rest, server.address) if request.param == "rest" else (rpc, server.grpc)
    made = module.InferenceServerClient(address)
    yield module, made, server.header
    made.close()


def vectors(module: Any, rows: np.ndarray[Any, Any], **how: Any) -> list[Any]:
    """The model's own input."""
    tensor = module.InferInput("vectors", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, **how)
    return [tensor]


def raw_columns(module: Any, *names: str, **how: Any) -> list[Any]:
    """Transactions, one tensor per field."""
    found = []
    for each in columns(*names):
        tensor = module.InferInput(each["name"], each["shape"], each["datatype"])
        kind = np.int64 if each["datatype"] == "INT64" else np.object_
        tensor.set_data_from_numpy(np.array(each["data"], dtype=kind), **how)
        found.append(tensor)
    return found


def in_json(module: Any, *names: str) -> list[Any]:
    return [module.InferRequestedOutput(name, binary_data=False) for name in names]


def texts(result: Any, name: str) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in result.as_numpy(name)]


# --- both protocols ---------------------------------------------------------------------------------


def test_liveness_readiness_and_metadata(client: tuple[Any, Any, dict[str, str]]) -> None:
    module, made, header = client
    as_json = {} if module is rest else {"as_json": True}
    assert made.is_server_live()
    assert made.is_server_ready()
    assert made.is_model_ready("fraud", headers=header)
    assert made.is_model_ready("fraud", "1.0.0", headers=header)
    found = made.get_server_metadata(headers=header, **as_json)
    assert found["name"] == "interlock"
    assert {"binary_tensor_data", "model_repository"} <= set(found["extensions"])
    described = made.get_model_metadata("fraud", headers=header, **as_json)
    assert (described["name"], described["versions"]) == ("fraud", ["1.0.0"])
    (tensor,) = described["inputs"]
    assert (tensor["name"], tensor["datatype"], [int(each) for each in tensor["shape"]]) == (
        "vectors",
        "FP32",
        [-1, 61],
    )


def test_the_repository_names_what_answers(client: tuple[Any, Any, dict[str, str]]) -> None:
    module, made, header = client
    found = made.get_model_repository_index(headers=header)
    entries = found if module is rest else [{"name": each.name, "state": each.state} for each in found.models]
    assert [(each["name"], each["state"]) for each in entries] == [("fraud", "READY")]


def test_vectors_are_scored_alone_as_in_a_batch(client: tuple[Any, Any, dict[str, str]]) -> None:
    module, made, header = client
    whole = made.infer("fraud", vectors(module, ROWS), headers=header, request_id="batch-1")
    scores = whole.as_numpy("score")
    assert (scores.shape, scores.dtype) == ((5,), np.dtype("float32"))
    assert set(texts(whole, "decision")) <= {"APPROVE", "STEP_UP", "REVIEW", "DECLINE"}
    alone = [made.infer("fraud", vectors(module, row[None]), headers=header).as_numpy("score")[0] for row in ROWS]
    assert scores.tolist() == alone, "the same bits alone and in a batch"


def test_a_transaction_is_decided_once_whichever_way_it_comes(
    client: tuple[Any, Any, dict[str, str]], server: Open
) -> None:
    module, made, header = client
    names = [f"{module.__name__.rpartition('.')[2]}-{number}" for number in range(3)]
    result = made.infer("fraud", raw_columns(module, *names), headers=header)
    assert texts(result, "transaction_id") == names
    connection = http.client.HTTPConnection(server.address, timeout=10)
    body = json.dumps({"instances": [transaction(name, number) for number, name in enumerate(names)]})
    connection.request("POST", "/v1/models/fraud:predict", body, {"content-type": "application/json", **server.header})
    v1 = json.loads(connection.getresponse().read())["predictions"]
    connection.close()
    assert [each["decision_id"] for each in v1] == texts(result, "decision_id")
    assert [each["score"] for each in v1] == result.as_numpy("score").tolist()
    assert [each["decision"] for each in v1] == texts(result, "decision")
    assert not result.as_numpy("degraded").any()


def test_only_requested_outputs_come(client: tuple[Any, Any, dict[str, str]]) -> None:
    module, made, header = client
    wanted = [module.InferRequestedOutput("score")]
    result = made.infer("fraud", vectors(module, ROWS), outputs=wanted, headers=header)
    assert result.as_numpy("score") is not None
    assert result.as_numpy("decision") is None


def test_an_explicit_version_is_answered_and_an_unknown_one_is_not(client: tuple[Any, Any, dict[str, str]]) -> None:
    module, made, header = client
    assert made.infer("fraud", vectors(module, ROWS), "1.0.0", headers=header).as_numpy("score").shape == (5,)
    with pytest.raises(InferenceServerException) as caught:
        made.infer("fraud", vectors(module, ROWS), "9.9.9", headers=header)
    assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")


FAULTS: dict[str, tuple[str, Callable[[Any], list[Any]], tuple[str, str]]] = {
    "an unknown model": ("nobody", lambda module: vectors(module, ROWS), ("404", "StatusCode.NOT_FOUND")),
    "a row too narrow": ("fraud", lambda module: vectors(module, ROWS[:, :60]), ("400", "StatusCode.INVALID_ARGUMENT")),
    "a column missing": ("fraud", lambda module: raw_columns(module, "x")[:-6], ("400", "StatusCode.INVALID_ARGUMENT")),
    "not a number": ("fraud", lambda module: vectors(module, ROWS * np.nan), ("400", "StatusCode.INVALID_ARGUMENT")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_callers_fault_reaches_the_client_as_a_message_it_can_read(
    client: tuple[Any, Any, dict[str, str]], fault: str
) -> None:
    module, made, header = client
    model, inputs, statuses = FAULTS[fault]
    with pytest.raises(InferenceServerException) as caught:
        made.infer(model, inputs(module), headers=header)
    assert caught.value.status() == statuses[module is rpc]
    assert len(caught.value.message()) > 3


# --- REST: what only it has -------------------------------------------------------------------------


@pytest.fixture
def http_client(server: Open) -> Iterator[Any]:
    made = rest.InferenceServerClient(server.address)
    yield made
    made.close()


def test_json_and_binary_give_the_same_numbers(http_client: Any, server: Open) -> None:
    results = [
        http_client.infer("fraud", vectors(rest, ROWS, binary_data=binary_in), headers=server.header, **outputs)
        for binary_in in (True, False)
        for outputs in ({}, {"outputs": in_json(rest, "score", "decision")})
    ]
    first = results[0]
    for each in results[1:]:
        assert each.as_numpy("score").tolist() == first.as_numpy("score").tolist()
        assert texts(each, "decision") == texts(first, "decision")


def test_text_columns_travel_in_json_as_in_binary(http_client: Any, server: Open) -> None:
    binary = http_client.infer("fraud", raw_columns(rest, "text-1"), headers=server.header)
    plain = http_client.infer("fraud", raw_columns(rest, "text-1", binary_data=False), headers=server.header)
    assert texts(plain, "decision_id") == texts(binary, "decision_id")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_compressed_requests_are_read(http_client: Any, server: Open, coding: str, binary: bool) -> None:
    result = http_client.infer(
        "fraud", vectors(rest, ROWS, binary_data=binary), headers=server.header, request_compression_algorithm=coding
    )
    assert result.as_numpy("score").shape == (5,)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_client_that_would_take_a_compressed_reply_is_answered(http_client: Any, server: Open, coding: str) -> None:
    result = http_client.infer(
        "fraud", vectors(rest, ROWS), headers=server.header, response_compression_algorithm=coding
    )
    assert result.as_numpy("score").shape == (5,)


# --- asyncio, and many at once ----------------------------------------------------------------------


def test_the_asynchronous_clients_work_too(server: Open) -> None:
    async def scores(module: Any, plain: Any, address: str) -> list[float]:
        async with module.InferenceServerClient(address) as made:
            results = await asyncio.gather(
                *(made.infer("fraud", vectors(plain, row[None]), headers=server.header) for row in ROWS)
            )
        return [float(each.as_numpy("score")[0]) for each in results]

    async def both() -> tuple[list[float], list[float]]:
        return (
            await scores(tritonclient.http.aio, rest, server.address),
            await scores(tritonclient.grpc.aio, rpc, server.grpc),
        )

    over_rest, over_grpc = asyncio.run(both())
    assert over_rest == over_grpc
    assert len(set(over_rest)) > 1


def test_a_thousand_calls_on_kept_connections_all_succeed(server: Open) -> None:
    over_rest = rest.InferenceServerClient(server.address)
    over_grpc = rpc.InferenceServerClient(server.grpc)
    wanted = over_rest.infer("fraud", vectors(rest, ROWS[:1]), headers=server.header).as_numpy("score")[0]
    for _ in range(500):
        for module, made in ((rest, over_rest), (rpc, over_grpc)):
            assert made.infer("fraud", vectors(module, ROWS[:1]), headers=server.header).as_numpy("score")[0] == wanted
    over_rest.close()
    over_grpc.close()
