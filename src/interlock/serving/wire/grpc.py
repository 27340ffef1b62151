"""KServe protocol V2 over gRPC: messages, framing of one unary call, status codes. No socket here.

Contract. `decode` takes a ModelInferRequest's bytes and raises UsageError for everything wrong with
it, before anything is recorded; a message names fields and places and never repeats what the caller
sent. Tensors come in `contents` or all of them in `raw_input_contents`, never both; whoever sends
raw is answered raw (OIP, gRPC section), and so is a request whose answer has an FP16 tensor, for
which no typed field exists. A Refusal is what a caller gets instead of an answer: a gRPC code and a
sentence, without card numbers, never a stack trace.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from interlock.base.errors import UsageError
from interlock.privacy import pan as pans
from interlock.privacy.redact import redact
from interlock.serving.wire import grpc_schema, tensors
from interlock.serving.wire.oip import DATATYPES, InferRequest, InferResponse, Parameters, Tensor, Wanted

INFERENCE = grpc_schema.load("grpc_inference.proto")
HEALTH = grpc_schema.load("grpc_health.proto")
PREFIX = 5
"""Bytes before a message: compressed or not, and its length (gRPC over HTTP/2, Length-Prefixed-Message)."""
MAX_TEXT = 1_024
"""Characters in a name, an id, a string parameter or a refusal."""

CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The one field of InferTensorContents that carries a datatype."""


class Code(IntEnum):
    """The gRPC status codes that this server gives."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


_OF_HTTP = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class Refusal(Exception):
    """Why a call gets no answer: gRPC code, a sentence without card numbers, seconds until a retry (0: none)."""

    def __init__(self, code: Code, message: str, retry_s: int = 0) -> None:
        self.code = code
        self.message = redact(message)[:MAX_TEXT]
        self.retry_s = retry_s
        super().__init__(self.message)


def code_of(status: int) -> Code:
    """The gRPC code for an HTTP status of the scoring API; what the table does not know is INTERNAL."""
    return _OF_HTTP.get(status, Code.INTERNAL)


def decode(body: bytes) -> tuple[InferRequest, bool]:
    """A ModelInferRequest's meaning, and whether it came raw.

    Raises:
        UsageError: anything about it breaks a rule.
    """
    message = parse(INFERENCE.messages["ModelInferRequest"], body)
    inputs, raws = message.inputs, message.raw_input_contents
    if not 1 <= len(inputs) <= tensors.MAX_INPUTS:
        raise UsageError("a number of inputs that is not accepted", f"send 1 to {tensors.MAX_INPUTS}")
    if len(message.outputs) > tensors.MAX_OUTPUTS:
        raise UsageError("too many requested outputs", f"send at most {tensors.MAX_OUTPUTS}")
    if raws and len(raws) != len(inputs):
        raise UsageError("raw_input_contents is not one entry an input", "send all inputs raw, or none")
    identifier = message.id
    if len(identifier) > MAX_TEXT or (len(identifier) >= pans.MIN_DIGITS and pans.find(identifier)):
        raise UsageError("id is too long or holds a card number", f"send at most {MAX_TEXT} characters")
    request = InferRequest(
        message.model_name,
        message.model_version,
        identifier,
        _parameters(message.parameters, "parameters"),
        tuple(
            [_input(each, raws[place] if raws else None, f"inputs[{place}]") for place, each in enumerate(inputs)],
        ),
        tuple([_wanted(each, place) for place, each in enumerate(message.outputs)]),
    )
    return request, bool(raws)


def encode(response: InferResponse, raw: bool) -> bytes:
    """A ModelInferResponse, raw or typed; raw also where a tensor is FP16."""
    message = INFERENCE.messages["ModelInferResponse"](
        model_name=response.model, model_version=response.version, id=response.id
    )
    _fill(message.parameters, response.parameters)
    raw = raw or any(each.datatype == "FP16" for each in response.outputs)
    for tensor in response.outputs:
        made = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _fill(made.parameters, tensor.parameters)
        if raw:
            message.raw_output_contents.append(tensors.to_raw(tensor))
        else:
            data = tensor.data if isinstance(tensor.data, list) else tensor.data.tolist()
            getattr(made.contents, CONTENTS[tensor.datatype]).extend(data)
    encoded: bytes = message.SerializeToString()
    return encoded


def parse(kind: Any, body: bytes) -> Any:
    """A message of a class of ours from its bytes.

    Raises:
        UsageError: they are not such a message.
    """
    try:
        return kind.FromString(body)
    except DecodeError:
        raise UsageError(
            "the message is not of the method's type", "use stubs made from grpc_inference.proto"
        ) from None


def model_metadata(described: Mapping[str, Any]) -> bytes:
    """A ModelMetadataResponse from what `oip.model_metadata` says (gRPC has no place for its properties)."""
    kind = INFERENCE.messages["ModelMetadataResponse"]
    fields = ("name", "versions", "platform", "inputs", "outputs")
    encoded: bytes = kind(**{name: described[name] for name in fields if name in described}).SerializeToString()
    return encoded


def repository_index(models: Iterable[Mapping[str, str]], ready: bool) -> bytes:
    """A RepositoryIndexResponse; with `ready`, of what answers now."""
    kept = [dict(each) for each in models if not ready or each["state"] == "READY"]
    encoded: bytes = INFERENCE.messages["RepositoryIndexResponse"](models=kept).SerializeToString()
    return encoded


def named(message: Any) -> str:
    """The model in a RepositoryModelLoad or Unload request, in Triton's layout or KServe's (see the `.proto`)."""
    name: str = message.model_name or message.repository_name
    return name


def version_of(message: Any) -> str:
    """The version that a RepositoryModelLoad or Unload request names; empty: none in particular.

    Raises:
        UsageError: it is no text, or too long.
    """
    if "version" not in message.parameters:
        return ""
    given = message.parameters["version"]
    version: str = given.string_param
    if given.WhichOneof("parameter_choice") != "string_param" or not 1 <= len(version) <= 64:
        raise UsageError("the parameter version is no name of a version", "send it as string_param")
    return version


def framed(message: bytes) -> bytes:
    """A message with its prefix, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def declared(prefix: bytes) -> int:
    """How long a message says it is, from its first `PREFIX` bytes."""
    return int.from_bytes(prefix[1:PREFIX], "big")


def unframed(data: bytes, coding: str, most: int) -> bytes:
    """The one message that a unary request must be.

    Args:
        data: all bytes of the request's stream.
        coding: its `grpc-encoding`.
        most: bytes of a message, uncompressed.

    Raises:
        UsageError: not exactly one message, or not of its coding.
        Refusal: a coding nobody knows here, or a message that is too large.
    """
    if len(data) < PREFIX or len(data) - PREFIX != declared(data):
        raise UsageError("the request is not exactly one message", "send one length-prefixed message, then end")
    if data[0] == 0:
        message = data[PREFIX:]
    elif data[0] == 1:
        message = _inflated(data[PREFIX:], coding, most)
    else:
        raise UsageError("the message has unknown flags", "send 0, or 1 for a compressed message")
    if len(message) > most:
        raise too_large(most)
    return message


def too_large(most: int) -> Refusal:
    """The refusal of a message of more than `most` bytes."""
    return Refusal(Code.RESOURCE_EXHAUSTED, f"the message is too large — send at most {most} bytes")


_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_UNIT_NS = {"H": 3_600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}


def timeout_ns(text: str) -> int:
    """A `grpc-timeout` in nanoseconds.

    Raises:
        UsageError: it is not up to eight digits and a unit.
    """
    found = _TIMEOUT.match(text)
    if found is None:
        raise UsageError("grpc-timeout is malformed", "send up to 8 digits and one of H M S m u n")
    return int(found[1]) * _UNIT_NS[found[2]]


def percent_encoded(text: str) -> str:
    """A text as `grpc-message` carries it: UTF-8, all but printable ASCII percent-encoded, and `%` too."""
    return "".join([chr(each) if 0x20 <= each <= 0x7E and each != 0x25 else f"%{each:02X}" for each in text.encode()])


_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
CODINGS = ", ".join(("identity", *_WINDOW_BITS))
"""What `grpc-accept-encoding` says."""


def _inflated(data: bytes, coding: str, most: int) -> bytes:
    bits = _WINDOW_BITS.get(coding)
    if bits is None:
        raise Refusal(Code.UNIMPLEMENTED, f"a compression that is not known here — use one of {CODINGS}")
    stream = zlib.decompressobj(bits)
    try:
        found = stream.decompress(data, most + 1)  # never more in memory than is accepted, whatever it claims
    except zlib.error:
        raise UsageError(
            "the message is not of its grpc-encoding", "compress it, or clear its compressed flag"
        ) from None
    if len(found) > most:
        raise too_large(most)
    if not stream.eof or stream.unused_data:
        raise UsageError("the compressed message is cut off or followed by more", "send exactly one") from None
    return found


def _input(given: Any, raw: bytes | None, at: str) -> Tensor:
    name, datatype, shape = given.name, given.datatype, tuple(given.shape)
    if not 1 <= len(name) <= tensors.MAX_NAME:
        raise UsageError(f"{at}.name is empty or too long", f"send 1 to {tensors.MAX_NAME} characters")
    elements = tensors.count(shape, at)
    if raw is None:
        data = _typed(given.contents, datatype, elements, at)
    elif given.HasField("contents"):
        raise UsageError(f"{at} has contents beside raw_input_contents", "send one of the two")
    else:
        data = tensors.from_raw(raw, datatype, elements, at)
    parameters = given.parameters
    return Tensor(name, datatype, shape, data, _parameters(parameters, at) if parameters else {})


def _typed(contents: Any, datatype: str, elements: int, at: str) -> npt.NDArray[Any] | list[bytes]:
    field = CONTENTS.get(datatype)
    if field is None:
        if datatype in DATATYPES:
            raise UsageError(f"{at} has a datatype without contents", "send it in raw_input_contents")
        raise tensors.unknown(at)
    values = getattr(contents, field)
    if len(values) != elements or len(contents.ListFields()) > 1:
        raise UsageError(f"{at}.contents is not its shape or datatype", f"send one {field} per element, nothing else")
    if datatype == "BYTES":
        return _bounded(values, at)
    try:
        return _array(values, DATATYPES[datatype])
    except OverflowError:
        raise UsageError(f"{at}.contents has an element that does not fit its datatype", "send a wider one") from None


def _array(values: Sequence[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.kind in "iu" and dtype.itemsize < 4:
        wide = np.fromiter(values, np.int64, len(values))
        bounds = np.iinfo(dtype)
        if wide.size and not (bounds.min <= wide.min() and wide.max() <= bounds.max):
            raise OverflowError
        return wide.astype(dtype)
    return np.fromiter(values, dtype, len(values))


def _bounded(values: Sequence[bytes], at: str) -> list[bytes]:
    found = list(values)
    if any(len(each) > tensors.MAX_STRING for each in found):
        raise UsageError(f"{at}.contents has an element that is too long", f"send at most {tensors.MAX_STRING} bytes")
    return found


def _wanted(given: Any, place: int) -> Wanted:
    if not 1 <= len(given.name) <= tensors.MAX_NAME:
        raise UsageError(f"outputs[{place}].name is empty or too long", f"send 1 to {tensors.MAX_NAME} characters")
    return Wanted(given.name, _parameters(given.parameters, f"outputs[{place}]"))


def _parameters(given: Any, at: str) -> Parameters:
    """An InferParameter map as plain values; one without a value counts as absent, like JSON's null."""
    if not given:
        return {}
    if len(given) > tensors.MAX_PARAMETERS:
        raise UsageError(f"{at} has too many parameters", f"send at most {tensors.MAX_PARAMETERS}")
    found: dict[str, bool | int | float | str] = {}
    for name, value in given.items():
        chosen = value.WhichOneof("parameter_choice")
        if chosen is None:
            continue
        plain = getattr(value, chosen)
        if not 1 <= len(name) <= tensors.MAX_NAME or (isinstance(plain, str) and len(plain) > MAX_TEXT):
            raise UsageError(f"{at} has a parameter that is too long or has no name", f"at most {MAX_TEXT} characters")
        found[name] = plain
    return found


_CHOICES: Mapping[type, Callable[[Any], str]] = {
    bool: lambda _: "bool_param",
    int: lambda value: "int64_param" if value < 2**63 else "uint64_param",
    float: lambda _: "double_param",
    str: lambda _: "string_param",
}


def _fill(into: Any, parameters: Parameters) -> None:
    for name, value in parameters.items():
        setattr(into[name], _CHOICES[type(value)](value), value)
