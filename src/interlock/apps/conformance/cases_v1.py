"""Cases of protocol V1: `instances` in, `predictions` out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from interlock.apps.conformance.asking import JSON, NOBODY, fixed, one
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Request, Subject
from interlock.apps.conformance.judging import body_of, both, error_object, members, refused, status_in
from interlock.apps.conformance.tensors import Unreadable

_V1 = "KServe protocol V1"


def _path(subject: Subject, rest: str = "", model: str | None = None) -> str:
    return f"/v1/models/{quote(model or subject.model, safe='')}{rest}"


def _predict(subject: Subject, body: bytes, *headers: tuple[str, str], verb: str = ":predict") -> Dialogue:
    return one(Request("POST", _path(subject, verb), body, headers or (JSON,)))


def _instances(subject: Subject) -> tuple[Any, ...]:
    if subject.instances is None:
        raise NotApplicable('no valid instances are known: give {"instances": […]} with --example')
    return subject.instances


def _sample(subject: Subject, **more: Any) -> Dialogue:
    return _predict(subject, json.dumps({"instances": _instances(subject), **more}).encode())


def _twice(subject: Subject) -> Dialogue:
    return _predict(subject, json.dumps({"instances": [*_instances(subject), *_instances(subject)]}).encode())


def _explain(subject: Subject) -> Dialogue:
    return _predict(subject, json.dumps({"instances": _instances(subject)}).encode(), verb=":explain")


def _body(body: bytes, *headers: tuple[str, str]) -> Any:
    return lambda subject: _predict(subject, body, *headers)


def _lists_the_model(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    if subject.model not in body_of(replies[-1])["models"]:
        yield "models does not list the model"


def _as_many(factor: int) -> Any:
    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        found, due = len(body_of(replies[-1])["predictions"]), factor * len(_instances(subject))
        if found != due:
            yield f"{found} predictions for {due} instances"

    return judge


def _explained(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    reply = replies[-1]
    if reply.status in (404, 405, 501):
        raise NotApplicable(f"the server offers no explanation here (status {reply.status})")
    if reply.status == 503 and not list(error_object(reply)):
        raise NotApplicable("the server cannot explain now (status 503)")
    if reply.status != 200:
        yield f"status {reply.status}, 200 or 404 or 501 is due"
        return
    try:
        body_of(reply)
    except Unreadable as problem:
        yield str(problem)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _no_5xx(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    if replies[-1].status >= 500:
        yield f"status {replies[-1].status} for a caller's fault"


def _case(number: int, sends: str, holds: str, ask: Any, judge: Any) -> HttpCase:
    return HttpCase(f"V1-{number:03}", "v1", _V1, sends, holds, _if_spoken(ask), judge)


def _if_spoken(ask: Any) -> Any:
    def checked(subject: Subject) -> Dialogue:
        if not subject.v1:
            raise NotApplicable("no page of protocol V1 is answered")
        found: Dialogue = ask(subject)
        return found

    return checked


_NO_MODEL = fixed("GET", f"/v1/models/{NOBODY}")
_OF_NOBODY = fixed("POST", f"/v1/models/{NOBODY}:predict", b'{"instances": []}', (JSON,))

CASES: tuple[HttpCase, ...] = (
    _case(1, "GET /v1/models", "200, models is a list", fixed("GET", "/v1/models"), members(models=_list)),
    _case(2, "GET /v1/models", "models lists the model", fixed("GET", "/v1/models"),
          both(members(models=_list), _lists_the_model)),
    _case(3, "GET of the model", "200, name and ready",
          lambda subject: one(Request("GET", _path(subject))),
          lambda subject, replies: members(name=lambda v: v == subject.model, ready=lambda v: v is True)(
              subject, replies)),
    _case(4, "GET of an unknown model", "404, error object", _NO_MODEL, refused(404)),
    _case(5, "predict, valid instances", "200, predictions is a list", _sample, members(predictions=_list)),
    _case(6, "predict, valid instances", "as many predictions as instances", _sample,
          both(members(predictions=_list), _as_many(1))),
    _case(7, "predict, the instances twice", "twice as many predictions", _twice,
          both(members(predictions=_list), _as_many(2))),
    _case(8, "predict of an unknown model", "404, error object", _OF_NOBODY, refused(404)),
    _case(9, "predict, half a JSON text", "4xx, error object", _body(b'{"instances": ['), refused()),
    _case(10, "predict, empty body", "4xx, error object", _body(b""), refused()),
    _case(11, "predict, {}", "4xx, error object", _body(b"{}"), refused()),
    _case(12, "predict, instances is a number", "4xx, error object", _body(b'{"instances": 3}'), refused()),
    _case(13, "predict, the body is a list", "4xx, error object", _body(b"[]"), refused()),
    _case(14, "predict, bytes that are no UTF-8", "4xx, error object", _body(b'{"instances": ["\xff\xfe"]}'),
          refused()),
    _case(15, "predict by GET", "405 or 404", lambda subject: one(Request("GET", _path(subject, ":predict"))),
          status_in(404, 405)),
    _case(16, "predict, Content-Type text/plain, no JSON", "never 5xx",
          _body(b"hello", ("Content-Type", "text/plain")), _no_5xx),
    _case(17, "explain, valid instances", "200 with JSON, if explanations are offered", _explain, _explained),
    _case(18, "explain of an unknown model", "404, error object",
          fixed("POST", f"/v1/models/{NOBODY}:explain", b'{"instances": []}', (JSON,)), refused(404)),
)  # fmt: skip
