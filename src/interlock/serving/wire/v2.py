"""KServe protocol V2 over REST: JSON, and JSON followed by raw tensors (binary tensor data extension).

Contract. `decode` takes a body as it came (after any content coding) and raises UsageError for
everything that is wrong with it, before anything is recorded; a message names fields, places and
rules and never repeats what the caller sent. Data is row-major, nested as its shape or flat.
An unknown field is refused, as on V1: a misspelt `outputs` would silently change the answer, and
a card code beside the inputs would pass unseen. `model_name`, which the official KServe client
adds, is accepted and ignored, as KServe does: the path names the model. `null` means absent.
A header length of 0 is one raw FP32 vector, since the model's own input is the only one that a
body without any description can mean.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from interlock.base.errors import UsageError
from interlock.privacy import pan as pans
from interlock.serving.wire import oip, tensors, v1
from interlock.serving.wire.oip import InferRequest, InferResponse, Tensor, Wanted

MAX_ID = 256

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=tensors.MAX_NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=1_024)]
_String = Annotated[str, msgspec.Meta(max_length=tensors.MAX_STRING)]
_Given = Annotated[
    dict[_Name, bool | int | float | _Text | None], msgspec.Meta(max_length=tensors.MAX_PARAMETERS)
]  # fmt: skip


class RequestInput(msgspec.Struct, forbid_unknown_fields=True):
    """An input tensor; the data stays JSON text until its datatype is known."""

    name: _Name
    shape: Annotated[list[int], msgspec.Meta(min_length=1, max_length=tensors.MAX_DIMS)]
    datatype: Annotated[str, msgspec.Meta(max_length=16)]
    parameters: _Given | None = None
    data: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class RequestOutput(msgspec.Struct, forbid_unknown_fields=True):
    """A requested output."""

    name: _Name
    parameters: _Given | None = None


class InferenceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an inference request, or the JSON that raw tensors follow."""

    inputs: Annotated[list[RequestInput], msgspec.Meta(min_length=1, max_length=tensors.MAX_INPUTS)]
    id: Annotated[str, msgspec.Meta(max_length=MAX_ID)] | None = None
    model_name: _Text | None = None
    parameters: _Given | None = None
    outputs: Annotated[list[RequestOutput], msgspec.Meta(max_length=tensors.MAX_OUTPUTS)] | None = None


class RepositoryIndexRequest(msgspec.Struct, frozen=True):
    """The body of an index request; with `ready`, only what answers now is listed."""

    ready: bool = False


class RepositoryParameters(msgspec.Struct, frozen=True):
    """Of a load or unload request: `version` names one that is admitted; what else a client sends decides nothing."""

    version: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | msgspec.UnsetType = msgspec.UNSET


class RepositoryModelRequest(msgspec.Struct, frozen=True):
    """The body of a load or unload request."""

    parameters: RepositoryParameters = RepositoryParameters()


class ResponseOutput(msgspec.Struct, omit_defaults=True):
    """An output tensor; one without data follows the JSON raw."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class InferenceResponse(msgspec.Struct, omit_defaults=True):
    """The body of an inference response, or the JSON that raw tensors follow."""

    model_name: str
    outputs: list[ResponseOutput]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Any] = {}


_decode: Callable[[bytes | memoryview], InferenceRequest] = msgspec.json.Decoder(InferenceRequest).decode
_decode_index: Callable[[bytes], RepositoryIndexRequest] = msgspec.json.Decoder(RepositoryIndexRequest).decode
_decode_model: Callable[[bytes], RepositoryModelRequest] = msgspec.json.Decoder(RepositoryModelRequest).decode
_encode = msgspec.json.Encoder().encode
_REMEDY = "the OpenAPI page has the fields of an inference request"
_Asked = TypeVar("_Asked")
_BINARY_SIZE = "binary_data_size"
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What the official client sends as id: the scan for card numbers never finds one, and costs more."""
_OPENING = re.compile(rb"[ \t\n\r]*\[(?:[ \t\n\r]*\[)*")
_OPEN = ord("[")
_FIRST = b'0123456789-"tf]'
"""What may follow the bracket of a flat list."""
_ELEMENTS: dict[str, Any] = {
    **{name: float if name.startswith("FP") else int for name in oip.DATATYPES},
    "BOOL": bool,
    "BYTES": _String,
}
_FORMATS = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I",
    "UINT64": "Q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
"""Of `struct`, which refuses what does not fit where NumPy would wrap or make it infinite."""


def _nested(element: Any) -> list[Callable[[Any], Any]]:
    decoders = []
    for _ in range(tensors.MAX_DIMS):
        element = list[element]
        decoders.append(msgspec.json.Decoder(element).decode)
    return decoders


_DATA = {kind: _nested(kind) for kind in (bool, int, float, _String)}


def decode(body: bytes, header_length: int | None, model: str, version: str) -> InferRequest:
    """The request in a body.

    Args:
        body: JSON, or JSON and the raw bytes of the inputs that have a `binary_data_size`, in order.
        header_length: of the JSON (`Inference-Header-Content-Length`); None: all of it; 0: no JSON.
        model: of the path.
        version: of the path, or empty.

    Raises:
        UsageError: anything about the body breaks a rule.
    """
    if header_length == 0:
        return _raw(body, model, version)
    head: bytes | memoryview = body
    if header_length is not None:
        if not 0 < header_length <= len(body):
            raise UsageError("the header length is not within the body", "send the length of the JSON in bytes")
        head = memoryview(body)[:header_length]
    try:
        found = _decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise v1.malformed(error, _REMEDY) from None
    at = len(body) if header_length is None else header_length
    inputs = []
    for place, each in enumerate(found.inputs):
        tensor, at = _tensor(each, place, body, at)
        inputs.append(tensor)
    if at != len(body):
        raise UsageError("the body is longer than its inputs", f"give the size of each in {_BINARY_SIZE}")
    identifier = found.id or ""
    if len(identifier) >= pans.MIN_DIGITS and not _UUID.fullmatch(identifier) and pans.find(identifier):
        raise UsageError("id holds a card number", "send card numbers in pan alone")
    parameters = _parameters(found.parameters)
    _flag(parameters, "binary_data_output", "parameters")
    return InferRequest(model, version, identifier, parameters, tuple(inputs), _wanted(found.outputs))


def encode(response: InferResponse, request: InferRequest) -> tuple[bytes, int | None]:
    """A response's body, and the length of its JSON if raw tensors follow it.

    An output is raw if the request's output says so (`binary_data`), else if the request does
    (`binary_data_output`). A number that JSON does not have (NaN: no score) is null.

    Raises:
        UsageError: bytes that are no text would have to be JSON.
    """
    binary = bool(request.parameters.get("binary_data_output", False))
    each_binary = {each.name: bool(each.parameters.get("binary_data", binary)) for each in request.outputs}
    outputs, raws = [], []
    for tensor in response.outputs:
        output = ResponseOutput(tensor.name, tensor.datatype, tensor.shape, dict(tensor.parameters))
        if each_binary.get(tensor.name, binary):
            raw = tensors.to_raw(tensor)
            output.parameters[_BINARY_SIZE] = len(raw)
            raws.append(raw)
        else:
            output.data = _plain(tensor.data)
        outputs.append(output)
    head = _encode(InferenceResponse(response.model, outputs, response.version, response.id, dict(response.parameters)))
    return (b"".join([head, *raws]), len(head)) if raws else (head, None)


def repository_ready(body: bytes) -> bool:
    """Whether an index request wants only what answers now; an empty body does not.

    Raises:
        UsageError: the body is not JSON, or not of its form.
    """
    return _repository(body, _decode_index).ready


def repository_version(body: bytes) -> str:
    """The version in a load or unload request; empty: none in particular.

    Raises:
        UsageError: the body is not JSON, or not of its form.
    """
    return _repository(body, _decode_model).parameters.version or ""


def server_metadata(version: str) -> bytes:
    """`GET /v2`: name, version, extensions."""
    extensions = ["binary_tensor_data", "model_repository"]
    return _encode({"name": "interlock", "version": version, "extensions": extensions})


def live(value: bool) -> bytes:
    """`GET /v2/health/live`."""
    return _encode({"live": value})


def ready(value: bool) -> bytes:
    """`GET /v2/health/ready`, as KServe says it (the specification's example says `live` here too)."""
    return _encode({"ready": value})


def model_ready(name: str, value: bool) -> bytes:
    """`GET /v2/models/{name}/ready`."""
    return _encode({"name": name, "ready": value})


def models(names: Sequence[str]) -> bytes:
    """`GET /v2/models`, an addition of KServe's."""
    return _encode({"models": list(names)})


error = v1.error
"""The protocol's error object is V1's."""


def _repository(body: bytes, decode: Callable[[bytes], _Asked]) -> _Asked:
    try:
        return decode(body.strip() or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise v1.malformed(error, 'send {}, {"ready": true} or {"parameters": {"version": "1.0.0"}}') from None


def _raw(body: bytes, model: str, version: str) -> InferRequest:
    if not body or len(body) % 4:
        raise UsageError("a raw body is one FP32 vector", "send 4 bytes per feature, or JSON that describes the inputs")
    elements = len(body) // 4
    tensors.count((elements,), "the body")
    data = tensors.from_raw(body, "FP32", elements, "the body")
    # As Triton does: who sends no JSON gets none to read, beside the header of the reply.
    parameters = {"binary_data_output": True}
    return InferRequest(model, version, "", parameters, (Tensor(oip.VECTORS, "FP32", (elements,), data),))


def _tensor(given: RequestInput, place: int, body: bytes, start: int) -> tuple[Tensor, int]:
    """One input, and where the next one's raw bytes begin."""
    at, shape, datatype = f"inputs[{place}]", tuple(given.shape), given.datatype
    elements = tensors.count(shape, at)
    if datatype not in _ELEMENTS:
        raise tensors.unknown(at)
    parameters = _parameters(given.parameters)
    size = parameters.pop(_BINARY_SIZE, None)
    text = memoryview(given.data)
    written = len(text) > len(b"null") or bytes(text) not in (b"", b"null")
    data: npt.NDArray[Any] | list[bytes]
    if size is None:
        if not written:
            raise UsageError(f"{at} has no data", f"send data, or {_BINARY_SIZE} and the bytes after the JSON")
        data = _data(text, (datatype, shape, elements), at)
        return Tensor(given.name, datatype, shape, data, parameters), start
    if written:
        raise UsageError(f"{at} has data twice", f"send data or {_BINARY_SIZE}")
    if type(size) is not int or not 0 <= size <= len(body) - start:
        raise UsageError(
            f"{at} has no such bytes after the JSON", f"give their number in {_BINARY_SIZE}, and the header length"
        )
    data = tensors.from_raw(body[start : start + size], datatype, elements, at)
    return Tensor(given.name, datatype, shape, data, parameters), start + size


def _data(text: memoryview, kind: tuple[str, tuple[int, ...], int], at: str) -> npt.NDArray[Any] | list[bytes]:
    datatype, shape, elements = kind
    depth = _depth(text)
    if depth not in (1, len(shape)):
        raise UsageError(f"{at}.data is neither flat nor nested as its shape", "send a list of the elements in order")
    try:
        values = _DATA[_ELEMENTS[datatype]][depth - 1](text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UsageError(
            f"{at}.data has an element that is not of its datatype, or too long", "send what the datatype says"
        ) from None
    if depth > 1:
        values = _flat(values, shape, at)
    if len(values) != elements:
        raise UsageError(f"{at}.data has {len(values)} elements, which is not its shape", "send one per element")
    if datatype == "BYTES":
        return [each.encode() for each in values]
    try:
        return np.frombuffer(struct.pack(f"<{elements}{_FORMATS[datatype]}", *values), oip.DATATYPES[datatype])
    except (struct.error, OverflowError):
        raise UsageError(f"{at}.data has an element that does not fit its datatype", "send a wider datatype") from None


def _depth(text: memoryview) -> int:
    """How many lists open before the first element."""
    if len(text) > 1 and text[1] in _FIRST:
        return int(text[0] == _OPEN)
    opening = _OPENING.match(text)
    return opening.group().count(b"[") if opening else 0


def _flat(nested: list[Any], shape: tuple[int, ...], at: str) -> list[Any]:
    level = [nested]
    for size in shape:
        if any(len(each) != size for each in level):
            raise UsageError(f"{at}.data is not nested as its shape", "send a list of the elements in order")
        level = list(chain.from_iterable(level))
    return level


def _wanted(given: list[RequestOutput] | None) -> tuple[Wanted, ...]:
    if not given:
        return ()
    found = tuple(Wanted(each.name, _parameters(each.parameters)) for each in given)
    for place, each in enumerate(found):
        _flag(each.parameters, "binary_data", f"outputs[{place}].parameters")
    return found


def _parameters(given: dict[str, bool | int | float | str | None] | None) -> dict[str, bool | int | float | str]:
    return {name: value for name, value in given.items() if value is not None} if given else {}


def _flag(parameters: oip.Parameters, name: str, at: str) -> None:
    if not isinstance(parameters.get(name, False), bool):
        raise UsageError(f"{at}.{name} is not a boolean", "send true or false")


def _plain(data: npt.NDArray[np.generic] | list[bytes]) -> Any:
    if not isinstance(data, list):
        return data.tolist()
    try:
        return [each.decode() for each in data]
    except UnicodeDecodeError:
        raise UsageError("an output is not text", "ask for it with binary_data") from None
