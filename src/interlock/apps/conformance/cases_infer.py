"""Cases of valid V2 inference in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from interlock.apps.conformance.asking import (
    JSON,
    Ask,
    content,
    infer,
    inferring,
    model_path,
    numbers_first,
    one,
    plain,
    post,
    samples,
    with_body,
)
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Subject
from interlock.apps.conformance.judging import (
    Judge,
    answered_or,
    inference,
    outputs_of,
    read,
    refused,
    same_outputs,
    told,
)
from interlock.apps.conformance.tensors import Output, Unreadable, ends, size

_OIP = "OIP REST, "
_ID = "conformance-4711"


def _two(first: Any, second: Any) -> Dialogue:
    return Dialogue((first, second))


def _nested(subject: Subject) -> Dialogue:
    if all(len(each.shape) < 2 for each in samples(subject)):
        raise NotApplicable("no input has two dimensions: nested and flat are the same")
    nested = [each.as_json(nested=True) for each in samples(subject)]
    return _two(infer(subject, content(subject)), infer(subject, content(subject, nested)))


def _batch(subject: Subject) -> Dialogue:
    declared = {each.get("name"): each.get("shape") for each in subject.metadata.get("inputs") or []}
    if not declared or any((declared.get(each.name) or [0])[0] != -1 for each in samples(subject)):
        raise NotApplicable("the metadata does not say that every input's first dimension is variable")
    doubled = [each.twice().as_json() for each in samples(subject)]
    return _two(infer(subject, content(subject)), infer(subject, content(subject, doubled)))


def _rows_double(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    problems = list(inference(subject, replies))
    if problems:
        yield from problems
        return
    single = {each.name: each for each in outputs_of(replies[0])}
    for each in outputs_of(replies[1]):
        whole = single.get(each.name)
        if whole is not None and whole.shape and each.shape != (2 * whole.shape[0], *whole.shape[1:]):
            yield f"output {each.name} does not have twice the rows"


def _ends(subject: Subject) -> Dialogue:
    first, *rest = numbers_first(subject)
    both = ends(first.datatype)
    edge = replace(first, data=tuple(both[place % 2] for place in range(size(first.shape))))
    return one(infer(subject, content(subject, [each.as_json() for each in (edge, *rest)])))


def _asks_for(pick: slice) -> Ask:
    def ask(subject: Subject) -> Dialogue:
        names = _known_outputs(subject)[pick]
        return one(infer(subject, content(subject, outputs=[{"name": each} for each in names])))

    return ask


def _known_outputs(subject: Subject) -> tuple[str, ...]:
    samples(subject)
    if not subject.outputs:
        raise NotApplicable("a plain request returned no outputs: none can be named")
    return subject.outputs


def _only(pick: slice) -> Judge:
    def tell(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
        if sorted(each.name for each in outputs) != sorted(_known_outputs(subject)[pick]):
            yield "the outputs are not those that were requested"

    return told(tell)


def _versioned(subject: Subject) -> Dialogue:
    if not subject.version:
        raise NotApplicable("the model's metadata lists no versions")
    return one(infer(subject, content(subject), model_path(subject, "/infer", subject.version)))


def _is_version(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
    if found.get("model_version") != subject.version:
        yield "model_version is not the version that was asked"


def _says_version(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
    versions = subject.metadata.get("versions") or []
    said = found.get("model_version")
    if versions and said not in versions:
        yield "model_version is none of the versions in the metadata"
    if said is not None and not isinstance(said, str):
        yield "model_version is no string"


def _echo(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
    if found.get("id") != _ID:
        yield "the id was not returned"


def _no_echo(subject: Subject, found: Mapping[str, Any], outputs: tuple[Output, ...]) -> Iterator[str]:
    if "id" in found and not isinstance(found["id"], str):
        yield "id is there and no string"


def _as_declared(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    declared = {each.get("name"): each for each in subject.metadata.get("outputs") or []}
    if not declared:
        raise NotApplicable("the metadata lists no outputs")
    if {each.name for each in subject.inputs} != {each.get("name") for each in subject.metadata.get("inputs") or []}:
        raise NotApplicable("the example's inputs are not those of the metadata")
    try:
        outputs = read(replies[-1])[1]
    except Unreadable as problem:
        yield str(problem)
        return
    for each in outputs:
        wanted = declared.get(each.name)
        if wanted is None:
            yield "an output is not in the metadata"
        elif wanted.get("datatype") != each.datatype:
            yield f"output {each.name} is {each.datatype}, the metadata says another datatype"
        elif not _fits_shape(wanted.get("shape") or [], each.shape):
            yield f"output {each.name} has a shape that the metadata does not allow"


def _fits_shape(declared: Sequence[int], shape: Sequence[int]) -> bool:
    return len(declared) == len(shape) and all(want in (-1, have) for want, have in zip(declared, shape, strict=True))


def _is_json(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    yield from inference(subject, replies)
    if replies[-1].headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        yield "Content-Type is not application/json"


def _pretty(body: bytes) -> bytes:
    return b"\r\n\t " + body.replace(b": ", b" :\n ") + b"\n"


def _case(number: int, clause: str, says: tuple[str, str], ask: Ask, judge: Judge) -> HttpCase:
    return HttpCase(f"V2-INFER-{number:03}", "v2", _OIP + clause, *says, ask, judge)


_RESPONSE = "Inference Response JSON Object"
_REQUEST = "Inference Request JSON Object"
_DATA = "Tensor Data"

CASES: tuple[HttpCase, ...] = (
    _case(1, _RESPONSE, ("a valid inference", "200, model_name, outputs with name, datatype, shape, data that agree"),
          plain, inference),
    _case(2, _RESPONSE, ("a valid inference", "the response is application/json"), plain, _is_json),
    _case(3, _REQUEST, ("a valid inference with an id", "the id is returned"), inferring(id=_ID), told(_echo)),
    _case(4, _REQUEST, ("a valid inference without an id", "id, if there, is a string"), plain, told(_no_echo)),
    _case(5, _DATA, ("data flat, then nested", "the same outputs"), _nested, same_outputs),
    _case(6, _DATA, ("one batch, then the same rows twice", "twice the rows in every output"), _batch, _rows_double),
    _case(7, "Tensor Data Types", ("values at both ends of a numeric input's datatype", "answered or refused, no 5xx"),
          _ends, answered_or()),
    _case(8, "Request Output", ("the first output alone is requested", "that output alone"),
          _asks_for(slice(0, 1)), _only(slice(0, 1))),
    _case(9, "Request Output", ("all outputs are requested, last first", "all outputs"),
          _asks_for(slice(None, None, -1)), _only(slice(None))),
    _case(10, "Request Output", ("an unknown output is requested", "4xx, error object"),
          inferring(outputs=[{"name": "no-such-output"}]), refused()),
    _case(11, "Request Output", ("outputs is an empty list", "200 with outputs, or refused"),
          inferring(outputs=[]), answered_or()),
    _case(12, "Model Metadata", ("a valid inference", "outputs are as the metadata declares them"), plain,
          _as_declared),
    _case(13, _RESPONSE, ("a valid inference", "model_version, if there, is one of the metadata's"), plain,
          told(_says_version)),
    _case(14, "HTTP/REST", ("a valid inference of an explicit version", "200, model_version is that version"),
          _versioned, told(_is_version)),
    _case(15, "Parameters", ("an unknown parameter of the request", "answered or refused, no 5xx"),
          inferring(parameters={"conformance": True}), answered_or()),
    _case(16, _REQUEST, ("a valid inference without Content-Type", "200"),
          lambda subject: one(post(subject, with_body(bytes)(subject).requests[0].body)), inference),
    _case(17, _REQUEST, ("Content-Type application/json; charset=utf-8", "200"),
          with_body(bytes, ("Content-Type", "application/json; charset=utf-8")), inference),
    _case(18, _REQUEST, ("white space between tokens", "200"), with_body(_pretty, JSON), inference),
    _case(19, _DATA, ("the same inference twice", "the same outputs"),
          lambda subject: _two(infer(subject, content(subject)), infer(subject, content(subject))), same_outputs),
)  # fmt: skip
