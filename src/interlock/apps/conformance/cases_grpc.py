"""Cases of protocol V2 over gRPC.

Message classes come from the published field numbers (`serving/wire/grpc_inference.proto`); tensors are
written and read by the suite itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError, Message

from interlock.apps.conformance.asking import NOBODY, samples
from interlock.apps.conformance.case import Answer, Call, Calls, GrpcCase, NotApplicable, Subject
from interlock.apps.conformance.judging import differences
from interlock.apps.conformance.tensors import DATATYPES, Output, Sample, Unreadable, size, unpack
from interlock.serving.wire import grpc_schema

SCHEMA = grpc_schema.load("grpc_inference.proto")
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
"""Datatype to its field of InferTensorContents; FP16 has none and must be raw."""

Judge = Callable[[Subject, Sequence[Answer]], Iterable[str]]
Change = Callable[[Any], None]
_NO_VERSION = "987654321"
_BAD = ("INVALID_ARGUMENT",)
_GONE = ("NOT_FOUND",)


def message(name: str, /, **members: Any) -> Any:
    """A message of the protocol."""
    return SCHEMA.messages[name](**members)


def _calls(*pairs: tuple[str, Message]) -> Calls:
    return Calls(tuple(Call(method, each.SerializeToString()) for method, each in pairs))


def _simple(method: str, model: Callable[[Subject], dict[str, Any]] = lambda subject: {}) -> Any:
    return lambda subject: _calls((method, message(f"{method}Request", **model(subject))))


def _inference(subject: Subject, raw: bool = False, change: Change | None = None) -> tuple[str, Message]:
    """A valid inference, changed."""
    request = message("ModelInferRequest", model_name=subject.model)
    for sample in samples(subject):
        tensor = request.inputs.add(name=sample.name, datatype=sample.datatype, shape=sample.shape)
        if raw:
            request.raw_input_contents.append(sample.packed())
        else:
            _fill(tensor, sample)
    if change is not None:
        change(request)
    return "ModelInfer", request


def _fill(tensor: Any, sample: Sample) -> None:
    if sample.datatype not in CONTENTS:
        raise NotApplicable(f"{sample.datatype} has no field of its own: it must be raw")
    values = [each.encode() if isinstance(each, str) else each for each in sample.data]
    getattr(tensor.contents, CONTENTS[sample.datatype]).extend(values)


def _infer(raw: bool = False, change: Change | None = None) -> Callable[[Subject], Calls]:
    return lambda subject: _calls(_inference(subject, raw, change))


def _set(**members: Any) -> Change:
    """Members of the request itself."""

    def change(request: Any) -> None:
        for name, value in members.items():
            setattr(request, name, value)

    return change


def _wants(*names: str) -> Change:
    def change(request: Any) -> None:
        for name in names:
            request.outputs.add(name=name)

    return change


def _first_wanted(subject: Subject) -> Calls:
    samples(subject)
    if not subject.outputs:
        raise NotApplicable("a plain request returned no outputs: none can be named")
    return _calls(_inference(subject, change=_wants(subject.outputs[0])))


def _on_first(change: Change) -> Change:
    return lambda request: change(request.inputs[0])


def _shape(change: Callable[[list[int]], list[int]]) -> Change:
    def apply(tensor: Any) -> None:
        whole = change(list(tensor.shape))
        del tensor.shape[:]
        tensor.shape.extend(whole)

    return _on_first(apply)


def _raw_first(change: Callable[[bytes], bytes]) -> Change:
    def apply(request: Any) -> None:
        request.raw_input_contents[0] = change(request.raw_input_contents[0])

    return apply


def _both(request: Any) -> None:
    request.raw_input_contents.append(b"\0\0\0\0")


def _declared(ask: Callable[[Subject], Calls]) -> Callable[[Subject], Calls]:
    def checked(subject: Subject) -> Calls:
        if not subject.metadata.get("inputs"):
            raise NotApplicable("the metadata lists no inputs: the server cannot know")
        return ask(subject)

    return checked


# --- judging ----------------------------------------------------------------------------------------


def parsed(answer: Answer, name: str) -> Any:
    """An OK answer's message; raises Unreadable."""
    if answer.code != "OK":
        raise Unreadable(f"code {answer.code}, OK is due")
    found = message(name)
    try:
        found.ParseFromString(answer.message)
    except DecodeError as error:
        raise Unreadable("the message cannot be read") from error
    return found


def _says(name: str, holds: Callable[[Subject, Any], bool], otherwise: str) -> Judge:
    def judge(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
        if not holds(subject, parsed(answers[-1], name)):
            yield otherwise

    return judge


def _ends_with(*codes: str) -> Judge:
    def judge(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
        if answers[-1].code not in codes:
            yield f"code {answers[-1].code}, {' or '.join(codes)} is due"
        elif "Traceback (most recent call last)" in answers[-1].says:
            yield "the message is a stack trace"

    return judge


def outputs_of(answer: Answer) -> tuple[Any, tuple[Output, ...]]:
    """A ModelInferResponse and its outputs; raises Unreadable."""
    response = parsed(answer, "ModelInferResponse")
    raw = list(response.raw_output_contents)
    if raw and len(raw) != len(response.outputs):
        raise Unreadable(f"{len(raw)} raw contents for {len(response.outputs)} outputs")
    found = []
    for place, each in enumerate(response.outputs):
        if each.datatype not in DATATYPES:
            raise Unreadable("an output has no datatype of the protocol")
        if raw and each.HasField("contents") and each.contents.ByteSize():
            raise Unreadable("an output has raw contents and contents")
        values = unpack(each.datatype, raw[place]) if raw else _typed(each)
        if len(values) != size(each.shape):
            raise Unreadable(f"an output has {len(values)} elements, its shape has {size(each.shape)}")
        found.append(Output(each.name, each.datatype, tuple(each.shape), values))
    return response, tuple(found)


def _typed(output: Any) -> tuple[Any, ...]:
    if output.datatype not in CONTENTS:
        raise Unreadable(f"{output.datatype} has no field of its own")
    values = getattr(output.contents, CONTENTS[output.datatype])
    return tuple(each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in values)


def _told(tell: Callable[[Subject, Any, tuple[Output, ...]], Iterable[str]]) -> Judge:
    def judge(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
        response, outputs = outputs_of(answers[-1])
        if response.model_name != subject.model:
            yield "model_name is not the model that was asked"
        if not outputs:
            yield "there are no outputs"
        yield from tell(subject, response, outputs)

    return judge


def _nothing_more(subject: Subject, response: Any, outputs: tuple[Output, ...]) -> Iterable[str]:
    return ()


def _raw_back(subject: Subject, response: Any, outputs: tuple[Output, ...]) -> Iterator[str]:
    if not response.raw_output_contents:
        yield "raw inputs were answered with typed contents"


def _same(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
    if not subject.repeatable:
        raise NotApplicable("the same request gives other outputs each time: nothing to compare")
    yield from differences(outputs_of(answers[-2])[1], outputs_of(answers[-1])[1])


def _only_first(subject: Subject, response: Any, outputs: tuple[Output, ...]) -> Iterator[str]:
    if [each.name for each in outputs] != list(subject.outputs[:1]):
        yield "the outputs are not those that were requested"


def _metadata(subject: Subject, found: Any) -> bool:
    if found.name != subject.model:
        return False
    rest = [each.get("name") for each in subject.metadata.get("inputs") or []]
    return not rest or [each.name for each in found.inputs] == rest


def _survives(subject: Subject) -> Calls:
    live = Call("ServerLive", b"")
    return Calls((Call("ModelInfer", b"\xff\xff\xff\xff not a message"), live))


def _survived(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
    if answers[0].code in ("OK", "LOST"):
        yield f"bytes that are no message: code {answers[0].code}"
    if answers[1].code != "OK":
        yield f"the next call has code {answers[1].code}, OK is due"


def _index(subject: Subject, answers: Sequence[Answer]) -> Iterator[str]:
    if answers[-1].code == "UNIMPLEMENTED":
        raise NotApplicable("the server has no RepositoryIndex")
    if subject.model not in [each.name for each in parsed(answers[-1], "RepositoryIndexResponse").models]:
        yield "the model is not in the index"


def _by_name(subject: Subject, answers: Sequence[Answer]) -> Iterable[str]:
    if len(samples(subject)) == 1 and answers[-1].code == "OK":
        raise NotApplicable("the server takes its only input under any name, which the specification does not forbid")
    return _ends_with(*_BAD)(subject, answers)


def _case(number: int, clause: str, says: tuple[str, str], ask: Any, judge: Judge) -> GrpcCase:
    return GrpcCase(f"GRPC-{number:03}", "grpc", f"OIP gRPC, {clause}", *says, ask, judge)


def _model(subject: Subject) -> dict[str, Any]:
    return {"name": subject.model}


def _of(**members: str) -> Callable[[Subject], dict[str, Any]]:
    return lambda subject: {"name": subject.model} | members


CASES: tuple[GrpcCase, ...] = (
    _case(1, "Server Live", ("ServerLive", "live"), _simple("ServerLive"),
          _says("ServerLiveResponse", lambda subject, found: found.live, "live is false")),
    _case(2, "Server Ready", ("ServerReady", "ready"), _simple("ServerReady"),
          _says("ServerReadyResponse", lambda subject, found: found.ready, "ready is false")),
    _case(3, "Model Ready", ("ModelReady", "ready"), _simple("ModelReady", _model),
          _says("ModelReadyResponse", lambda subject, found: found.ready, "ready is false")),
    _case(4, "Server Metadata", ("ServerMetadata", "a name and a version"), _simple("ServerMetadata"),
          _says("ServerMetadataResponse", lambda subject, found: bool(found.name), "there is no name")),
    _case(5, "Model Metadata", ("ModelMetadata", "the name and the inputs that REST gives"),
          _simple("ModelMetadata", _model),
          _says("ModelMetadataResponse", _metadata, "name or inputs are not those of REST")),
    _case(6, "Inference", ("typed contents", "OK, a whole response"), _infer(), _told(_nothing_more)),
    _case(7, "Inference", ("raw contents", "OK, a whole response"), _infer(raw=True), _told(_nothing_more)),
    _case(8, "Inference", ("raw contents", "raw contents come back"), _infer(raw=True), _told(_raw_back)),
    _case(9, "Inference", ("the same tensors typed, then raw", "the same outputs"),
          lambda subject: _calls(_inference(subject), _inference(subject, raw=True)), _same),
    _case(10, "Inference", ("an id", "the id is returned"), _infer(change=_set(id="grpc-4711")),
          _told(lambda subject, response, outputs: [] if response.id == "grpc-4711" else ["the id was not returned"])),
    _case(11, "Inference", ("the first output alone is requested", "that output alone"), _first_wanted,
          _told(_only_first)),
    _case(12, "Inference", ("an unknown output is requested", "INVALID_ARGUMENT or NOT_FOUND"),
          _infer(change=_wants("no-such-output")), _ends_with(*_BAD, *_GONE)),
    _case(13, "Model Ready", ("ModelReady of an unknown model", "NOT_FOUND"), _simple("ModelReady", _of(name=NOBODY)),
          _ends_with(*_GONE)),
    _case(14, "Model Metadata", ("ModelMetadata of an unknown model", "NOT_FOUND"),
          _simple("ModelMetadata", _of(name=NOBODY)), _ends_with(*_GONE)),
    _case(15, "Inference", ("an unknown model", "NOT_FOUND"), _infer(change=_set(model_name=NOBODY)),
          _ends_with(*_GONE)),
    _case(16, "Inference", ("an unknown version", "NOT_FOUND or INVALID_ARGUMENT"),
          _infer(change=_set(model_version=_NO_VERSION)), _ends_with(*_GONE, *_BAD)),
    _case(17, "Model Metadata", ("ModelMetadata of an unknown version", "NOT_FOUND or INVALID_ARGUMENT"),
          _simple("ModelMetadata", _of(version=_NO_VERSION)), _ends_with(*_GONE, *_BAD)),
    _case(18, "Inference", ("no model name", "INVALID_ARGUMENT or NOT_FOUND"), _infer(change=_set(model_name="")),
          _ends_with(*_BAD, *_GONE)),
    _case(19, "Inference", ("contents and raw contents together", "INVALID_ARGUMENT"), _infer(change=_both),
          _ends_with(*_BAD)),
    _case(20, "Inference", ("typed contents, a shape of one row more", "INVALID_ARGUMENT"),
          _infer(change=_shape(lambda shape: [shape[0] + 1, *shape[1:]] if shape else [2])), _ends_with(*_BAD)),
    _case(21, "Inference", ("raw contents, a shape of one row more", "INVALID_ARGUMENT"),
          _infer(True, _shape(lambda shape: [shape[0] + 1, *shape[1:]] if shape else [2])), _ends_with(*_BAD)),
    _case(22, "Inference", ("raw contents, one byte less", "INVALID_ARGUMENT"),
          _infer(True, _raw_first(lambda data: data[:-1])), _ends_with(*_BAD)),
    _case(23, "Inference", ("raw contents for one input too many", "INVALID_ARGUMENT"),
          _infer(True, _both), _ends_with(*_BAD)),
    _case(24, "Inference", ("a negative dimension", "INVALID_ARGUMENT"), _infer(True, _shape(lambda shape: [-1])),
          _ends_with(*_BAD)),
    _case(25, "Inference", ("a shape whose size overflows 64 bits", "INVALID_ARGUMENT"),
          _infer(True, _shape(lambda shape: [2**32, 2**32, 2**32])), _ends_with(*_BAD)),
    _case(26, "Inference", ("an unknown datatype", "INVALID_ARGUMENT"),
          _infer(True, _on_first(_set(datatype="FP99"))), _ends_with(*_BAD)),
    _case(27, "Inference", ("no inputs", "INVALID_ARGUMENT"),
          _declared(_infer(change=lambda request: request.ClearField("inputs"))), _ends_with(*_BAD)),
    _case(28, "Inference", ("an input without contents", "INVALID_ARGUMENT"),
          _infer(change=_on_first(lambda tensor: tensor.ClearField("contents"))), _ends_with(*_BAD)),
    _case(29, "Inference", ("an input of another name", "INVALID_ARGUMENT"),
          _declared(_infer(change=_on_first(_set(name="no-such-input")))), _by_name),
    _case(30, "Message Contents", ("bytes that are no message, then ServerLive", "an error, then OK"), _survives,
          _survived),
    _case(31, "API", ("a method that does not exist", "UNIMPLEMENTED"),
          lambda subject: Calls((Call("NoSuchMethod", b""),)), _ends_with("UNIMPLEMENTED")),
    _case(32, "Model repository extension", ("RepositoryIndex", "names the model, if there is an index"),
          _simple("RepositoryIndex"), _index),
    _case(33, "Model Ready", ("ModelReady of an unknown version", "NOT_FOUND or INVALID_ARGUMENT"),
          _simple("ModelReady", _of(version=_NO_VERSION)), _ends_with(*_GONE, *_BAD)),
)  # fmt: skip
