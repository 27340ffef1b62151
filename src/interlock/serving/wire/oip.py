"""The Open Inference Protocol's requests and responses, however they were framed.

Contract. A request calls in one of two ways: *transactions* (one tensor per raw column, told by a
tensor named `transaction_id`) or *tensors* (the model's own inputs). What V1 refuses about a
transaction is refused here by the same code. Everything wrong is a UsageError, raised before
anything is recorded; messages name places and rules and never repeat a value that the caller sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from interlock.base.errors import UsageError
from interlock.privacy import pan as pans
from interlock.serving.wire import v1

VECTORS = "vectors"
"""What the metadata calls the one tensor of the model's own inputs; any other name is accepted."""

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The protocol's numeric types; `BYTES` is the other one."""

DECIDED: Mapping[str, str] = {
    "transaction_id": "BYTES",
    "decision_id": "BYTES",
    "score": "FP64",
    "decision": "BYTES",
    "model_version": "BYTES",
    "degraded": "BOOL",
    "reasons": "BYTES",
}
"""Outputs for transactions; a score that does not exist is NaN (null in JSON), reasons are a JSON list."""

ON_REQUEST: Mapping[str, str] = {"service": "BYTES"}
"""Outputs for transactions that come only when they are named: which service decided, the model or another one."""

SCORED: Mapping[str, str] = {"score": "FP32", "decision": "BYTES"}
"""Outputs for vectors."""

Parameters = Mapping[str, bool | int | float | str]


class Tensor(msgspec.Struct, frozen=True):
    """One named tensor.

    Attributes:
        name: as declared.
        datatype: of the protocol, such as `FP32` or `BYTES`.
        shape: row-major.
        data: flat and little-endian, or for `BYTES` a list.
        parameters: of the tensor.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.generic] | list[bytes]
    parameters: Parameters = msgspec.field(default_factory=dict)


class Wanted(msgspec.Struct, frozen=True):
    """A requested output."""

    name: str
    parameters: Parameters = msgspec.field(default_factory=dict)


class InferRequest(msgspec.Struct, frozen=True):
    """One request; an empty version means whatever serves now."""

    model: str
    version: str
    id: str
    parameters: Parameters
    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()


class InferResponse(msgspec.Struct, frozen=True):
    """One response."""

    model: str
    version: str
    id: str
    parameters: Parameters
    outputs: tuple[Tensor, ...]


_COLUMNS = tuple(v1.Transaction.__struct_fields__)
_OPTIONAL = frozenset({"mcc", "country", "event_time"})
_FEATURES = "send one tensor [n, {0}], or one per feature: the model's metadata lists all {0}"
_UNSUPPORTED = ("classification", "shared_memory_region")
_EXACT = 2**53
_TRANSACTIONS = list[v1.Transaction]
_STATED = list[v1.Stated]
_PLACE = re.compile(r"`\$\[(\d+)\]\.(\w+)`")
_prediction: Callable[[bytes], v1.Prediction] = msgspec.json.Decoder(v1.Prediction).decode
_FIELDS: Mapping[str, Callable[[v1.Prediction], Any]] = {
    "transaction_id": lambda each: each.transaction_id.encode(),
    "decision_id": lambda each: each.decision_id.encode(),
    "score": lambda each: np.nan if each.score is None else each.score,
    "decision": lambda each: each.decision.encode(),
    "model_version": lambda each: each.model_version.encode(),
    "degraded": lambda each: each.degraded,
    "reasons": lambda each: msgspec.json.encode(each.reasons),
}
_DECIDING = {**DECIDED, **ON_REQUEST}


def is_transactions(request: InferRequest) -> bool:
    """Whether the inputs are raw columns (one is `transaction_id`) rather than the model's own vectors."""
    return any(each.name == "transaction_id" for each in request.inputs)


def transactions(request: InferRequest, currencies: Sequence[str], max_instances: int) -> list[v1.Transaction]:
    """The transactions of a request with one tensor per raw column, each [n] or [n, 1].

    Columns are named as the fields of `v1.Transaction`: `BYTES` (UTF-8), but `amount` of any integer
    type. `mcc`, `country` and `event_time` may be absent, or empty in a row, which means the same.

    Raises:
        UsageError: a column is unknown, missing, twice there, of another type or length, or V1 would refuse it.
    """
    inputs = request.inputs
    names = tuple([each.name for each in inputs])
    optional = _check_columns(names)
    rows = _rows(inputs[0])
    _bound(rows, max_instances)  # before any value is looked at: the work is bounded by what the service takes
    values = [_values(each, rows) for each in inputs]
    found = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    for name in optional:
        for each in found:
            if each[name] == "":
                del each[name]
    try:
        converted = msgspec.convert(found, _TRANSACTIONS)
        if not all(map(v1.well_formed, converted)):
            msgspec.convert(found, _STATED)  # says which field of which row is not
            raise AssertionError("the two ways to check a transaction differ")
    except msgspec.ValidationError as error:
        problem = v1.malformed(error, "the model's metadata and the OpenAPI page describe the columns")
        raise UsageError(_PLACE.sub(r"`\2[\1]`", problem.message), problem.remedy) from None
    return v1.check(converted, currencies, max_instances)


def vectors(request: InferRequest, names: Sequence[str], max_rows: int) -> npt.NDArray[np.float32]:
    """The model's own inputs: float32 [n, len(names)], a copy in C order.

    Either one numeric tensor of any name, [n, width] or [width], or one per feature name, each [n]
    or [n, 1], in any order. Values must be float32 exactly, whatever type carries them: rounding is
    the caller's, who trained and tested with it.

    Args:
        request: of tensors.
        names: of the features, in the model's order.
        max_rows: at most.

    Raises:
        UsageError: shape, type, names, number of rows, or a value that is no finite float32.
    """
    width, inputs = len(names), request.inputs
    if len(inputs) == 1 and (width > 1 or inputs[0].name != names[0]):
        only = inputs[0]
        if only.name != VECTORS:
            pans.refuse_sensitive([only.name])
        rows = only.shape[0] if len(only.shape) == 2 else 1
        if only.shape[-1:] != (width,) or len(only.shape) > 2:
            raise UsageError("inputs[0] has another shape than the model takes", f"send [n, {width}] or [{width}]")
        _bound(rows, max_rows)
        return _float32(only, 0, rows * width).reshape(rows, width)
    places = {each.name: place for place, each in enumerate(inputs)}
    if places.keys() != set(names) or len(inputs) != width:
        v1.refuse_unknown((each for each in places if each not in names), "the model's metadata lists the features")
        raise UsageError("the inputs are not one tensor per feature", _FEATURES.format(width))
    rows = _rows(inputs[0])
    _bound(rows, max_rows)
    found = np.empty((rows, width), np.float32)
    for column, name in enumerate(names):
        tensor = inputs[places[name]]
        if _rows(tensor) != rows:
            raise UsageError("the features have different lengths", "send one value a row in every tensor")
        found[:, column] = _float32(tensor, places[name], rows)
    return found


def predictions(request: InferRequest, version: str, replies: Sequence[bytes]) -> InferResponse:
    """Decisions about transactions as tensors [n]: `DECIDED`, or those that the request names.

    Args:
        request: what is answered.
        version: of the model.
        replies: V1 predictions, JSON, in the order of the rows.

    Raises:
        UsageError: a requested output is unknown.
    """
    check_outputs(request, True)
    found = [_prediction(each) for each in replies]
    wanted = [each.name for each in request.outputs] or list(DECIDED)
    outputs = tuple(_tensor(name, _DECIDING[name], [_value(name, each, request) for each in found]) for name in wanted)
    return InferResponse(request.model, version, request.id, {}, outputs)


def scores(
    request: InferRequest, version: str, scores: npt.NDArray[np.float32], decisions: Sequence[str]
) -> InferResponse:
    """Scores and decisions for vectors, [n] each: `SCORED`, or those that the request names.

    Raises:
        UsageError: a requested output is unknown.
    """
    check_outputs(request, False)
    wanted = [each.name for each in request.outputs] or list(SCORED)
    outputs = tuple(
        Tensor(name, "FP32", (len(decisions),), scores)
        if name == "score"
        else _tensor(name, "BYTES", [each.encode() for each in decisions])
        for name in wanted
    )
    return InferResponse(request.model, version, request.id, {}, outputs)


def check_outputs(request: InferRequest, transactions: bool) -> None:
    """Refuse requested outputs that will not exist, before anything is recorded.

    Raises:
        UsageError: unknown, named twice, or wanted as classification or in shared memory.
    """
    if not request.outputs:
        return
    known = _DECIDING if transactions else SCORED
    names = [each.name for each in request.outputs]
    if any(each not in known for each in names) or len(set(names)) != len(names):
        raise UsageError("a requested output is unknown or named twice", f"there are {', '.join(known)}")
    if any(name in each.parameters for each in request.outputs for name in _UNSUPPORTED):
        raise UsageError("an output's parameter is not supported", f"leave out {', '.join(_UNSUPPORTED)}")


def model_metadata(name: str, versions: Sequence[str], names: Sequence[str], width: int) -> dict[str, Any]:
    """OIP model metadata.

    `inputs` and `outputs` are those of the model's own tensors, since a client that knows nothing else
    sends all that is listed; `properties` tells how transactions are sent.

    Args:
        name: of the service.
        versions: that answer now.
        names: of the features, in order.
        width: how many; of the one tensor that carries them.
    """
    return {
        "name": name,
        "versions": list(versions),
        "platform": "interlock_onnx",
        "inputs": [{"name": VECTORS, "datatype": "FP32", "shape": [-1, width]}],
        "outputs": [{"name": each, "datatype": kind, "shape": [-1]} for each, kind in SCORED.items()],
        "properties": {
            "tensors.features": ",".join(names),
            "transactions.inputs": ",".join(f"{each}:{'INT64' if each == 'amount' else 'BYTES'}" for each in _COLUMNS),
            "transactions.optional": ",".join(each for each in _COLUMNS if each in _OPTIONAL),
            "transactions.outputs": ",".join(f"{each}:{kind}" for each, kind in DECIDED.items()),
            "transactions.outputs.on_request": ",".join(f"{each}:{kind}" for each, kind in ON_REQUEST.items()),
        },
    }


def _value(name: str, each: v1.Prediction, request: InferRequest) -> Any:
    return (each.service or request.model).encode() if name == "service" else _FIELDS[name](each)


@lru_cache(64)  # callers send the same columns over and over; what is refused is not kept
def _check_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the columns may be empty in a row."""
    v1.refuse_unknown((each for each in names if each not in _COLUMNS), "the OpenAPI page lists the fields")
    missing = [each for each in _COLUMNS if each not in names and each not in _OPTIONAL]
    if missing:
        raise UsageError(f"missing {', '.join(missing)}", "send one tensor per field of a transaction")
    if len(set(names)) != len(names):
        raise UsageError("a column is there twice", "send one tensor per field of a transaction")
    return tuple(each for each in names if each in _OPTIONAL)


def _rows(tensor: Tensor) -> int:
    """Rows of a column: [n] or [n, 1]; -1 for another shape, or one that its data does not fill."""
    shape = tensor.shape
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return shape[0] if len(tensor.data) == shape[0] else -1
    return -1


def _values(column: Tensor, rows: int) -> Sequence[Any]:
    name, data = column.name, column.data
    if _rows(column) != rows:
        raise UsageError(f"{name} has another shape than the first column", "send [n] or [n, 1], one value a row")
    if name == "amount":
        if isinstance(data, list) or data.dtype.kind not in "iu":
            raise UsageError("amount is not of an integer type", "send INT64: minor units, no fraction")
        return cast(list[int], data.tolist())
    if not isinstance(data, list):
        raise UsageError(f"{name} is not BYTES", "send text as BYTES, UTF-8")
    try:
        return [each.decode() for each in data]
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8", "send text as BYTES, UTF-8") from None


def _bound(rows: int, most: int) -> None:
    if not 1 <= rows <= most:
        raise UsageError("a number of rows that is not accepted", f"send 1 to {most} rows in one request")


def _float32(tensor: Tensor, place: int, count: int) -> npt.NDArray[np.float32]:
    data = tensor.data
    if isinstance(data, list) or data.dtype.kind not in "biuf":
        raise UsageError(f"inputs[{place}] is not numeric", "send FP32")
    if data.size != count:
        raise UsageError(f"inputs[{place}] has data for another shape", "send one value per element")
    if data.dtype == np.float32:
        values = np.array(data, np.float32)
    else:
        with np.errstate(over="ignore"):
            values = data.astype(np.float32)
    if 0 in np.isfinite(values).tobytes():  # half the cost of all()
        raise UsageError(f"inputs[{place}] has a value that is no finite float32", "send finite numbers")
    if data.dtype != np.float32 and not _exact(values, data):
        raise UsageError(f"inputs[{place}] has a value that float32 cannot hold exactly", "round it: send FP32")
    return values


def _exact(values: npt.NDArray[np.float32], data: npt.NDArray[np.generic]) -> bool:
    if data.dtype.kind in "iu" and data.dtype.itemsize == 8 and (data.min() < -_EXACT or data.max() > _EXACT):
        return False  # beyond what float64 holds, the comparison below would mean nothing
    return bool((values.astype(np.float64) == data.astype(np.float64)).all())


def _tensor(name: str, datatype: str, values: list[Any]) -> Tensor:
    data = values if datatype == "BYTES" else np.array(values, DATATYPES[datatype])
    return Tensor(name, datatype, (len(values),), data)
