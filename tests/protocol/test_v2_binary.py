"""V2 bodies with raw tensors behind their JSON: official clients' exact bodies, and torn or forged frames."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tests.protocol.bodies import CARD, body, framed, strings, tensor

from interlock.base.errors import UsageError
from interlock.serving.wire import oip, tensors, v2
from interlock.serving.wire.oip import InferRequest, InferResponse, Tensor, Wanted

FLOATS = np.array([[0.1, 2, 3]], np.float32)


def refusal(sent: bytes, header: int | None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        v2.decode(sent, header, "fraud", "")
    return caught.value


def one(raw: bytes, **fields: Any) -> tuple[bytes, int]:
    return framed(({"datatype": "FP32", "shape": [1, 3]} | fields, raw))


# --- what is understood -------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", oip.DATATYPES)
def test_every_datatype_is_little_endian_and_in_its_native_size(datatype: str) -> None:
    dtype = oip.DATATYPES[datatype]
    values = np.array([0, 1, 1], dtype)
    sent, header = one(values.astype(dtype.newbyteorder("<")).tobytes(), datatype=datatype, shape=[3])
    (read,) = v2.decode(sent, header, "fraud", "").inputs
    assert isinstance(read.data, np.ndarray)
    assert read.data.dtype == dtype
    assert read.data.tolist() == values.tolist()


def test_raw_and_written_inputs_stand_side_by_side_in_their_order() -> None:
    head = body(
        tensor(..., shape=[2], name="a", datatype="INT16", parameters={"binary_data_size": 4}),
        tensor([7], name="b"),
        tensor(..., shape=[2, 1], name="c", datatype="BYTES", parameters={"binary_data_size": 11, "kept": 1}),
    )
    sent = head + b"\x01\x00\xff\xff" + strings(b"ab", b"\xff")
    a, b, c = v2.decode(sent, len(head), "fraud", "").inputs
    assert list(a.data) == [1, -1]
    assert list(b.data) == [7]
    assert (c.shape, c.data, dict(c.parameters)) == ((2, 1), [b"ab", b"\xff"], {"kept": 1})


def test_a_body_that_is_all_json_may_say_so() -> None:
    sent = body(tensor([1]))
    assert list(v2.decode(sent, len(sent), "fraud", "").inputs[0].data) == [1]


def test_an_empty_raw_tensor_is_read_as_the_kserve_client_sends_it() -> None:
    head = body(tensor(None, shape=[0], parameters={"binary_data_size": 0}))
    assert len(v2.decode(head, len(head), "fraud", "").inputs[0].data) == 0


def test_a_header_length_of_zero_is_one_raw_vector() -> None:
    found = v2.decode(FLOATS.tobytes(), 0, "fraud", "2")
    assert (found.model, found.version) == ("fraud", "2")
    np.testing.assert_array_equal(oip.vectors(found, ["a", "b", "c"], 1), FLOATS)
    answer, length = v2.encode(oip.scores(found, "2", np.array([0.5], np.float32), ["APPROVE"]), found)
    assert length is not None
    assert answer[length:] == b"\x00\x00\x00\x3f" + strings(b"APPROVE")


def test_the_triton_clients_binary_body_is_read_and_its_parser_reads_the_reply() -> None:
    given = triton.InferInput("vectors", [1, 3], "FP32")
    given.set_data_from_numpy(FLOATS)
    sent, header = triton.InferenceServerClient.generate_request_body([given], request_id="7")
    found = v2.decode(sent, header, "fraud", "")
    np.testing.assert_array_equal(oip.vectors(found, ["a", "b", "c"], 1), FLOATS)
    # It names no outputs, so it asks for all of them raw.
    answer, length = v2.encode(oip.scores(found, "1.0.0", np.array([0.1], np.float32), ["REVIEW"]), found)
    assert length is not None
    result = triton.InferResult.from_response_body(answer, header_length=length)
    np.testing.assert_array_equal(result.as_numpy("score"), np.array([0.1], np.float32))
    assert result.as_numpy("decision").tolist() == [b"REVIEW"]
    assert result.get_response()["id"] == "7"


def test_the_triton_clients_bytes_are_read_raw_and_written() -> None:
    texts = np.array([b"tx-1", "é".encode(), b""], np.object_)
    for binary in (True, False):
        given = triton.InferInput("x", [3], "BYTES")
        given.set_data_from_numpy(texts, binary_data=binary)
        sent, header = triton.InferenceServerClient.generate_request_body([given])
        assert v2.decode(sent, header, "fraud", "").inputs[0].data == texts.tolist()


# --- what is answered ---------------------------------------------------------------------------------

ANSWER = InferResponse(
    "fraud",
    "1.0.0",
    "",
    {},
    (Tensor("score", "FP32", (1,), np.array([1], np.float32)), Tensor("decision", "BYTES", (1,), [b"REVIEW"])),
)


@pytest.mark.parametrize(
    ("overall", "outputs", "raw"),
    [
        ({}, (), b""),
        ({"binary_data_output": True}, (), b"\x00\x00\x80\x3f" + strings(b"REVIEW")),
        ({}, (Wanted("score", {"binary_data": True}), Wanted("decision")), b"\x00\x00\x80\x3f"),
        (
            {"binary_data_output": True},
            (Wanted("score", {"binary_data": False}), Wanted("decision")),
            strings(b"REVIEW"),
        ),
        ({"binary_data_output": False}, (Wanted("decision", {"binary_data": True}),), strings(b"REVIEW")),
    ],
)
def test_an_outputs_own_wish_goes_before_the_requests(
    overall: dict[str, bool], outputs: tuple[Wanted, ...], raw: bytes
) -> None:
    request = InferRequest("fraud", "", "", overall, (), outputs)
    answer, length = v2.encode(ANSWER, request)
    head = answer if length is None else answer[:length]
    assert answer[len(head) :] == raw
    assert (length is None) == (raw == b"")
    for output in json.loads(head)["outputs"]:
        assert ("data" in output) != ("binary_data_size" in output.get("parameters", {}))


# --- what is refused ----------------------------------------------------------------------------------

HEAD = body(tensor(..., shape=[1, 3], parameters={"binary_data_size": 12}))


def sized(size: Any, data: Any = ...) -> bytes:
    return body(tensor(data, shape=[1, 3], parameters={"binary_data_size": size}))


REFUSED: dict[str, tuple[bytes, int | None]] = {
    "a header beyond the body": (HEAD, len(HEAD) + 1),
    "a negative header": (HEAD, -1),
    "a header that cuts the JSON": (HEAD + FLOATS.tobytes(), len(HEAD) - 1),
    "no header": (HEAD + FLOATS.tobytes(), None),
    "fewer bytes than promised": (HEAD + FLOATS.tobytes()[:-1], len(HEAD)),
    "more bytes than promised": (HEAD + FLOATS.tobytes() + b"\0", len(HEAD)),
    "bytes of another shape": one(FLOATS.tobytes(), shape=[2, 3]),
    "bytes of another type": one(FLOATS.tobytes(), datatype="FP16"),
    "a negative size": (sized(-1), len(sized(-1))),
    "a size that is text": (sized("12") + FLOATS.tobytes(), len(sized("12"))),
    "a size that is a boolean": (sized(True) + b"\0", len(sized(True))),
    "a size that is a float": (sized(12.0) + FLOATS.tobytes(), len(sized(12.0))),
    "a size beyond all integers": (sized(2**80), len(sized(2**80))),
    "data twice": (sized(12, data=[1, 2, 3]) + FLOATS.tobytes(), len(sized(12, data=[1, 2, 3]))),
    "an unknown datatype": one(b"\0" * 3, datatype="BF8"),
    "a boolean that is neither": one(b"\0\1\2", datatype="BOOL"),
    "a shape that promises too much": one(b"", shape=[2**31 - 1, 2**31 - 1]),
    "texts that promise too much": one(b"", datatype="BYTES", shape=[2**11, 2**11]),
    "a text cut off": one(strings(b"abc")[:-1], datatype="BYTES", shape=[1]),
    "a length cut off": one(strings(b"abcd", b"")[:-1], datatype="BYTES", shape=[2]),
    "a length that is huge": one(b"\xff\xff\xff\xff", datatype="BYTES", shape=[1]),
    "a text too long": one(strings(b"x" * (tensors.MAX_STRING + 1)), datatype="BYTES", shape=[1]),
    "a text too many": one(strings(b"a", b"b"), datatype="BYTES", shape=[1]),
    "nothing raw": (b"", 0),
    "raw bytes that are no floats": (b"abc", 0),
    "raw bytes without end": (b"\0" * (4 * tensors.MAX_ELEMENTS + 4), 0),
}


@pytest.mark.parametrize(("sent", "header"), REFUSED.values(), ids=REFUSED)
def test_a_torn_or_forged_frame_is_refused_with_a_remedy(sent: bytes, header: int | None) -> None:
    problem = refusal(sent, header)
    assert problem.message
    assert problem.remedy


@pytest.mark.parametrize("header", [-1, len(HEAD) + 1])
def test_a_header_that_is_not_within_the_body_is_called_so(header: int) -> None:
    assert "the header length is not within the body" in str(refusal(HEAD, header))


@pytest.mark.parametrize("datatype", ["BYTES", "INT64"])
def test_no_message_repeats_raw_bytes(datatype: str) -> None:
    assert CARD not in str(refusal(*one(CARD.encode(), datatype=datatype, shape=[3])))


def test_the_data_of_a_tensor_cannot_be_written_to() -> None:
    sent, header = one(FLOATS.tobytes())
    (read,) = v2.decode(sent, header, "fraud", "").inputs
    assert isinstance(read.data, np.ndarray)
    assert not read.data.flags.writeable
