"""Any body at all: what was written reads back, and everything else ends in UsageError and tells nobody a card."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.protocol.bodies import CARD, COLUMNS, columns, strings

from interlock.base.errors import UsageError
from interlock.serving.wire import oip, tensors, v2
from interlock.serving.wire.oip import InferRequest, InferResponse, Tensor

NAMES = ["a", "b", "c"]
names = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def tensor(draw: st.DrawFn, finite: bool = False) -> Tensor:
    shape = draw(shapes)
    datatype = draw(st.sampled_from([*oip.DATATYPES, "BYTES"]))
    if datatype == "BYTES":
        element: st.SearchStrategy[bytes] = st.text(max_size=8).map(str.encode) if finite else st.binary(max_size=8)
        size = math.prod(shape)
        return Tensor(draw(names), "BYTES", shape, draw(st.lists(element, min_size=size, max_size=size)))
    dtype = oip.DATATYPES[datatype]
    options = {"allow_nan": False, "allow_infinity": False} if finite and dtype.kind == "f" else {}
    found = draw(arrays.arrays(dtype, shape, elements=arrays.from_dtype(dtype, **options)))
    return Tensor(draw(names), datatype, shape, found.ravel())


def same(one: Tensor, other: Tensor) -> bool:
    if (one.name, one.datatype, one.shape) != (other.name, other.datatype, other.shape):
        return False
    if isinstance(one.data, list) or isinstance(other.data, list):
        return one.data == other.data
    return one.data.dtype == other.data.dtype and one.data.tobytes() == other.data.tobytes()


def written(tensor: Tensor, data: Any = None, **parameters: Any) -> dict[str, Any]:
    found = {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype, "parameters": parameters}
    return found if data is None else found | {"data": data}


def raw(tensor: Tensor) -> bytes:
    return strings(*tensor.data) if isinstance(tensor.data, list) else tensor.data.tobytes()


def elements(tensor: Tensor) -> npt.NDArray[Any]:
    if isinstance(tensor.data, list):
        return np.array([each.decode() for each in tensor.data] + [None], object)[:-1].reshape(tensor.shape)
    return tensor.data.reshape(tensor.shape)


# --- round trips --------------------------------------------------------------------------------------


@given(st.lists(tensor(), min_size=1, max_size=4))
def test_raw_tensors_read_back_bit_by_bit(sent: list[Tensor]) -> None:
    raws = [raw(each) for each in sent]
    inputs = [written(each, binary_data_size=len(data)) for each, data in zip(sent, raws, strict=True)]
    head = json.dumps({"inputs": inputs}).encode()
    found = v2.decode(head + b"".join(raws), len(head), "m", "")
    assert all(same(*pair) for pair in zip(sent, found.inputs, strict=True))


@given(tensor(finite=True), st.booleans())
def test_tensors_in_json_read_back_bit_by_bit_nested_or_flat(sent: Tensor, nested: bool) -> None:
    data = elements(sent).tolist() if nested else elements(sent).ravel().tolist()
    # An empty dimension hides those behind it from nested lists: only the flat form can say them.
    if nested and 0 in sent.shape[:-1]:
        data = []
    found = v2.decode(json.dumps({"inputs": [written(sent, data)]}).encode(), None, "m", "")
    assert same(sent, found.inputs[0])


@given(st.lists(tensor(finite=True), min_size=1, max_size=3), st.booleans())
def test_what_is_answered_reads_back_as_a_request(sent: list[Tensor], binary: bool) -> None:
    request = InferRequest("m", "", "", {"binary_data_output": binary}, ())
    body, length = v2.encode(InferResponse("m", "", "", {}, tuple(sent)), request)
    assert (length is not None) == binary
    head = json.loads(body[:length])
    again = json.dumps({"inputs": head["outputs"]}).encode()
    tail = body[len(body) if length is None else length :]
    found = v2.decode(again + tail, len(again), "m", "")
    assert all(same(*pair) for pair in zip(sent, found.inputs, strict=True))


@given(tensor())
def test_raw_data_is_what_the_sizes_say(sent: Tensor) -> None:
    data = tensors.to_raw(sent)
    back = tensors.from_raw(data, sent.datatype, tensors.count(sent.shape, "x"), "x")
    assert same(sent, Tensor(sent.name, sent.datatype, sent.shape, back))


# --- anything else ------------------------------------------------------------------------------------


def outcome(body: bytes, header: int | None) -> str:
    """The message, or nothing if the body is a good one; the only error is ours."""
    try:
        found = v2.decode(body, header, "m", "")
        if oip.is_transactions(found):
            oip.transactions(found, ("EUR",), 8)
        else:
            oip.vectors(found, NAMES, 8)
        oip.check_outputs(found, oip.is_transactions(found))
    except UsageError as problem:
        return f"{problem.message} — {problem.remedy or 'no remedy'}"
    return ""


def frame() -> tuple[bytes, int]:
    """A good request with every kind of column; the card number stands in JSON, the amount is raw."""
    inputs = [each for each in columns({}, {"transaction_id": "tx-2"}) if each["name"] != "amount"]
    amount = {"name": "amount", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": 16}}
    whole = {
        "id": "a-7",
        "inputs": [*inputs, amount],
        "outputs": [{"name": "score", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(whole).encode()
    return head + np.array([1_000, 2_000], "<i8").tobytes(), len(head)


GOOD, HEAD = frame()
_PARTS = [
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b":",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"\xff",
    b"\\ud800",
    b"99999999999999999999",
]
edits = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(_PARTS) | st.binary(max_size=6)),
    min_size=1,
    max_size=4,
)
headers = st.none() | st.integers(-2, len(GOOD) + 2) | st.just(HEAD)


def test_the_frame_that_is_mutated_is_a_good_one() -> None:
    assert outcome(GOOD, HEAD) == ""


@given(st.binary(max_size=200), st.none() | st.integers(-2, 210))
def test_arbitrary_bytes_end_in_our_error_or_in_a_request(body: bytes, header: int | None) -> None:
    outcome(body, header)


@given(edits, headers)
def test_a_mutated_frame_ends_in_our_error_and_tells_nobody_the_card(
    changes: list[tuple[int, int, bytes]], header: int | None
) -> None:
    body = GOOD
    for place, length, text in changes:
        body = body[:place] + text + body[place + length :]
    assert CARD not in outcome(body, header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(CARD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just(CARD), inner, max_size=4),
    max_leaves=8,
)
tensor_like = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*COLUMNS, "vectors", "cvv", CARD]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "datatype": st.sampled_from([*oip.DATATYPES, "BYTES"]) | json_values,
        "data": json_values,
    },
    optional={"parameters": json_values, CARD: json_values},
)
request_like = st.fixed_dictionaries(
    {"inputs": st.lists(tensor_like, max_size=3) | json_values},
    optional={"id": json_values, "parameters": json_values, "outputs": json_values, CARD: json_values},
)


@given(request_like)
def test_requests_of_wrong_types_end_in_our_error_and_tell_nobody_the_card(given: Any) -> None:
    assert CARD not in outcome(json.dumps(given).encode(), None)


@given(st.sampled_from(sorted(COLUMNS)), st.text(max_size=12), st.sampled_from(["", " ", "\n", ";"]))
def test_a_card_number_anywhere_but_in_pan_is_refused_unnamed(column: str, before: str, after: str) -> None:
    text = f"{before}{CARD}{after}"
    inputs = [each | ({"data": [text], "datatype": "BYTES"} if each["name"] == column else {}) for each in columns({})]
    said = outcome(json.dumps({"inputs": inputs}).encode(), None)
    assert CARD not in said
    if column == "pan":
        assert said == "" or "pan" in said
    elif not before[-1:].isalnum():
        assert said
