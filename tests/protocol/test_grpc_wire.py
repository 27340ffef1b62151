"""gRPC messages and what they mean, both ways; no socket."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.service_pb2 as official
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.base.errors import UsageError
from interlock.serving.wire import grpc, oip, tensors
from interlock.serving.wire.grpc import CONTENTS, Code, Refusal
from interlock.serving.wire.grpc_schema import parse

REQUEST = grpc.INFERENCE.messages["ModelInferRequest"]
RESPONSE = grpc.INFERENCE.messages["ModelInferResponse"]
CARD = "4111111111111111"


def request(**fields: Any) -> bytes:
    """A request's bytes; one FP32 input of two elements unless told otherwise."""
    whole: dict[str, Any] = {
        "model_name": "fraud",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "contents": {"fp32_contents": [1.5, 2.5]}}],
    }
    encoded: bytes = REQUEST(**whole | fields).SerializeToString()
    return encoded


def elements(datatype: str) -> st.SearchStrategy[Any]:
    """Values of a datatype as protobuf holds them."""
    if datatype == "BYTES":
        return st.binary(max_size=20)
    if datatype == "BOOL":
        return st.booleans()
    dtype = oip.DATATYPES[datatype]
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8, allow_nan=False)
    bounds = np.iinfo(dtype)
    return st.integers(int(bounds.min), int(bounds.max))


@st.composite
def tensor(draw: st.DrawFn, datatypes: tuple[str, ...] = tuple(CONTENTS)) -> oip.Tensor:
    """Any tensor that has a typed field, of up to 6 elements."""
    datatype = draw(st.sampled_from(datatypes))
    shape = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=2)))
    size = int(np.prod(shape))
    values = draw(st.lists(elements(datatype), min_size=size, max_size=size))
    data = values if datatype == "BYTES" else np.array(values, oip.DATATYPES[datatype])
    return oip.Tensor(draw(st.text(min_size=1, max_size=5)), datatype, shape, data, draw(parameters))


plain = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8)
parameters = st.dictionaries(st.text(min_size=1, max_size=5), plain, max_size=3)


def as_request(response: bytes, raw: bool) -> bytes:
    """A response's tensors as a request's inputs: the two messages differ in nothing else."""
    message = RESPONSE.FromString(response)
    made = REQUEST(model_name=message.model_name, model_version=message.model_version, id=message.id)
    for name, value in message.parameters.items():
        made.parameters[name].CopyFrom(value)
    for each in message.outputs:
        made.inputs.add().MergeFromString(each.SerializeToString())
    if raw:
        made.raw_input_contents.extend(message.raw_output_contents)
    encoded: bytes = made.SerializeToString()
    return encoded


def same(one: oip.Tensor, other: oip.Tensor) -> bool:
    """Equal in every field; data bit for bit."""
    alike = (one.name, one.datatype, one.shape, one.parameters) == (
        other.name,
        other.datatype,
        other.shape,
        other.parameters,
    )
    return alike and tensors.to_raw(one) == tensors.to_raw(other)


@given(st.lists(tensor(), min_size=1, max_size=3), parameters)
def test_raw_and_typed_contents_mean_the_same(given_tensors: list[oip.Tensor], extra: oip.Parameters) -> None:
    response = oip.InferResponse("m", "2", "id", extra, tuple(given_tensors))
    for raw in (True, False):
        found, was_raw = grpc.decode(as_request(grpc.encode(response, raw), raw))
        assert was_raw is raw
        assert (found.model, found.version, found.id, found.parameters) == ("m", "2", "id", extra)
        assert all(same(one, other) for one, other in zip(found.inputs, given_tensors, strict=True))


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_bytes_that_are_no_request_are_the_callers_mistake(body: bytes) -> None:
    try:
        grpc.decode(body)
    except UsageError:
        return
    REQUEST.FromString(body)


@given(st.data())
def test_a_damaged_request_is_the_callers_mistake_at_worst(data: st.DataObject) -> None:
    body = bytearray(request(id="some", parameters={"p": {"string_param": "v"}}))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    try:
        grpc.decode(bytes(body))
    except UsageError:
        return


def test_an_fp16_tensor_travels_raw_both_ways() -> None:
    half = np.array([1.5, -2.0], np.float16)
    given_request = request(
        inputs=[{"name": "x", "datatype": "FP16", "shape": [2]}], raw_input_contents=[half.tobytes()]
    )
    found, _ = grpc.decode(given_request)
    assert np.array_equal(found.inputs[0].data, half)
    answer = RESPONSE.FromString(grpc.encode(oip.InferResponse("m", "", "", {}, found.inputs), raw=False))
    assert list(answer.raw_output_contents) == [half.tobytes()]
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"inputs": []}, "number of inputs"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "contents": {"fp32_contents": [1]}}]},
            "inputs[0]",
        ),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "contents": {"int_contents": [1]}}]}, "inputs[0]"),
        (
            {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": "FP32",
                        "shape": [1],
                        "contents": {"fp32_contents": [1], "int_contents": [1]},
                    }
                ]
            },
            "nothing else",
        ),
        ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [128]}}]}, "fit"),
        (
            {"inputs": [{"name": "x", "datatype": "UINT16", "shape": [1], "contents": {"uint_contents": [65536]}}]},
            "fit",
        ),
        ({"inputs": [{"name": "x", "datatype": "FP16", "shape": [1]}]}, "raw_input_contents"),
        ({"inputs": [{"name": "x", "datatype": "FLOAT", "shape": [1]}]}, "unknown"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2**31, 2**31]}]}, "shape"),
        ({"inputs": [{"name": "x", "datatype": "FP32"}]}, "dimensions"),
        ({"inputs": [{"name": "", "datatype": "FP32", "shape": [0]}]}, "name"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}], "raw_input_contents": [b"1234"]}, "bytes"),
        ({"raw_input_contents": [b"12345678"]}, "beside"),
        ({"raw_input_contents": [b"12345678", b""]}, "one entry an input"),
        (
            {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1]}], "raw_input_contents": [b"\x05\0\0\0four"]},
            "cut off",
        ),
        ({"inputs": [{"name": "x", "datatype": "BOOL", "shape": [1]}], "raw_input_contents": [b"\x02"]}, "BOOL"),
        (
            {
                "inputs": [
                    {"name": "x", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"x" * 65_537]}}
                ]
            },
            "too long",
        ),
        ({"outputs": [{"name": ""}]}, "outputs[0]"),
        ({"outputs": [{"name": "x"}] * 65}, "too many"),
        ({"id": "i" * 1_025}, "id"),
        ({"id": f"order {CARD}"}, "id"),
        ({"parameters": {"p": {"string_param": "v" * 1_025}}}, "parameter"),
        ({"parameters": {str(n): {"bool_param": True} for n in range(65)}}, "too many parameters"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(fields: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        grpc.decode(request(**fields))
    assert wanted in str(caught.value)
    assert CARD not in str(caught.value)


def test_a_parameter_without_a_value_counts_as_absent() -> None:
    found, _ = grpc.decode(request(parameters={"empty": {}, "full": {"uint64_param": 2**64 - 1}}))
    assert found.parameters == {"full": 2**64 - 1}


def test_requested_outputs_keep_their_parameters() -> None:
    found, _ = grpc.decode(request(outputs=[{"name": "score", "parameters": {"classification": {"int64_param": 2}}}]))
    assert found.outputs == (oip.Wanted("score", {"classification": 2}),)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (403, Code.PERMISSION_DENIED),
        (404, Code.NOT_FOUND),
        (413, Code.RESOURCE_EXHAUSTED),
        (415, Code.INVALID_ARGUMENT),
        (429, Code.RESOURCE_EXHAUSTED),
        (503, Code.UNAVAILABLE),
        (504, Code.DEADLINE_EXCEEDED),
        (500, Code.INTERNAL),
        (418, Code.INTERNAL),
    ],
)
def test_http_statuses_have_their_codes(status: int, code: Code) -> None:
    assert grpc.code_of(status) is code


def test_a_refusal_withholds_card_numbers() -> None:
    assert CARD not in Refusal(Code.INTERNAL, f"no such {CARD}").message


# Framing.


@given(st.binary(max_size=200))
def test_a_framed_message_comes_back(message: bytes) -> None:
    assert grpc.unframed(grpc.framed(message), "identity", 200) == message


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_message_is_read(coding: str, compress: Any) -> None:
    data = compress(b"message")
    assert grpc.unframed(b"\1" + struct.pack(">I", len(data)) + data, coding, 100) == b"message"


def test_a_compressed_message_is_bounded_by_what_it_becomes() -> None:
    data = gzip.compress(bytes(10_000_000))
    framed = b"\1" + struct.pack(">I", len(data)) + data
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as caught:
            grpc.unframed(framed, "gzip", 1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert peak < 1_000_000


def test_an_unknown_compression_is_unimplemented() -> None:
    with pytest.raises(Refusal) as caught:
        grpc.unframed(b"\1\0\0\0\1x", "snappy", 1_000)
    assert caught.value.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0\0",
        b"\0\0\0\0\2x",
        b"\0\0\0\0\1xy",
        b"\2\0\0\0\1x",
        b"\1\0\0\0\1x",
        grpc.framed(b"one") + grpc.framed(b"two"),
        b"\1" + struct.pack(">I", 24) + gzip.compress(b"", mtime=0)[:-1] + b"12345",
    ],
)
def test_anything_but_one_message_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        grpc.unframed(data, "gzip", 1_000)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1H", 3_600 * 10**9), ("2M", 120 * 10**9), ("3S", 3 * 10**9), ("4m", 4 * 10**6), ("5u", 5_000), ("6n", 6)],
)
def test_timeouts_are_read(text: str, wanted: int) -> None:
    assert grpc.timeout_ns(text) == wanted


@pytest.mark.parametrize("text", ["", "1", "S", "123456789S", "-1S", "1.5S", "1s", "1S\n", "١S"])
def test_a_malformed_timeout_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        grpc.timeout_ns(text)


def test_a_status_message_is_percent_encoded() -> None:
    assert grpc.percent_encoded("50% — é\n") == "50%25 %E2%80%94 %C3%A9%0A"


# The `.proto` files.


def fields(descriptor: Any) -> dict[str, tuple[int, int, bool, str]]:
    """What of a message travels: number, type, repeated, and the name of a message's type."""
    return {
        each.name: (each.number, each.type, each.is_repeated, each.message_type.name if each.message_type else "")
        for each in descriptor.fields
    }


LOADING = ("RepositoryModelLoadR", "RepositoryModelUnloadR")
"""Where the official clients differ among themselves."""


@pytest.mark.parametrize("name", [name for name in grpc.INFERENCE.messages if not name.startswith(LOADING)])
def test_messages_travel_as_the_official_clients_send_them(name: str) -> None:
    theirs: Any = official.DESCRIPTOR
    for part in name.split("."):
        theirs = getattr(theirs, "message_types_by_name", None) or theirs.nested_types_by_name
        theirs = theirs[part]
    assert fields(grpc.INFERENCE.messages[name].DESCRIPTOR) == fields(theirs)


def test_methods_have_the_official_paths() -> None:
    theirs = official.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    known = {f"/inference.GRPCInferenceService/{each.name}" for each in theirs}
    assert {rpc.path for rpc in grpc.INFERENCE.rpcs.values()} <= known


@pytest.mark.parametrize("kind", ["RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"])
def test_the_model_to_load_is_found_in_both_layouts(kind: str) -> None:
    ours, theirs = grpc.INFERENCE.messages[kind], getattr(official, kind)
    by_triton = theirs(repository_name="all", model_name="fraud").SerializeToString()
    by_kserve = b"\x0a\x05fraud"  # field 1, five bytes
    assert grpc.named(ours.FromString(by_triton)) == "fraud"
    assert grpc.named(ours.FromString(theirs(model_name="fraud").SerializeToString())) == "fraud"
    assert grpc.named(ours.FromString(by_kserve)) == "fraud"


PROTO = 'syntax = "proto3"; package p; message A { enum E { X = 0; Y = 3; } E e = 2; map<string, A> of = 4; }'


def test_enums_and_maps_are_read() -> None:
    made = parse(PROTO, "p.proto").messages["A"](e=3)
    made.of["k"].e = 3
    assert made.SerializeToString() == b"\x10\x03\x22\x07\x0a\x01k\x12\x02\x10\x03"


@pytest.mark.parametrize(
    "text",
    [
        "message A { group B = 1; }",
        "message A { string b }",
        "message A { string b = 1;",
        "import 'x';",
        "extend A {}",
        "service S { rpc M(stream A) returns (A); } message A {}",
        'syntax = "proto2";',
    ],
)
def test_what_the_reader_does_not_know_it_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text, "p.proto")


def load_request(**parameters: Any) -> Any:
    """As Triton's client sends it, read by our schema."""
    sent = official.RepositoryModelLoadRequest(model_name="fraud")
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", bytes: "bytes_param"}[type(value)]
        setattr(sent.parameters[name], kind, value)
    return grpc.parse(grpc.INFERENCE.rpcs["RepositoryModelLoad"].request, sent.SerializeToString())


def test_a_request_to_load_may_name_a_version() -> None:
    assert grpc.version_of(load_request()) == ""
    assert grpc.version_of(load_request(config="{}", files=b"1234")) == ""
    assert grpc.version_of(load_request(version="1.4.0")) == "1.4.0"


@pytest.mark.parametrize("version", ["", "1" * 65, 1, True, b"1.4.0"])
def test_a_version_that_is_no_name_is_refused(version: Any) -> None:
    with pytest.raises(UsageError, match="version"):
        grpc.version_of(load_request(version=version))
