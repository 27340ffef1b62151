"""Cases of the model repository extension: index always, load and unload only when they are allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from interlock.apps.conformance.asking import JSON, NOBODY, content, fixed, infer, model_path, one
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Request, Subject
from interlock.apps.conformance.judging import Judge, body_of, inference, refused
from interlock.apps.conformance.tensors import Unreadable

_CLAUSE = "Model repository extension"
_INDEX = "/v2/repository/index"


def _stated(subject: Subject) -> None:
    if not subject.states("repository"):
        raise NotApplicable("the server does not state the model repository extension")


def _allowed(subject: Subject) -> None:
    _stated(subject)
    if not subject.with_repository:
        raise NotApplicable("load and unload change the server: allow them with --with-repository")


def _index(body: dict[str, Any]) -> Callable[[Subject], Dialogue]:
    def ask(subject: Subject) -> Dialogue:
        _stated(subject)
        return one(Request("POST", _INDEX, json.dumps(body).encode(), (JSON,)))

    return ask


def _verb(subject: Subject, verb: str, model: str | None = None) -> Request:
    return Request("POST", f"/v2/repository/models/{quote(model or subject.model, safe='')}/{verb}", b"{}", (JSON,))


def _of_nobody(verb: str) -> Callable[[Subject], Dialogue]:
    def ask(subject: Subject) -> Dialogue:
        _stated(subject)
        return one(_verb(subject, verb, NOBODY))

    return ask


def _load(subject: Subject) -> Dialogue:
    _allowed(subject)
    return Dialogue((_verb(subject, "load"), infer(subject, content(subject))))


def _round(subject: Subject) -> Dialogue:
    _allowed(subject)
    ready = Request("GET", model_path(subject, "/ready"))
    return Dialogue((_verb(subject, "unload"), ready, _verb(subject, "load"), ready))


def _entries(reply: Reply) -> list[dict[str, Any]]:
    if reply.status == 404:
        raise NotApplicable("the server has no index (404)")
    found = body_of(reply)
    if reply.status != 200 or not isinstance(found, list):
        raise Unreadable(f"status {reply.status}, 200 with a list is due")
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in found):
        raise Unreadable("an entry has no name")
    return found


def _listed(holds: Callable[[Subject, list[dict[str, Any]]], Iterator[str]]) -> Judge:
    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        try:
            yield from holds(subject, _entries(replies[-1]))
        except Unreadable as problem:
            yield str(problem)

    return judge


def _names_the_model(subject: Subject, entries: list[dict[str, Any]]) -> Iterator[str]:
    if subject.model not in [each["name"] for each in entries]:
        yield "the model is not in the index"


def _has_states(subject: Subject, entries: list[dict[str, Any]]) -> Iterator[str]:
    if not all(isinstance(each.get("state", ""), str) and isinstance(each.get("reason", ""), str) for each in entries):
        yield "a state or reason is no string"


def _all_ready(subject: Subject, entries: list[dict[str, Any]]) -> Iterator[str]:
    if any(each.get("state", "READY") != "READY" for each in entries):
        yield "an entry is not READY"


def _reloaded(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    if replies[0].status != 200:
        yield f"load has status {replies[0].status}, 200 is due"
    else:
        yield from inference(subject, replies)


def _went_and_came(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    unload, gone, load, back = (each.status for each in replies)
    if (unload, load) != (200, 200):
        yield f"unload has status {unload}, load {load}: 200 is due"
    if gone == 200:
        yield "the model is ready after unload"
    if back != 200:
        yield f"the model is not ready after load (status {back})"


def _when_there(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    _stated(subject)
    if replies[-1].status in (404, 405):
        raise NotApplicable(f"the server has no index ({replies[-1].status})")
    yield from refused()(subject, replies)


def _case(number: int, sends: str, holds: str, ask: Any, judge: Judge) -> HttpCase:
    return HttpCase(f"REPO-{number:03}", "repository", _CLAUSE, sends, holds, ask, judge)


CASES: tuple[HttpCase, ...] = (
    _case(1, "POST index", "a list that names the model", _index({}), _listed(_names_the_model)),
    _case(2, "POST index", "state and reason are strings", _index({}), _listed(_has_states)),
    _case(3, "POST index with ready true", "READY entries alone", _index({"ready": True}), _listed(_all_ready)),
    _case(4, "load of an unknown model", "4xx, error object", _of_nobody("load"), refused()),
    _case(5, "unload of an unknown model", "4xx, error object", _of_nobody("unload"), refused()),
    _case(6, "load of the model, then an inference", "200 twice", _load, _reloaded),
    _case(7, "unload, then load of the model", "not ready between, ready after", _round, _went_and_came),
    _case(8, "POST index, half a JSON text", "4xx, error object, if there is an index",
          fixed("POST", _INDEX, b"{", (JSON,)), _when_there),
)  # fmt: skip
