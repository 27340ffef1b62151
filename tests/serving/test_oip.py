"""Protocol requests as transactions and vectors, decisions and scores as protocol responses."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.protocol.bodies import CARD, COLUMNS, columns

from interlock.base.errors import UsageError
from interlock.serving.wire import oip, v1, v2
from interlock.serving.wire.oip import InferRequest, InferResponse, Tensor, Wanted

EUR = ("EUR",)
NAMES = ["amount_1h", "count_1h", "ratio"]


def request(*inputs: Tensor, outputs: tuple[Wanted, ...] = ()) -> InferRequest:
    return InferRequest("fraud", "", "7", {}, inputs, outputs)


def read(*inputs: dict[str, Any]) -> InferRequest:
    return v2.decode(json.dumps({"inputs": inputs}).encode(), None, "fraud", "")


def floats(values: Any, *shape: int, name: str = oip.VECTORS, datatype: str = "FP32") -> Tensor:
    data = np.array(values, oip.DATATYPES[datatype]).ravel()
    return Tensor(name, datatype, shape or (data.size,), data)


def replaced(name: str, changes: dict[str, Any]) -> InferRequest:
    """One good row, with one of its columns changed."""
    return read(*[column | changes if column["name"] == name else column for column in columns({})])


def refusal(given: InferRequest, most: int = 4) -> UsageError:
    with pytest.raises(UsageError) as caught:
        oip.transactions(given, EUR, most)
    assert caught.value.remedy
    return caught.value


# --- transactions -------------------------------------------------------------------------------------


def test_columns_are_the_transactions_that_v1_would_read() -> None:
    rows: list[dict[str, Any]] = [{}, {"transaction_id": "tx-2", "amount": 0, "country": "DE"}]
    given = read(*columns(*rows))
    assert oip.is_transactions(given)
    body = json.dumps({"instances": [COLUMNS | row for row in rows]}).encode()
    assert oip.transactions(given, EUR, 4) == v1.decode(body, EUR, 4)


def test_columns_may_be_n_by_one_and_in_any_order() -> None:
    given = read(*reversed([column | {"shape": [1, 1]} for column in columns({})]))
    assert oip.transactions(given, EUR, 4)[0].pan == CARD


@pytest.mark.parametrize("name", ["mcc", "country", "event_time"])
def test_an_optional_column_may_be_absent_or_empty_in_a_row(name: str) -> None:
    (absent,) = oip.transactions(read(*columns({}, without=(name,))), EUR, 4)
    empty, there = oip.transactions(read(*columns({name: ""}, {})), EUR, 4)
    assert getattr(absent, name) is getattr(empty, name) is None
    assert getattr(there, name) == COLUMNS[name]


@pytest.mark.parametrize("datatype", ["INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"])
def test_the_amount_may_be_of_any_integer_type(datatype: str) -> None:
    (found,) = oip.transactions(replaced("amount", {"datatype": datatype, "data": [99]}), EUR, 4)
    assert found.amount == 99


BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "an amount with a fraction": ("amount", {"datatype": "FP64", "data": [10.0]}, "amount is not of an integer type"),
    "an amount as text": ("amount", {"datatype": "BYTES", "data": ["10"]}, "amount is not of an integer type"),
    "an amount as booleans": ("amount", {"datatype": "BOOL", "data": [True]}, "amount is not of an integer type"),
    "a negative amount": ("amount", {"data": [-1]}, "at `amount[0]`"),
    "an amount that could hide a card number": ("amount", {"data": [v1.MAX_AMOUNT + 1]}, "at `amount[0]`"),
    "a text that is a number": ("currency", {"datatype": "INT64", "data": [978]}, "currency is not BYTES"),
    "another currency": ("currency", {"data": ["USD"]}, "instances[0].currency is not accepted"),
    "a short card number": ("pan", {"data": ["41111111111"]}, "at `pan[0]`"),
    "an id with a newline": ("transaction_id", {"data": ["tx\n"]}, "at `transaction_id[0]`"),
    "an id that is a card number": ("transaction_id", {"data": [CARD]}, "transaction_id holds a card number"),
    "a terminal that is a card number": ("terminal_id", {"data": [f"t {CARD}"]}, "terminal_id holds a card number"),
    "an empty column that must be there": ("device_id", {"data": [""]}, "at `device_id[0]`"),
    "another shape": ("ip", {"shape": [1, 1, 1], "data": ["10.0.0.1"]}, "ip has another shape"),
    "another length": ("ip", {"shape": [2], "data": ["10.0.0.1"] * 2}, "ip has another shape"),
    "rows of two": ("ip", {"shape": [1, 2], "data": ["10.0.0.1"] * 2}, "ip has another shape"),
    "another name": ("ip", {"name": "ip_address"}, "unknown field ip_address"),
    "a name that may be a value": ("ip", {"name": CARD}, "unknown field with another name"),
    "a card code": ("ip", {"name": "cvv"}, "sensitive authentication data"),
    "a column twice": ("mcc", {"name": "country", "data": ["NL"]}, "a column is there twice"),
}


@pytest.mark.parametrize(("name", "changes", "said"), BROKEN.values(), ids=BROKEN)
def test_what_v1_refuses_and_wrong_columns_are_refused_by_place(name: str, changes: dict[str, Any], said: str) -> None:
    problem = str(refusal(replaced(name, changes)))
    assert said in problem
    assert CARD not in problem


def test_bytes_that_are_no_text_are_refused() -> None:
    good = read(*columns({}))
    torn = [Tensor("ip", "BYTES", (1,), [b"\xff"]) if each.name == "ip" else each for each in good.inputs]
    assert "ip is not UTF-8" in str(refusal(request(*torn)))


def test_missing_columns_are_named() -> None:
    assert "missing pan, amount" in str(refusal(read(*columns({}, without=("pan", "amount", "mcc")))))
    assert "missing transaction_id, pan" in str(refusal(request()))


@pytest.mark.parametrize("rows", [0, 5])
def test_rows_are_bounded(rows: int) -> None:
    assert "send 1 to 4 rows" in str(refusal(read(*columns(*[{}] * rows))))


def test_a_tensor_whose_data_is_not_its_shape_is_refused() -> None:
    good = read(*columns({}, {}))
    torn = [Tensor("ip", "BYTES", (2,), [b"10.0.0.1"]) if each.name == "ip" else each for each in good.inputs]
    assert "ip has another shape" in str(refusal(request(*torn)))


# --- vectors ------------------------------------------------------------------------------------------


def test_one_tensor_of_any_name_is_the_models_own_input() -> None:
    given = request(floats([1, 2, 3, 4, 5, 6], 2, 3, name="input-0"))
    assert not oip.is_transactions(given)
    found = oip.vectors(given, NAMES, 8)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.flags.writeable  # its own copy: nothing of the request's body is kept alive
    assert found.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert oip.vectors(request(floats([1, 2, 3])), NAMES, 8).tolist() == [[1, 2, 3]]


def test_one_tensor_per_feature_is_put_into_the_models_order() -> None:
    given = request(
        floats([7, 8], name="ratio"), floats([1, 4], 2, 1, name="amount_1h"), floats([2, 5], name="count_1h")
    )
    assert oip.vectors(given, NAMES, 8).tolist() == [[1, 2, 7], [4, 5, 8]]


def test_a_model_of_one_feature_takes_its_name_or_any() -> None:
    assert oip.vectors(request(floats([1, 2], name="only")), ["only"], 8).tolist() == [[1], [2]]
    assert oip.vectors(request(floats([1, 2], 2, 1)), ["only"], 8).tolist() == [[1], [2]]


@pytest.mark.parametrize("datatype", [each for each in oip.DATATYPES if each != "BOOL"])
def test_values_that_float32_holds_exactly_may_come_in_any_numeric_type(datatype: str) -> None:
    assert oip.vectors(request(floats([0, 1, 127], datatype=datatype)), NAMES, 8).tolist() == [[0, 1, 127]]


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ([0.1, 0, 0], "FP64"),
        ([2**24 + 1, 0, 0], "INT32"),
        ([2**53 + 1, 0, 0], "INT64"),
        ([-(2**63), 0, 0], "INT64"),
        ([2**64 - 1, 0, 0], "UINT64"),
    ],
)
def test_rounding_is_left_to_the_caller(values: list[float], datatype: str) -> None:
    with pytest.raises(UsageError, match="cannot hold exactly"):
        oip.vectors(request(floats(values, datatype=datatype)), NAMES, 8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_values_that_are_not_finite_are_refused(value: float, datatype: str) -> None:
    with pytest.raises(UsageError, match="no finite float32"):
        oip.vectors(request(floats([1, value, 2], datatype=datatype)), NAMES, 8)


def test_a_double_beyond_float32_is_refused() -> None:
    with pytest.raises(UsageError, match="no finite float32"):
        oip.vectors(request(floats([1e300, 0, 0], datatype="FP64")), NAMES, 8)


@pytest.mark.filterwarnings("error")
def test_large_finite_values_are_taken_without_a_warning() -> None:
    largest = float(np.finfo(np.float32).max)
    assert oip.vectors(request(floats([largest, -largest, 0])), NAMES, 8).tolist() == [[largest, -largest, 0]]


WRONG: dict[str, tuple[Tensor, ...]] = {
    "no inputs": (),
    "another width": (floats([1, 2, 3, 4], 2, 2),),
    "three dimensions": (floats([1, 2, 3], 1, 1, 3),),
    "no dimension": (Tensor("x", "FP32", (), np.array([1], np.float32)),),
    "text": (Tensor("x", "BYTES", (3,), [b"1", b"2", b"3"]),),
    "no rows": (floats([], 0, 3),),
    "too many rows": (floats([0] * 27, 9, 3),),
    "less data than the shape": (floats([1, 2, 3], 2, 3),),
    "a feature missing": (floats([1], name="ratio"), floats([1], name="count_1h")),
    "an unknown feature": tuple(floats([1], name=name) for name in (*NAMES, "other")),
    "a feature twice": tuple(floats([1], name=name) for name in (*NAMES, "ratio")),
    "features of other lengths": tuple(floats([1] * (place + 1), name=name) for place, name in enumerate(NAMES)),
    "too many rows of features": tuple(floats([1] * 9, name=name) for name in NAMES),
    "one feature that lies across": (
        floats([1, 2], name="ratio"),
        floats([1, 2], name="count_1h"),
        floats([1, 2], 1, 2, name="amount_1h"),
    ),
    "a feature of two columns": tuple(floats([1, 2], 1, 2, name=name) for name in NAMES),
    "a card code": (floats([1, 2, 3], name="cvv"),),
    "a card number as a name": tuple(floats([1], name=name) for name in (*NAMES, CARD)),
}


@pytest.mark.parametrize("inputs", WRONG.values(), ids=WRONG)
def test_what_is_not_the_models_input_is_refused(inputs: tuple[Tensor, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        oip.vectors(request(*inputs), NAMES, 8)
    assert caught.value.remedy
    assert CARD not in str(caught.value)


# --- answers ------------------------------------------------------------------------------------------

REPLIES = [
    v1.encode(v1.Prediction("tx-1", "d-1", 0.75, "DECLINE", ["R1", "R2"], "1.0.0", False)),
    v1.encode(v1.Prediction("tx-2", "d-2", None, "REVIEW", [], "rules", True)),
]


def answer(given: InferRequest, transactions: bool) -> InferResponse:
    if transactions:
        return oip.predictions(given, "1", REPLIES)
    return oip.scores(given, "1", np.array([0.1], np.float32), ["APPROVE"])


def values(tensor: Tensor) -> list[Any]:
    return list(tensor.data)


def test_decisions_are_one_tensor_per_field_of_a_prediction() -> None:
    found = oip.predictions(request(), "1.0.0", REPLIES)
    assert (found.model, found.version, found.id) == ("fraud", "1.0.0", "7")
    assert {each.name: each.datatype for each in found.outputs} == dict(oip.DECIDED)
    assert [each.name for each in found.outputs] == list(oip.DECIDED)
    assert {*oip.DECIDED, *oip.ON_REQUEST} == set(v1.Prediction.__struct_fields__)
    assert all(each.shape == (2,) for each in found.outputs)
    by_name = {each.name: values(each) for each in found.outputs}
    assert by_name["transaction_id"] == [b"tx-1", b"tx-2"]
    assert by_name["decision_id"] == [b"d-1", b"d-2"]
    assert by_name["score"][0] == 0.75
    assert np.isnan(by_name["score"][1])
    assert by_name["decision"] == [b"DECLINE", b"REVIEW"]
    assert by_name["model_version"] == [b"1.0.0", b"rules"]
    assert by_name["degraded"] == [False, True]
    assert [json.loads(each) for each in by_name["reasons"]] == [["R1", "R2"], []]


def test_the_deciding_service_is_told_when_it_is_asked_for() -> None:
    passed_on = v1.encode(v1.Prediction("t", "d", 0.5, "APPROVE", [], "9.0.0", False, "fraud-fr"))
    asked = msgspec.structs.replace(request(), outputs=(oip.Wanted("service"),))
    (service,) = oip.predictions(asked, "1.0.0", [REPLIES[0], passed_on]).outputs
    assert service.data == [b"fraud", b"fraud-fr"]


def test_scores_are_the_runtimes_own() -> None:
    found = oip.scores(request(), "2.0.0", np.array([0.1, 0.2], np.float32), ["APPROVE", "REVIEW"])
    score, decision = found.outputs
    assert (score.name, score.datatype, score.shape) == ("score", "FP32", (2,))
    np.testing.assert_array_equal(score.data, np.array([0.1, 0.2], np.float32))
    assert (decision.datatype, values(decision)) == ("BYTES", [b"APPROVE", b"REVIEW"])


def test_only_requested_outputs_are_given_in_their_order() -> None:
    wanted = (Wanted("decision"), Wanted("score"))
    decided = oip.predictions(request(outputs=wanted), "1", REPLIES)
    scored = oip.scores(request(outputs=wanted), "1", np.array([0.1], np.float32), ["APPROVE"])
    assert [[each.name for each in found.outputs] for found in (decided, scored)] == [["decision", "score"]] * 2


@pytest.mark.parametrize(
    ("outputs", "transactions"),
    [
        ((Wanted("probability"),), True),
        ((Wanted("decision_id"),), False),
        ((Wanted("score"), Wanted("score")), False),
        ((Wanted("score", {"classification": 3}),), False),
        ((Wanted("score", {"shared_memory_region": CARD}),), True),
        ((Wanted(CARD),), True),
    ],
)
def test_an_output_that_will_not_exist_is_refused_beforehand(outputs: tuple[Wanted, ...], transactions: bool) -> None:
    with pytest.raises(UsageError) as caught:
        oip.check_outputs(request(outputs=outputs), transactions)
    assert caught.value.remedy
    assert CARD not in str(caught.value)
    with pytest.raises(UsageError):
        answer(request(outputs=outputs), transactions)


def test_outputs_that_exist_pass() -> None:
    oip.check_outputs(request(), True)
    oip.check_outputs(request(outputs=tuple(Wanted(each) for each in oip.DECIDED)), True)
    oip.check_outputs(request(outputs=tuple(Wanted(each, {"binary_data": True}) for each in oip.SCORED)), False)


# --- metadata -----------------------------------------------------------------------------------------


def test_metadata_describes_both_ways_to_call() -> None:
    found = oip.model_metadata("fraud", ["2.0.0", "1.0.0"], NAMES, len(NAMES))
    assert (found["name"], found["versions"], found["platform"]) == ("fraud", ["2.0.0", "1.0.0"], "interlock_onnx")
    assert found["inputs"] == [{"name": "vectors", "datatype": "FP32", "shape": [-1, 3]}]
    assert {each["name"]: each["datatype"] for each in found["outputs"]} == oip.SCORED
    columns = dict(each.split(":") for each in found["properties"]["transactions.inputs"].split(","))
    assert set(columns) == set(v1.Transaction.__struct_fields__)
    assert (columns["amount"], columns["pan"]) == ("INT64", "BYTES")
    assert found["properties"]["tensors.features"] == "amount_1h,count_1h,ratio"
    assert "score:FP64" in found["properties"]["transactions.outputs"]
    assert json.loads(msgspec.json.encode(found)) == found


def test_metadata_names_optional_columns() -> None:
    named = oip.model_metadata("fraud", [], NAMES, 3)["properties"]["transactions.optional"]
    optional = {field.name for field in msgspec.structs.fields(v1.Transaction) if not field.required}
    assert set(re.split(",", named)) == optional
