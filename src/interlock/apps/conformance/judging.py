"""What must hold of replies: pure judges that yield one sentence per thing that does not.

A judge never repeats more than a few characters of what a server sent: a reply may hold what the
caller sent, and a report travels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from interlock.apps.conformance.asking import HEADER_LENGTH
from interlock.apps.conformance.case import NotApplicable, Reply, Subject
from interlock.apps.conformance.tensors import DATATYPES, Output, Unreadable, fits, flatten, size, unpack

Judge = Callable[[Subject, Sequence[Reply]], Iterable[str]]
_TRACES = ("Traceback (most recent call last)", 'File "/')


def both(*judges: Judge) -> Judge:
    """Everything that any of the judges finds."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        for each in judges:
            problems = list(each(subject, replies))
            yield from problems
            if problems:
                return

    return judge


def body_of(reply: Reply) -> Any:
    """The reply's JSON; raises Unreadable."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the body is not JSON") from error


def members(**wanted: Callable[[Any], bool]) -> Judge:
    """200, and a JSON object whose members satisfy their checks."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        reply = replies[-1]
        if reply.status != 200:
            yield f"status {reply.status}, 200 is due"
            return
        found = _object(reply)
        if isinstance(found, str):
            yield found
            return
        for name, holds in wanted.items():
            if name not in found:
                yield f"member {name} is missing"
            elif not holds(found[name]):
                yield f"member {name} is not what it must be"

    return judge


def _object(reply: Reply) -> dict[str, Any] | str:
    try:
        found = body_of(reply)
    except Unreadable as problem:
        return str(problem)
    return found if isinstance(found, dict) else "the body is no JSON object"


def error_object(reply: Reply) -> Iterator[str]:
    """The error object `{"error": string}`, without a stack trace."""
    found = _object(reply)
    if isinstance(found, str):
        yield f'status {reply.status}: {found}, {{"error": string}} is due'
    elif not isinstance(found.get("error"), str) or not found["error"]:
        names = ", ".join(sorted(map(str, found))[:4]) or "nothing"
        yield f'status {reply.status}: the error object holds {names}, "error" with a message is due'
    elif any(word in found["error"] for word in _TRACES):
        yield "the message is a stack trace"


def refused(*statuses: int, ended: bool = False) -> Judge:
    """The last reply refuses the caller's fault: a 4xx (one of `statuses` if given) with the error object."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        reply = replies[-1]
        if ended and reply.lost:
            return
        if reply.status >= 500:
            yield f"status {reply.status} for a caller's fault, 4xx is due"
        elif not 400 <= reply.status < 500:
            yield f"status {reply.status}: it was not refused"
        elif statuses and reply.status not in statuses:
            yield f"status {reply.status}, {' or '.join(map(str, statuses))} is due"
        yield from error_object(reply) if reply.status >= 400 else ()

    return judge


def status_in(*statuses: int) -> Judge:
    """The last reply has one of these statuses; nothing is said of its body."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        if replies[-1].status not in statuses:
            yield f"status {replies[-1].status}, {' or '.join(map(str, statuses))} is due"

    return judge


def answered_or(*statuses: int) -> Judge:
    """A valid inference response, or a refusal with one of these statuses (any 4xx if none is given)."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        yield from (inference if replies[-1].status == 200 else refused(*statuses))(subject, replies)

    return judge


# --- inference responses ----------------------------------------------------------------------------


def read(reply: Reply) -> tuple[dict[str, Any], tuple[Output, ...]]:
    """An `$inference_response` and its outputs, from JSON or JSON with binary data.

    Raises:
        Unreadable: it is none, and why.
    """
    if reply.status != 200:
        raise Unreadable(f"status {reply.status}, 200 is due")
    text, data = _parts(reply)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the response is not JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("outputs"), list):
        raise Unreadable("the response has no outputs")
    outputs = []
    for each in found["outputs"]:
        output, used = _output(each, data)
        data = data[used:]
        outputs.append(output)
    if data:
        raise Unreadable(f"{len(data)} bytes are left over after the last output")
    return found, tuple(outputs)


def _parts(reply: Reply) -> tuple[bytes, bytes]:
    length = reply.headers.get(HEADER_LENGTH.lower())
    if length is None:
        return reply.body, b""
    if not length.isdigit() or int(length) > len(reply.body):
        raise Unreadable("the length of the JSON is not within the body")
    return reply.body[: int(length)], reply.body[int(length) :]


def _output(each: Any, data: bytes) -> tuple[Output, int]:
    if not isinstance(each, dict) or not isinstance(each.get("name"), str):
        raise Unreadable("an output has no name")
    shape, datatype = each.get("shape"), each.get("datatype")
    if datatype not in DATATYPES:
        raise Unreadable("an output has no datatype of the protocol")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise Unreadable("an output's shape is no list of non-negative integers")
    binary = (each.get("parameters") or {}).get("binary_data_size")
    if binary is None:
        values = flatten(each.get("data"), shape)
        if not all(fits(datatype, value) or value is None for value in values):
            raise Unreadable(f"an output's data are not all {datatype}")
        return Output(each["name"], datatype, tuple(shape), values), 0
    if "data" in each:
        raise Unreadable("an output has both data and binary_data_size")
    if type(binary) is not int or not 0 <= binary <= len(data):
        raise Unreadable("an output's binary_data_size is not within the body")
    values = unpack(datatype, data[:binary])
    if len(values) != size(shape):
        raise Unreadable(f"an output has {len(values)} elements, shape {shape} has {size(shape)}")
    return Output(each["name"], datatype, tuple(shape), values), binary


def inference(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    """The last reply is a whole inference response of the model."""
    try:
        found, outputs = read(replies[-1])
    except Unreadable as problem:
        yield str(problem)
        return
    if found.get("model_name") != subject.model:
        yield "model_name is not the model that was asked"
    if not outputs:
        yield "there are no outputs"
    if len({each.name for each in outputs}) != len(outputs):
        yield "an output is there twice"


def outputs_of(reply: Reply) -> tuple[Output, ...]:
    """The outputs; raises Unreadable."""
    return read(reply)[1]


def same_outputs(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    """The last two replies hold the same outputs, element by element."""
    if not subject.repeatable:
        raise NotApplicable("the same request gives other outputs each time: nothing to compare")
    try:
        first, second = outputs_of(replies[-2]), outputs_of(replies[-1])
    except Unreadable as problem:
        yield str(problem)
        return
    yield from differences(first, second)


def differences(first: Sequence[Output], second: Sequence[Output]) -> Iterator[str]:
    """What two sets of outputs differ in."""
    by_name = {each.name: each for each in second}
    if sorted(by_name) != sorted(each.name for each in first):
        yield "the two replies name other outputs"
        return
    for each in first:
        other = by_name[each.name]
        if (each.datatype, each.shape) != (other.datatype, other.shape):
            yield f"output {each.name} has another datatype or shape"
        elif not all(map(alike, each.data, other.data)):
            yield f"output {each.name} has other values"


def alike(one: Any, other: Any) -> bool:
    """Equal, or floats that differ by what writing them as text may lose."""
    if isinstance(one, float) and isinstance(other, int | float):
        return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-7)
    return bool(one == other)


def told(tell: Callable[[Subject, Mapping[str, Any], tuple[Output, ...]], Iterable[str]]) -> Judge:
    """A valid inference response of which more must hold."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        problems = list(inference(subject, replies))
        yield from problems or tell(subject, *read(replies[-1]))

    return judge
