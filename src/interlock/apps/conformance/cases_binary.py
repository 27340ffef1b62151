"""Cases of the binary tensor data extension: JSON of a stated length, then bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from interlock.apps.conformance.asking import (
    HEADER_LENGTH,
    JSON,
    OCTETS,
    Ask,
    Order,
    all_binary,
    compressed,
    content,
    framed,
    infer,
    one,
    post,
    samples,
    spoken,
    text_first,
)
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Request, Subject
from interlock.apps.conformance.judging import Judge, answered_or, inference, read, refused, same_outputs, told
from interlock.apps.conformance.tensors import Output, Sample

_BOTH_SHAPES = "both as JSON and with binary data"


def _valid(**more: Any) -> Ask:
    def ask(subject: Subject) -> Dialogue:
        spoken(subject)
        return one(all_binary(subject, **more))

    return ask


def _beside_json(request: Callable[[Subject], Request]) -> Ask:
    """A plain JSON inference, then the same tensors otherwise."""

    def ask(subject: Subject) -> Dialogue:
        spoken(subject)
        return Dialogue((infer(subject, content(subject)), request(subject)))

    return ask


def _mixed(subject: Subject) -> Request:
    first, *rest = samples(subject)
    if not rest:
        raise NotApplicable("the model has one input: nothing to mix")
    body, length = framed({"inputs": [first.as_binary(), *(each.as_json() for each in rest)]}, first.packed())
    return post(subject, body, OCTETS, length)


def _outputs(**parameters: Any) -> Callable[[Subject], Request]:
    """Every known output requested with these parameters."""

    def request(subject: Subject) -> Request:
        if not subject.outputs:
            raise NotApplicable("a plain request returned no outputs: none can be named")
        wanted = [{"name": each, "parameters": parameters} for each in subject.outputs]
        return all_binary(subject, outputs=wanted)

    return request


def _overridden(subject: Subject) -> Request:
    if not subject.outputs:
        raise NotApplicable("a plain request returned no outputs: none can be named")
    wanted = [{"name": each, "parameters": {"binary_data": False}} for each in subject.outputs]
    return all_binary(subject, outputs=wanted, parameters={"binary_data_output": True})


def _alone(request: Callable[[Subject], Request]) -> Ask:
    def ask(subject: Subject) -> Dialogue:
        spoken(subject)
        return one(request(subject))

    return ask


def _bytes_outputs(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
    if all(each.datatype != "BYTES" for each in outputs):
        raise NotApplicable("no output is BYTES")
    if any("binary_data_size" not in (each.get("parameters") or {}) for each in found["outputs"]):
        yield "a BYTES output did not come as binary data"


def _are_binary(yes: bool) -> Judge:
    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        problems = list(inference(subject, replies))
        if problems:
            yield from problems
            return
        found, _ = read(replies[-1])
        binary = ["binary_data_size" in (each.get("parameters") or {}) for each in found["outputs"]]
        if yes and not all(binary):
            yield "an output came in JSON"
        if not yes and any(binary):
            yield "an output came as binary data"
        if yes and HEADER_LENGTH.lower() not in replies[-1].headers:
            yield f"there is no {HEADER_LENGTH}"

    return judge


def _octets(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    yield from inference(subject, replies)
    if replies[-1].headers.get("content-type", "").lower() != "application/octet-stream":
        yield "Content-Type is not application/octet-stream"


# --- what is refused --------------------------------------------------------------------------------


def _length(length: Callable[[int, int], str]) -> Ask:
    """A valid frame whose header length is another: a function of (right length, whole body)."""

    def ask(subject: Subject) -> Dialogue:
        spoken(subject)
        request = all_binary(subject)
        right = int(dict(request.headers)[HEADER_LENGTH])
        return one(post(subject, request.body, OCTETS, (HEADER_LENGTH, length(right, len(request.body)))))

    return ask


def _first(tensor: Callable[[Sample], dict[str, Any]], data: Callable[[Sample], bytes], order: Order = samples) -> Ask:
    """A frame whose first input is `tensor` followed by `data`; the others are in JSON."""

    def ask(subject: Subject) -> Dialogue:
        spoken(subject)
        first, *rest = order(subject)
        body, length = framed({"inputs": [tensor(first), *(each.as_json() for each in rest)]}, data(first))
        return one(post(subject, body, OCTETS, length))

    return ask


def _sized(size: Callable[[int], Any]) -> Ask:
    """The first input's binary_data_size is another than its data have."""
    return _first(
        lambda sample: sample.as_binary(parameters={"binary_data_size": size(len(sample.packed()))}), Sample.packed
    )


def _claims(change: Callable[[bytes], bytes], says: Callable[[bytes], int], order: Order = samples) -> Ask:
    """The first input's data are changed, and its size says so."""
    return _first(
        lambda sample: sample.as_binary(parameters={"binary_data_size": says(sample.packed())}),
        lambda sample: change(sample.packed()),
        order,
    )


def _raw(subject: Subject) -> Dialogue:
    spoken(subject)
    inputs = samples(subject)
    if len(inputs) != 1:
        raise NotApplicable("the model has more than one input: none can be sent raw")
    return one(post(subject, inputs[0].packed(), OCTETS, (HEADER_LENGTH, "0")))


def _bare(subject: Subject) -> Request:
    request = all_binary(subject)
    return post(subject, request.body, (HEADER_LENGTH, dict(request.headers)[HEADER_LENGTH]))


def _zipped(subject: Subject) -> Request:
    request = all_binary(subject)
    return post(subject, compressed(request.body), *request.headers, ("Content-Encoding", "gzip"))


def _case(number: int, says: tuple[str, str], ask: Ask, judge: Judge | None = None) -> HttpCase:
    return HttpCase(f"BIN-{number:03}", "binary", "Binary tensor data extension", *says, ask, judge or refused())


_BAD = "4xx, error object"
_ON = {"binary_data_output": True}

CASES: tuple[HttpCase, ...] = (
    _case(1, ("every input binary", "200, a whole response"), _valid(), inference),
    _case(2, (f"the same tensors {_BOTH_SHAPES}", "the same outputs"), _beside_json(all_binary), same_outputs),
    _case(3, ("one input binary, the others in JSON", "the outputs of plain JSON"), _beside_json(_mixed),
          same_outputs),
    _case(4, ("no output is asked binary", "all outputs in JSON"), _valid(), _are_binary(False)),
    _case(5, ("parameter binary_data_output true", "every output binary, sizes and shapes agree"),
          _valid(parameters=_ON), _are_binary(True)),
    _case(6, ("plain JSON, then binary_data_output true", "the same outputs"),
          _beside_json(lambda subject: all_binary(subject, parameters=_ON)), same_outputs),
    _case(7, ("JSON inputs with binary_data_output true", "every output binary"),
          _alone(lambda subject: infer(subject, content(subject, parameters=_ON))),
          _are_binary(True)),
    _case(8, ("every output requested with binary_data true", "every output binary"),
          _alone(_outputs(binary_data=True)), _are_binary(True)),
    _case(9, ("binary_data_output true, every output with binary_data false", "all outputs in JSON"),
          _alone(_overridden), _are_binary(False)),
    _case(10, ("binary outputs", "Content-Type is application/octet-stream"), _valid(parameters=_ON), _octets),
    _case(11, ("binary outputs", "BYTES elements are framed by their lengths"), _valid(parameters=_ON),
          told(_bytes_outputs)),
    _case(12, ("an id in the JSON part", "the id is returned"), _valid(id="binary-1"),
          told(lambda subject, found, outputs: [] if found.get("id") == "binary-1" else ["the id was not returned"])),
    _case(13, ("no Content-Type", "200"), _alone(_bare), inference),
    _case(14, ("the frame in gzip", "answered, or refused with 415"),
          _alone(_zipped), answered_or(415)),
    _case(15, ("one input as raw bytes, header length 0", "answered, or refused with 4xx, no 5xx"), _raw,
          answered_or()),
    _case(16, ("a header length beyond the body", _BAD), _length(lambda right, whole: str(whole + 1))),
    _case(17, ("a header length of -1", _BAD), _length(lambda right, whole: "-1")),
    _case(18, ("a header length that is no number", _BAD), _length(lambda right, whole: "many")),
    _case(19, ("a header length within the JSON", _BAD), _length(lambda right, whole: str(right - 1))),
    _case(20, ("a header length within the data", _BAD), _length(lambda right, whole: str(right + 1))),
    _case(21, ("a header length of 10^30", _BAD), _length(lambda right, whole: "1" + "0" * 30)),
    _case(22, ("a binary_data_size beyond the data", _BAD), _sized(lambda size: size + 1)),
    _case(23, ("a binary_data_size below the data", _BAD), _sized(lambda size: size - 1)),
    _case(24, ("a negative binary_data_size", _BAD), _sized(lambda size: -size)),
    _case(25, ("a binary_data_size in words", _BAD), _sized(str)),
    _case(26, ("a binary_data_size with a fraction", _BAD), _sized(lambda size: size + 0.5)),
    _case(27, ("one byte less than the shape needs, and the size says so", _BAD),
          _claims(lambda data: data[:-1], lambda data: len(data) - 1)),
    _case(28, ("one byte more than the shape needs, and the size says so", _BAD),
          _claims(lambda data: data + b"\0", lambda data: len(data) + 1)),
    _case(29, ("truncated data", _BAD), _claims(lambda data: data[: len(data) // 2], len)),
    _case(30, ("bytes after the last tensor", _BAD), _claims(lambda data: data + b"more", len)),
    _case(31, ("data and binary_data_size in one input", "answered or refused, no 5xx"),
          _first(lambda sample: sample.as_binary(data=list(sample.data)), Sample.packed), answered_or()),
    _case(32, ("a BYTES element longer than its tensor", _BAD),
          _claims(lambda data: b"\xff\xff\xff\x7f" + data[4:], len, text_first)),
    _case(33, ("binary_data_size without a header length", _BAD),
          _alone(lambda subject: post(subject, all_binary(subject).body, JSON))),
    _case(34, ("a shape of 2^62 elements over the same data", _BAD),
          _first(lambda sample: sample.as_binary(shape=[2**31, 2**31]), Sample.packed)),
)  # fmt: skip
