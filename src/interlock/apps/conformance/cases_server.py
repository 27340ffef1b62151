"""Cases of V2 that need no inference: health, metadata, versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from interlock.apps.conformance.asking import NOBODY, Ask, content, fixed, infer, of_model, of_version, one
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Subject
from interlock.apps.conformance.judging import (
    Judge,
    body_of,
    both,
    error_object,
    inference,
    members,
    refused,
    status_in,
)
from interlock.apps.conformance.tensors import DATATYPES, Unreadable, sample_of

_OIP = "OIP REST, "
_NO_VERSION = "987654321"


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _tensors(value: Any) -> bool:
    return isinstance(value, list) and all(map(_tensor, value))


def _tensor(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and value.get("datatype") in DATATYPES
        and isinstance(value.get("shape"), list)
        and all(type(each) is int and each >= -1 for each in value["shape"])
    )


def _affirms(*names: str) -> Judge:
    """200, and any of these members is true (the specification says `live` where servers say `ready`)."""

    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        yield from members()(subject, replies)
        if replies[-1].status == 200:
            found = body_of(replies[-1])
            if isinstance(found, dict) and not any(found.get(name) is True for name in names):
                yield f"none of {', '.join(names)} is true"

    return judge


def _all_listed(subject: Subject) -> Dialogue:
    inputs = sample_of(subject.metadata)
    if not inputs:
        raise NotApplicable("the metadata lists no inputs")
    return one(infer(subject, content(subject, [each.as_json() for each in inputs])))


def _named(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    yield from members(name=lambda value: value == subject.model)(subject, replies)


def _version_listed(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    try:
        found = body_of(replies[-1])
    except Unreadable as problem:
        yield str(problem)
        return
    if "versions" in found and not _words(found["versions"]):
        yield "versions is no list of strings"


def _json(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    kind = replies[-1].headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        yield "Content-Type is not application/json"


def _not_ready(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    reply = replies[-1]
    if reply.status == 200:
        yield "an unknown model is said to be ready"
    elif reply.status >= 500:
        yield f"status {reply.status} for a model that is not there, 404 is due"
    else:
        yield from error_object(reply)


def _case(number: int, clause: str, says: tuple[str, str], ask: Ask, judge: Judge) -> HttpCase:
    return HttpCase(f"V2-META-{number:03}", "v2", _OIP + clause, *says, ask, judge)


_HEALTH = "Health/Readiness/Liveness Probes"
_MODEL = "Model Metadata"
_ERROR = "Model Metadata Response JSON Error Object"

CASES: tuple[HttpCase, ...] = (
    _case(1, "Server Metadata", ("GET /v2", "200, name and version are strings, extensions a list of them"),
          fixed("GET", "/v2"), members(name=_text, version=_text, extensions=_words)),
    _case(2, "Server Live", ("GET /v2/health/live", "200, live is true"),
          fixed("GET", "/v2/health/live"), _affirms("live")),
    _case(3, "Server Ready", ("GET /v2/health/ready", "200, live or ready is true"),
          fixed("GET", "/v2/health/ready"), _affirms("live", "ready")),
    _case(4, _MODEL, ("GET of the model", "200, name is the model's"), of_model("GET"), _named),
    _case(5, _MODEL, ("GET of the model", "platform is a string"), of_model("GET"), members(platform=_text)),
    _case(6, _MODEL, ("GET of the model", "inputs: name, datatype of the protocol, shape"), of_model("GET"),
          members(inputs=_tensors)),
    _case(7, _MODEL, ("GET of the model", "outputs: name, datatype of the protocol, shape"), of_model("GET"),
          members(outputs=_tensors)),
    _case(8, _MODEL, ("GET of the model", "versions, if there, is a list of strings"), of_model("GET"),
          both(_named, _version_listed)),
    _case(9, "Model Ready", ("GET …/ready", "200, name and ready"), of_model("GET", "/ready"),
          lambda subject, replies: members(name=lambda v: v == subject.model, ready=lambda v: v is True)(
              subject, replies)),
    _case(10, _MODEL, ("GET …/versions/{v}", "200, name is the model's"), of_version(), _named),
    _case(11, "Model Ready", ("GET …/versions/{v}/ready", "200, ready is true"), of_version("/ready"),
          members(ready=lambda v: v is True)),
    _case(12, _ERROR, ("GET of an unknown model", "404, error object"), of_model("GET", model=NOBODY), refused(404)),
    _case(13, "Model Ready", ("GET …/ready of an unknown model", "4xx, error object"),
          of_model("GET", "/ready", NOBODY), _not_ready),
    _case(14, _ERROR, ("GET …/versions/{unknown}", "404, error object"), of_version(version=_NO_VERSION),
          refused(404)),
    _case(15, "Model Ready", ("GET …/versions/{unknown}/ready", "404, error object"),
          of_version("/ready", _NO_VERSION), refused(404)),
    _case(16, _ERROR, ("GET of an unknown model", "the error is application/json"), of_model("GET", model=NOBODY),
          both(refused(), _json)),
    _case(17, _HEALTH, ("POST /v2/health/ready", "405 or 404"), fixed("POST", "/v2/health/ready"),
          status_in(404, 405)),
    _case(18, _MODEL, ("DELETE of the model", "405 or 404"), of_model("DELETE"), status_in(404, 405)),
    _case(19, _MODEL, ("GET of a model named ..%2f..%2fetc", "404"), fixed("GET", "/v2/models/..%2f..%2fetc"),
          status_in(400, 404)),
    _case(20, "HTTP/REST", ("GET /v2/no/such/page", "404"), fixed("GET", "/v2/no/such/page"), status_in(404)),
    _case(21, _MODEL, ("an inference with every input that the metadata lists", "200: inputs are those required"),
          _all_listed, inference),
)  # fmt: skip
