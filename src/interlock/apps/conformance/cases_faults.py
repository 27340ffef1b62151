"""Cases of V2 inference that is the caller's fault: each must be refused with 4xx and the error object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from interlock.apps.conformance.asking import (
    JSON,
    NOBODY,
    Ask,
    Order,
    changed,
    content,
    infer,
    inferring,
    model_path,
    numbers_first,
    of_model,
    one,
    post,
    samples,
    with_body,
)
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Subject
from interlock.apps.conformance.judging import Judge, answered_or, refused, status_in
from interlock.apps.conformance.tensors import Sample

_CLAUSE = "OIP REST, Inference Response JSON Error Object"
_UNKNOWN_VERSION = "987654321"


def _raw(body: bytes) -> Ask:
    return lambda subject: one(post(subject, body, JSON))


def _set(**members: Any) -> Ask:
    return changed(lambda tensor, sample: tensor | members)


def _without(name: str) -> Ask:
    return changed(lambda tensor, sample: {key: value for key, value in tensor.items() if key != name})


def _shaped(shape: Callable[[Sample], Sequence[Any]]) -> Ask:
    return changed(lambda tensor, sample: tensor | {"shape": list(shape(sample))})


def _data(data: Callable[[Sample], Any], order: Order = samples) -> Ask:
    return changed(lambda tensor, sample: tensor | {"data": data(sample)}, order)


def _first(literal: bytes) -> Ask:
    """The first element becomes that text."""
    rewrite = re.compile(rb'"data": \[[^,\]]+')
    return with_body(lambda body: rewrite.sub(b'"data": [' + literal, body, count=1), order=numbers_first)


def _declared(ask: Ask) -> Ask:
    """For rules that a server can only know when its metadata says what the model takes."""

    def checked(subject: Subject) -> Dialogue:
        if not subject.metadata.get("inputs"):
            raise NotApplicable("the metadata lists no inputs: the server cannot know")
        return ask(subject)

    return checked


def _wider(subject: Subject) -> Dialogue:
    first, *rest = samples(subject)
    (declared,) = [each for each in subject.metadata["inputs"] if each.get("name") == first.name][:1] or [{}]
    shape = declared.get("shape") or []
    if len(shape) != len(first.shape) or not shape or shape[-1] == -1:
        raise NotApplicable("the metadata fixes no last dimension of the first input")
    rows = len(first.data) // max(first.shape[-1], 1)
    wide = first.as_json() | {
        "shape": [*first.shape[:-1], first.shape[-1] + 1],
        "data": list(first.data) + [first.data[0]] * rows,
    }
    return one(infer(subject, {"inputs": [wide, *(each.as_json() for each in rest)]}))


def _unversioned(subject: Subject) -> Dialogue:
    return one(infer(subject, content(subject), model_path(subject, "/infer", _UNKNOWN_VERSION)))


def _of_nobody(subject: Subject) -> Dialogue:
    body = content(subject) if subject.inputs else {"inputs": []}
    return one(infer(subject, body, model_path(subject, "/infer", model=NOBODY)))


def _by_name(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    if len(samples(subject)) == 1 and replies[-1].status == 200:
        raise NotApplicable("the server takes its only input under any name, which the specification does not forbid")
    yield from refused()(subject, replies)


def _case(number: int, sends: str, ask: Ask, judge: Judge | None = None, holds: str = "4xx, error object") -> HttpCase:
    return HttpCase(f"V2-FAULT-{number:03}", "v2", _CLAUSE, sends, holds, ask, judge or refused())


_NO_5XX = "answered or refused, no 5xx"

CASES: tuple[HttpCase, ...] = (
    _case(1, "an unknown model", _of_nobody, refused(404), "404, error object"),
    _case(2, "an unknown version", _unversioned, refused(404), "404, error object"),
    _case(3, "infer by GET", of_model("GET", "/infer"), status_in(404, 405), "405 or 404"),
    _case(4, "half a JSON text", _raw(b'{"inputs": [{"name": "x", ')),
    _case(5, "an empty body", _raw(b"")),
    _case(6, "a JSON list", _raw(b"[]")),
    _case(7, "a JSON string", _raw(b'"inputs"')),
    _case(8, "{}", _raw(b"{}")),
    _case(9, "inputs is an empty list", _declared(_raw(b'{"inputs": []}'))),
    _case(10, "inputs is an object", _raw(b'{"inputs": {}}')),
    _case(11, "inputs holds a number", _raw(b'{"inputs": [3]}')),
    _case(12, "bytes that are no UTF-8", _raw(b'{"inputs": [{"name": "\xff\xfe"}]}')),
    _case(13, "lists nested 10,000 deep", _raw(b'{"inputs": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")),
    _case(14, "an input without a name", _without("name")),
    _case(15, "an input without a shape", _without("shape")),
    _case(16, "an input without a datatype", _without("datatype")),
    _case(17, "an input without data", _without("data")),
    _case(18, "a datatype that the protocol does not know", _set(datatype="FP99")),
    _case(19, "the datatype is a number", _set(datatype=32)),
    _case(20, "BYTES words for a numeric input",
          _declared(changed(lambda tensor, sample: tensor | {
              "datatype": "BYTES", "data": ["word"] * len(sample.data)}, numbers_first))),
    _case(21, "words as elements of a numeric input", _data(lambda sample: ["word"] * len(sample.data), numbers_first)),
    _case(22, "null as elements of a numeric input", _data(lambda sample: [None] * len(sample.data), numbers_first),
          answered_or(), _NO_5XX),
    _case(23, "objects as elements", _data(lambda sample: [{}] * len(sample.data))),
    _case(24, "one element less than the shape has", _data(lambda sample: list(sample.data[1:]))),
    _case(25, "one element more than the shape has", _data(lambda sample: [*sample.data, sample.data[0]])),
    _case(26, "a shape with a negative dimension", _shaped(lambda sample: [-1, *sample.shape[1:]])),
    _case(27, "a shape with a fraction", _shaped(lambda sample: [1.5, *sample.shape[1:]])),
    _case(28, "a shape of words", _shaped(lambda sample: ["1"] * len(sample.shape) or ["1"])),
    _case(29, "a shape whose size overflows 64 bits", _shaped(lambda sample: [2**32, 2**32, 2**32])),
    _case(30, "a shape of 2^62 elements with none of them", _shaped(lambda sample: [2**31, 2**31])),
    _case(31, "a row that is wider than the metadata says", _declared(_wider)),
    _case(32, "an input of another name", _declared(_set(name="no-such-input")), _by_name),
    _case(33, "the first input twice",
          lambda subject: one(infer(subject, content(subject, [
              *(each.as_json() for each in samples(subject)), samples(subject)[0].as_json()]))),
          answered_or(), _NO_5XX),
    _case(34, "rows of unequal length", _data(lambda sample: [[sample.data[0]], [sample.data[0]] * 2])),
    _case(35, "NaN as an element", _first(b"NaN")),
    _case(36, "the number 1e999 as an element", _first(b"1e999"), answered_or(), _NO_5XX),
    _case(37, "Content-Type text/plain", with_body(bytes, ("Content-Type", "text/plain")), answered_or(),
          "answered or refused, no 5xx"),
    _case(38, "outputs is a number", inferring(outputs=3)),
    _case(39, "the id is a list", inferring(id=[1])),
    _case(40, "parameters is a list", inferring(parameters=[1])),
    _case(41, "a name of 100,000 characters", _declared(_set(name="x" * 100_000)), answered_or(), _NO_5XX),
)  # fmt: skip
