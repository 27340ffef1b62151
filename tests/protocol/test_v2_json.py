"""V2 bodies in JSON, in and out: official clients' exact bodies, and what is refused how."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tests.protocol.bodies import CARD, body, tensor

from interlock.base.errors import UsageError
from interlock.serving.wire import oip, tensors, v1, v2
from interlock.serving.wire.oip import InferRequest, InferResponse, Tensor, Wanted

EXACT = {
    "BOOL": [True, False, True],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 0, 2**15 - 1],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 2**16 - 1],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "FP16": [0.5, -65504.0, 2.0**-24],
    "FP32": [0.1, -3.4028234663852886e38, 1],
    "FP64": [0.1, -1.7976931348623157e308, 1e-310],
    "BYTES": ["", "é", "line\nbreak"],
}


def decode(text: bytes) -> InferRequest:
    return v2.decode(text, None, "fraud", "")


def refusal(text: bytes) -> UsageError:
    with pytest.raises(UsageError) as caught:
        decode(text)
    return caught.value


def response(*outputs: Tensor, **more: Any) -> InferResponse:
    return InferResponse(
        **({"model": "fraud", "version": "1.0.0", "id": "", "parameters": {}, "outputs": outputs} | more)
    )


def request(**more: Any) -> InferRequest:
    return InferRequest(**({"model": "fraud", "version": "", "id": "", "parameters": {}, "inputs": ()} | more))


# --- what is understood -------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", EXACT)
def test_every_datatype_is_read_at_its_bounds(datatype: str) -> None:
    values = EXACT[datatype]
    (read,) = decode(body(tensor(values, datatype))).inputs
    assert (read.name, read.datatype, read.shape) == ("vectors", datatype, (3,))
    if isinstance(read.data, list):
        assert read.data == [each.encode() for each in values]
    else:
        assert read.data.dtype == oip.DATATYPES[datatype]
        np.testing.assert_array_equal(read.data, np.array(values, oip.DATATYPES[datatype]))


def test_nested_and_flat_data_mean_the_same() -> None:
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    (nested,) = decode(body(tensor(rows, shape=[2, 3]))).inputs
    (flat,) = decode(body(tensor([1, 2, 3, 4, 5, 6], shape=[2, 3]))).inputs
    assert nested.shape == flat.shape == (2, 3)
    assert isinstance(nested.data, np.ndarray)
    assert nested.data.tolist() == list(flat.data) == [1, 2, 3, 4, 5, 6]


def test_space_between_brackets_changes_nothing() -> None:
    (read,) = decode(b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":\n[ [\t1 , 2 ] ] }]}').inputs
    assert list(read.data) == [1, 2]


def test_an_empty_tensor_is_read() -> None:
    assert len(decode(body(tensor([], shape=[0, 3]))).inputs[0].data) == 0
    assert len(decode(body(tensor([[], []], shape=[2, 0]))).inputs[0].data) == 0


def test_id_parameters_and_outputs_are_kept() -> None:
    wanted = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "decision"}]
    found = v2.decode(
        body(tensor([1]), id="a-7", parameters={"n": 1, "f": 0.5, "s": "x"}, outputs=wanted), None, "m", "2"
    )
    assert (found.model, found.version, found.id, dict(found.parameters)) == (
        "m",
        "2",
        "a-7",
        {"n": 1, "f": 0.5, "s": "x"},
    )
    assert found.outputs == (Wanted("score", {"binary_data": False}), Wanted("decision", {}))


def test_null_means_absent() -> None:
    found = decode(body(tensor([1], parameters=None), id=None, parameters={"x": None}, outputs=None))
    assert (found.id, dict(found.parameters), found.outputs) == ("", {}, ())


def test_the_kserve_clients_body_is_read() -> None:
    # As its InferRequest.to_rest() builds it: an id of its own, and the model's name beside the inputs.
    sent = body(
        tensor([0.5, 1.5], shape=[1, 2], name="input-0"), id="0b5c1f6e-6f5e-4c39-9f3b-6a0f1c2d3e4f", model_name="fraud"
    )
    assert decode(sent).id == "0b5c1f6e-6f5e-4c39-9f3b-6a0f1c2d3e4f"


def test_the_triton_clients_json_body_is_read_and_its_parser_reads_the_reply() -> None:
    given = triton.InferInput("vectors", [1, 3], "FP32")
    given.set_data_from_numpy(np.array([[0.1, 2, 3]], np.float32), binary_data=False)
    outputs = [triton.InferRequestedOutput(each, binary_data=False) for each in ("score", "decision")]
    sent, header = triton.InferenceServerClient.generate_request_body([given], outputs=outputs, request_id="7")
    assert header is None
    found = decode(sent)
    np.testing.assert_array_equal(found.inputs[0].data, np.array([0.1, 2, 3], np.float32))
    answer, length = v2.encode(oip.scores(found, "1.0.0", np.array([0.1], np.float32), ["REVIEW"]), found)
    assert length is None
    result = triton.InferResult.from_response_body(answer)
    np.testing.assert_array_equal(result.as_numpy("score"), np.array([0.1], np.float32))
    assert result.as_numpy("decision").tolist() == ["REVIEW"]
    assert result.get_response()["id"] == "7"


# --- what is refused ----------------------------------------------------------------------------------

REFUSED: dict[str, bytes] = {
    "no JSON": b"{",
    "nothing": b"",
    "not UTF-8": b'{"inputs":[{"name":"\xff"}]}',
    "more after the JSON": body(tensor([1])) + b"x",
    "a list": b"[]",
    "no inputs": b"{}",
    "an empty list of inputs": body(),
    "too many inputs": body(*[tensor([1])] * (tensors.MAX_INPUTS + 1)),
    "an unknown field": body(tensor([1]), output=[]),
    "a version in the body": body(tensor([1]), model_version="1"),
    "an unknown field of an input": body(tensor([1], dtype="FP32")),
    "no name": body(tensor([1], name=...)),
    "an empty name": body(tensor([1], name="")),
    "a long name": body(tensor([1], name="n" * 129)),
    "an unknown datatype": body(tensor([1], "FP8")),
    "a datatype in lower case": body(tensor([1], "fp32")),
    "no shape": body(tensor([1], shape=[])),
    "too many dimensions": body(tensor([1], shape=[1] * 9)),
    "a negative size": body(tensor([1], shape=[-1])),
    "a fractional size": body(tensor([1], shape=[1.0])),
    "a huge size": body(tensor([], shape=[2**31, 0])),
    "sizes whose product overflows": body(tensor([], shape=[2**31 - 1] * 8)),
    "a size beyond all integers": body(tensor([1], shape=[2**70])),
    "more elements than anyone takes": body(tensor([], shape=[2**12, 2**12])),
    "no data": body(tensor(..., shape=[1])),
    "null data": body(tensor(None, shape=[1])),
    "data that is no list": body(tensor(1, shape=[1])),
    "an object as data": body(tensor({"a": 1}, shape=[1])),
    "less data than the shape": body(tensor([1], shape=[2])),
    "more data than the shape": body(tensor([1, 2], shape=[1])),
    "ragged data": body(tensor([[1, 2], [3]], shape=[2, 2])),
    "data nested as another shape": body(tensor([[1, 2], [3, 4], [5, 6]], shape=[2, 3])),
    "data nested deeper than its shape": body(tensor([[1]], shape=[1])),
    "texts nested deeper than their shape": body(tensor([["x"]], "BYTES", [1])),
    "data nested less deep than its shape": body(tensor([[1, 1]], shape=[1, 1, 2])),
    "lists without end": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000,
    "text among numbers": body(tensor(["1"])),
    "a boolean among numbers": body(tensor([True])),
    "null among numbers": body(tensor([None])),
    "NaN": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}',
    "a number among booleans": body(tensor([1], "BOOL")),
    "a number among texts": body(tensor([1], "BYTES")),
    "a fraction among integers": body(tensor([1.5], "INT32")),
    "an integer that wraps": body(tensor([128], "INT8")),
    "a negative one without sign": body(tensor([-1], "UINT64")),
    "a float that becomes infinite": body(tensor([1e39], "FP32")),
    "a half that becomes infinite": body(tensor([65520.0], "FP16")),
    "a double that becomes infinite": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1e999]}]}',
    "half a surrogate pair": b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\\ud800"]}]}',
    "a long text": body(tensor(["x" * (tensors.MAX_STRING + 1)], "BYTES")),
    "a long id": body(tensor([1]), id="i" * 257),
    "an id that is a number": body(tensor([1]), id=7),
    "a card number as id": body(tensor([1]), id=f"id {CARD}"),
    "a nested parameter": body(tensor([1]), parameters={"x": {"y": 1}}),
    "a list as parameter": body(tensor([1]), parameters={"x": [1]}),
    "too many parameters": body(tensor([1]), parameters={f"p{n}": 1 for n in range(65)}),
    "a long parameter": body(tensor([1]), parameters={"x": "x" * 1_025}),
    "too many outputs": body(tensor([1]), outputs=[{"name": "score"}] * 65),
    "an output without a name": body(tensor([1]), outputs=[{}]),
    "a flag that is a number": body(tensor([1]), parameters={"binary_data_output": 1}),
    "a flag of an output that is text": body(tensor([1]), outputs=[{"name": "s", "parameters": {"binary_data": "y"}}]),
    "raw bytes that are not there": body(tensor(..., shape=[1], parameters={"binary_data_size": 4})),
    "data in shared memory": body(tensor(..., shape=[1], parameters={"shared_memory_region": "r"})),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_breaks_a_rule_is_refused_with_a_remedy(text: bytes) -> None:
    problem = refusal(text)
    assert problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (body(tensor([1]), outputz=[]), "unknown field outputz"),
        (body(tensor([1]), **{CARD: 1}), "unknown field with another name"),
        (body(tensor([1], shape=[2])), "inputs[0].data has 1 elements"),
        (body(tensor([1]), tensor([1e39])), "inputs[1].data"),
        (body(tensor(..., shape=[1])), "inputs[0] has no data"),
        (body(tensor(None, shape=[1])), "inputs[0] has no data"),
        (body(tensor([1], "FP8")), "inputs[0].datatype is unknown — known: BOOL"),
    ],
)
def test_a_message_names_the_place_and_the_rule(sent: bytes, said: str) -> None:
    assert said in str(refusal(sent))


@pytest.mark.parametrize("name", ["cvv", "card_pin", "Track-2"])
def test_sensitive_authentication_data_is_refused_by_name(name: str) -> None:
    assert "sensitive authentication data" in str(refusal(body(tensor([1]), **{name: "123"})))


@pytest.mark.parametrize(
    "sent",
    [
        body(tensor([CARD])),
        body(tensor([CARD], "BYTES", [2])),
        body(tensor([1], CARD[:16])),
        body(tensor([int(CARD)], "INT32")),
        body(tensor([1], name=CARD, shape=[2])),
        body(tensor([1]), parameters={CARD: [CARD]}),
        body(tensor([1]), id=CARD),
        body(tensor([1], **{CARD: CARD})),
    ],
)
def test_no_message_repeats_what_was_sent(sent: bytes) -> None:
    assert CARD not in str(refusal(sent))


# --- what is answered ---------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", EXACT)
def test_every_datatype_is_written_so_that_it_reads_back(datatype: str) -> None:
    values = EXACT[datatype]
    data = [each.encode() for each in values] if datatype == "BYTES" else np.array(values, oip.DATATYPES[datatype])
    text, length = v2.encode(response(Tensor("out", datatype, (3,), data)), request())
    assert length is None
    (output,) = json.loads(text)["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("out", datatype, [3])
    (read,) = decode(body(output)).inputs
    assert list(read.data) == list(data)


def test_a_response_has_the_fields_of_the_protocol_and_no_empty_ones() -> None:
    score = Tensor("score", "FP32", (1,), np.array([0.25], np.float32))
    assert json.loads(v2.encode(response(score), request())[0]) == {
        "model_name": "fraud",
        "model_version": "1.0.0",
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [1], "data": [0.25]}],
    }
    full = json.loads(v2.encode(response(score, id="7", parameters={"degraded": True}), request())[0])
    assert (full["id"], full["parameters"]) == ("7", {"degraded": True})


def test_no_score_is_null_and_the_client_reads_nan() -> None:
    text, _ = v2.encode(response(Tensor("score", "FP64", (1,), np.array([np.nan]))), request())
    assert json.loads(text)["outputs"][0]["data"] == [None]
    assert np.isnan(triton.InferResult.from_response_body(text).as_numpy("score")).all()


def test_bytes_that_are_no_text_are_not_put_into_json() -> None:
    with pytest.raises(UsageError, match="binary_data"):
        v2.encode(response(Tensor("out", "BYTES", (1,), [b"\xff"])), request())


def test_the_small_documents() -> None:
    assert json.loads(v2.server_metadata("0.1.0")) == {
        "name": "interlock", "version": "0.1.0", "extensions": ["binary_tensor_data", "model_repository"]
    }  # fmt: skip
    assert (v2.live(True), v2.ready(True), v2.ready(False)) == (b'{"live":true}', b'{"ready":true}', b'{"ready":false}')
    assert json.loads(v2.model_ready("fraud", True)) == {"name": "fraud", "ready": True}
    assert json.loads(v2.models(["fraud", "loans"])) == {"models": ["fraud", "loans"]}


def test_an_error_is_the_protocols_object_without_card_numbers() -> None:
    assert json.loads(v2.error(f"no {CARD}")) == {"error": "no [card number withheld]"}
    assert v2.error is v1.error


@pytest.mark.parametrize(
    ("body", "ready"), [(b"", False), (b" ", False), (b"{}", False), (b'{"ready": true}', True), (b'{"x": 1}', False)]
)
def test_a_question_for_the_index_may_ask_for_what_is_ready(body: bytes, ready: bool) -> None:
    assert v2.repository_ready(body) is ready


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready": 1}', b"\xff", b'"x"'])
def test_what_is_no_question_for_the_index_is_refused(body: bytes) -> None:
    with pytest.raises(UsageError):
        v2.repository_ready(body)


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b"", ""),
        (b" \n", ""),
        (b"{}", ""),
        (b'{"parameters": {}}', ""),
        (b'{"parameters": {"version": "1.4.0", "unload_dependents": false}}', "1.4.0"),
    ],
)
def test_a_request_to_load_may_name_a_version(body: bytes, version: str) -> None:
    assert v2.repository_version(body) == version


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"parameters": 1}',
        b'{"parameters": {"version": 1}}',
        b'{"parameters": {"version": ""}}',
        b'{"parameters": {"version": "' + b"1" * 65 + b'"}}',
    ],
)
def test_a_malformed_request_to_load_is_refused_without_repeating_it(body: bytes) -> None:
    with pytest.raises(UsageError, match="version") as caught:
        v2.repository_version(body)
    assert "1" * 65 not in str(caught.value)
