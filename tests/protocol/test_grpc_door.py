"""The gRPC door as clients meet it: the official one, grpclib's own, and one that sends frames at will."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from h2.errors import ErrorCodes
from tests.protocol.certificates import self_signed
from tests.protocol.grpc_service import CARD, OPTIONS, VECTOR, Service, body, serving, vector
from tests.protocol.h2_client import INFER, Client
from tritonclient.utils import InferenceServerException

from interlock.apps.scorer.http2 import MAX_RESETS
from interlock.serving.wire import grpc as wire
from interlock.serving.wire.grpc import Code

pytestmark = pytest.mark.process


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


@pytest.fixture
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.address) as made:
        yield made


def refused(call: Callable[[], Any]) -> tuple[str, str]:
    """Status and message of the error that a call must raise."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    return str(caught.value.status()).removeprefix("StatusCode."), str(caught.value.message())


# The official client.


def test_liveness_readiness_and_metadata(client: triton.InferenceServerClient, service: Service) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fraud")
    assert client.get_server_metadata().name == "interlock"
    described = client.get_model_metadata("fraud")
    assert described.platform == "interlock_onnx"
    assert ("vectors", "FP32", [-1, 3]) in [(each.name, each.datatype, list(each.shape)) for each in described.inputs]
    service.scoring.is_ready = False
    assert not client.is_server_ready()
    assert client.is_server_live()


def test_vectors_are_scored_raw_for_raw(client: triton.InferenceServerClient) -> None:
    answer = client.infer("fraud", [vector(2)], request_id="r1")
    assert answer.as_numpy("score").tolist() == [3.0, 3.0]
    assert answer.as_numpy("decision").tolist() == [b"APPROVE", b"APPROVE"]
    response = answer.get_response()
    assert (response.model_name, response.model_version, response.id) == ("fraud", "7", "r1")
    assert len(response.raw_output_contents) == 2


def test_only_requested_outputs_come(client: triton.InferenceServerClient) -> None:
    answer = client.infer("fraud", [vector()], outputs=[triton.InferRequestedOutput("decision")])
    assert [each.name for each in answer.get_response().outputs] == ["decision"]


def test_bytes_arrive_as_they_were_sent(client: triton.InferenceServerClient) -> None:
    words = np.array([b"", b"\0\xff\0", "é".encode(), b"x" * 3_000], np.object_)
    given = triton.InferInput("transaction_id", [4], "BYTES")
    given.set_data_from_numpy(words)
    assert client.infer("echo", [given]).as_numpy("transaction_id").tolist() == words.tolist()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, coding: str) -> None:
    answer = client.infer("fraud", [vector(8)], compression_algorithm=coding)
    assert len(answer.as_numpy("score")) == 8


@pytest.mark.parametrize(
    ("model", "status"),
    [("nobody", "NOT_FOUND"), ("busy", "RESOURCE_EXHAUSTED"), ("gone", "UNAVAILABLE"), ("broken", "INTERNAL")],
)
def test_failures_have_their_code_and_give_nothing_away(
    client: triton.InferenceServerClient, model: str, status: str
) -> None:
    found, message = refused(lambda: client.infer(model, [vector()]))
    assert found == status
    assert CARD not in message
    assert "Traceback" not in message
    assert "RuntimeError" not in message


def test_what_is_wrong_with_a_request_is_said(client: triton.InferenceServerClient) -> None:
    given = triton.InferInput("vectors", [1, 2], "FP32")
    given.set_data_from_numpy(VECTOR[:, :2])
    status, message = refused(lambda: client.infer("fraud", [given]))
    assert status == "INVALID_ARGUMENT"
    assert "[n, 3]" in message
    wanted = [triton.InferRequestedOutput("nothing")]
    assert refused(lambda: client.infer("fraud", [vector()], outputs=wanted))[0] == "INVALID_ARGUMENT"


def test_unknown_models_are_not_found(client: triton.InferenceServerClient) -> None:
    assert refused(lambda: client.get_model_metadata("nobody"))[0] == "NOT_FOUND"
    assert refused(lambda: client.is_model_ready("nobody"))[0] == "NOT_FOUND"


def test_callers_are_told_apart_by_their_metadata(client: triton.InferenceServerClient, service: Service) -> None:
    for word, status in (("stranger", "UNAUTHENTICATED"), ("reader", "PERMISSION_DENIED")):
        headers = {"authorization": f"Bearer {word}"}
        assert refused(lambda headers=headers: client.infer("fraud", [vector()], headers=headers))[0] == status
        assert client.is_server_ready(headers=headers), "probes carry no credentials"
    assert not service.scoring.asked
    client.infer("fraud", [vector()], headers={"authorization": "Bearer ann"})
    assert service.scoring.asked[0][1].principal == "Bearer ann"


def test_the_trace_goes_on(client: triton.InferenceServerClient, service: Service) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    client.infer("fraud", [vector()], headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert service.scoring.asked[0][1].trace_id == trace


def test_the_repository_is_managed_by_role(client: triton.InferenceServerClient, service: Service) -> None:
    operator = {"authorization": "Bearer ann"}
    models = client.get_model_repository_index().models
    assert [(each.name, each.state) for each in models] == [("fraud", "READY"), ("old", "UNAVAILABLE")]
    assert refused(lambda: client.load_model("fraud"))[0] == "PERMISSION_DENIED"
    client.load_model("fraud", headers=operator)
    client.unload_model("fraud", headers=operator)
    assert refused(lambda: client.load_model("nobody", headers=operator))[0] == "NOT_FOUND"
    assert service.scoring.changes == [("load", "fraud"), ("unload", "fraud"), ("load", "nobody")]


def test_every_call_is_noted(client: triton.InferenceServerClient, service: Service) -> None:
    client.infer("fraud", [vector()])
    refused(lambda: client.infer("gone", [vector()]))
    assert service.noted == [("ModelInfer", "fraud|7", Code.OK), ("ModelInfer", "", Code.UNAVAILABLE)]


def test_the_clients_deadline_is_scorings_too_and_the_decision_is_made_all_the_same(service: Service) -> None:
    with triton.InferenceServerClient(service.address) as client:
        status, _ = refused(lambda: client.infer("held", [vector()], client_timeout=0.1))
    assert status == "DEADLINE_EXCEEDED"
    assert service.scoring.asked[0][1].deadline_ns > 0
    service.release()
    with triton.InferenceServerClient(service.address) as client:
        assert client.is_server_live()
    assert not service.scoring.held


def test_a_client_certificate_says_who_calls(tmp_path: Path) -> None:
    server, caller = str(self_signed(tmp_path)), str(self_signed(tmp_path, "payments"))
    options = replace(OPTIONS, tls_cert=server, tls_client_ca=caller)
    with serving(options=options) as service:
        target = f"localhost:{service.port}"
        known = {"root_certificates": server, "private_key": caller, "certificate_chain": caller}
        with triton.InferenceServerClient(target, ssl=True, **known) as client:
            assert client.infer("fraud", [vector()]).as_numpy("score").tolist() == [3.0]
            assert service.scoring.asked[0][1].principal == "payments"
        with triton.InferenceServerClient(target, ssl=True, root_certificates=server) as stranger:
            assert refused(stranger.is_server_live)[0] == "UNAVAILABLE"
        with triton.InferenceServerClient(target, ssl=True, **known) as client:
            assert client.is_server_live()
            service.stopping().result(10)


# grpclib's client: typed contents, health.


def test_typed_contents_are_answered_typed(service: Service) -> None:
    rpc = wire.INFERENCE.rpcs["ModelInfer"]
    tensor = {"name": "vectors", "datatype": "FP32", "shape": [1, 3], "contents": {"fp32_contents": [1.5, 2, 3]}}

    async def call() -> Any:
        async with Channel("127.0.0.1", service.port) as channel:
            return await UnaryUnaryMethod(channel, rpc.path, rpc.request, rpc.response)(
                rpc.request(model_name="fraud", inputs=[tensor], parameters={"p": {"bool_param": True}})
            )

    answer = asyncio.run(call())
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == [3.0]
    assert list(answer.outputs[1].contents.bytes_contents) == [b"APPROVE"]
    assert service.scoring.asked[0][0].parameters == {"p": True}


def test_health_follows_readiness(service: Service) -> None:
    async def check(name: str) -> Any:
        async with Channel("127.0.0.1", service.port) as channel:
            return (await HealthStub(channel).Check(HealthCheckRequest(service=name))).status

    assert asyncio.run(check("")) == HealthCheckResponse.SERVING
    assert asyncio.run(check("inference.GRPCInferenceService")) == HealthCheckResponse.SERVING
    service.scoring.is_ready = False
    assert asyncio.run(check("")) == HealthCheckResponse.NOT_SERVING
    with Client(service.port) as client:
        asked = wire.framed(HealthCheckRequest(service="other").SerializeToString())
        assert client.status(client.send("/grpc.health.v1.Health/Check", asked))[0] == "5"


# Frames at will.


def test_a_call_without_a_known_method_is_refused_before_its_message(service: Service) -> None:
    with Client(service.port) as client:
        number = client.send("/inference.GRPCInferenceService/ModelStreamInfer", b"", end=False)
        assert client.status(number)[0] == "12"


def test_what_is_no_grpc_call_gets_an_http_status(service: Service) -> None:
    with Client(service.port) as client:
        assert client.status(client.send(INFER, b"{}", content_type="application/json"))[0] == "415"
        assert client.status(client.send(INFER, body()))[0] == "0"


def test_a_message_that_announces_too_much_is_refused_at_once(service: Service) -> None:
    with Client(service.port) as client:
        number = client.send(INFER, b"\0" + struct.pack(">I", 2_000_000_000), end=False)
        assert client.status(number)[0] == "8"
        assert client.status(client.send(INFER, body()))[0] == "0"


def test_messages_under_way_are_bounded_together(service: Service) -> None:
    with Client(service.port) as client:
        assert client.status(client.send(INFER, body()))[0] == "0"  # its windows are known now
        part = b"\0" + struct.pack(">I", OPTIONS.max_body_bytes) + bytes(16_000)
        numbers = [client.send(INFER, part, end=False) for _ in range(4)]
        for _ in range(5):
            for number in numbers:
                client.h2.send_data(number, bytes(16_000))
            client.flush()
        last = client.send(INFER, part, end=False)
        assert client.status(last)[0] == "8"
        client.h2.send_data(numbers[0], bytes(OPTIONS.max_body_bytes - 6 * 16_000), end_stream=True)
        client.flush()
        assert client.status(numbers[0])[0] == "3", "the first one was read to its end, which is no message"


def test_a_message_that_does_not_arrive_in_time_is_given_up(service: Service) -> None:
    with Client(service.port) as client:
        number = client.send(INFER, body()[:-1], end=False)
        assert client.status(number)[0] == "4"


def test_an_answer_waits_for_the_clients_window(service: Service) -> None:
    with Client(service.port, window=1_000) as client:
        number = client.send(INFER, body("wide"))
        client.until(lambda: len(client.data(number)) == 1_000)
        client.h2.increment_flow_control_window(100_000, number)
        client.flush()
        assert client.status(number)[0] == "0"
        answer = wire.unframed(client.data(number), "identity", 10**6)
        data = wire.INFERENCE.messages["ModelInferResponse"].FromString(answer).raw_output_contents[0]
        assert np.frombuffer(data, np.float32).tolist() == list(range(10_000))


def test_an_answer_that_nobody_reads_is_given_up(service: Service) -> None:
    with Client(service.port, window=1_000) as client:
        number = client.send(INFER, body("wide"))
        client.until(lambda: bool(client.resets(number)))
        assert client.status(client.send(INFER, body()))[0] == "0"


def test_a_deadline_that_passes_on_the_server_is_told(service: Service) -> None:
    with Client(service.port) as client:
        assert client.status(client.send(INFER, body("held"), grpc_timeout="50m"))[0] == "4"
        assert client.status(client.send(INFER, body("held"), grpc_timeout="0n"))[0] == "4"
        assert client.status(client.send(INFER, body("held"), grpc_timeout="soon"))[0] == "3"
        assert len(service.scoring.asked) == 1, "a call whose deadline had passed is not even tried"


def test_a_client_that_leaves_cancels_nothing_but_its_answer(service: Service) -> None:
    with Client(service.port) as client:
        number = client.send(INFER, body("held"))
        assert service.scoring.arrived.acquire(timeout=10)
        client.h2.reset_stream(number, ErrorCodes.CANCEL)
        client.flush()
        assert client.status(client.send(INFER, body()))[0] == "0"
        assert len(service.scoring.held) == 1
        service.release()
        assert client.status(client.send(INFER, body()))[0] == "0"
        assert not service.scoring.held
        assert not client.data(number)


def test_rapid_resets_end_the_connection(service: Service) -> None:
    with Client(service.port) as client:
        for _ in range(MAX_RESETS + 1):
            number = client.send(INFER, body("held"), end=False)
            client.h2.reset_stream(number, ErrorCodes.CANCEL)
        client.flush()
        client.until(lambda: bool(client.goaways))
        assert client.goaways[-1][1] == ErrorCodes.ENHANCE_YOUR_CALM


def test_frames_of_unknown_kinds_are_ignored(service: Service) -> None:
    with Client(service.port) as client:
        client.socket.sendall(b"\0\0\3\xfa\0\0\0\0\0abc")
        assert client.status(client.send(INFER, body()))[0] == "0"


def test_broken_frames_end_the_connection_with_a_reason(service: Service) -> None:
    with Client(service.port) as client:
        client.socket.sendall(b"\0\0\1\0\0\0\0\0\0x")  # DATA on stream 0
        client.until(lambda: bool(client.goaways))
        assert client.goaways[-1][1] == ErrorCodes.PROTOCOL_ERROR
        client.until_closed()


def test_headers_are_bounded(service: Service) -> None:
    with Client(service.port) as client:
        client.send(INFER, body(), big="v" * 20_000)
        client.until_closed()
        assert client.goaways[-1][1] == ErrorCodes.ENHANCE_YOUR_CALM
    assert not service.scoring.asked


def test_an_idle_connection_is_let_go_in_order() -> None:
    with serving(options=replace(OPTIONS, idle_timeout_s=0.1)) as service, Client(service.port) as client:
        assert client.status(client.send(INFER, body()))[0] == "0"
        client.until_closed()
        assert client.goaways == [(2**31 - 1, 0), (1, 0)]
