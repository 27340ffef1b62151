"""Cases of HTTP under the protocol: codings, framing, connections, limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from interlock.apps.conformance.asking import (
    JSON,
    NOBODY,
    compressed,
    content,
    infer,
    model_path,
    one,
    plain,
    post,
    with_body,
)
from interlock.apps.conformance.case import Dialogue, HttpCase, NotApplicable, Reply, Request, Subject
from interlock.apps.conformance.judging import answered_or, body_of, inference, refused, status_in
from interlock.apps.conformance.tensors import Unreadable

_LIVE = "/v2/health/live"
_GZIP = ("Content-Encoding", "gzip")
_HOST = ("Host", "conformance")
_TOO_MUCH = 64 * 1024**3
"""Announced, never sent."""


def _live(*headers: tuple[str, str], method: str = "GET") -> Request:
    return Request(method, _LIVE, b"", headers)


def _bare(*headers: tuple[str, str], body: bytes = b"", method: str = "GET", target: str = _LIVE) -> Dialogue:
    return one(Request(method, target, body, headers, bare=True))


def _chunked(subject: Subject) -> Dialogue:
    body = json.dumps(content(subject)).encode()
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    headers = (_HOST, JSON, ("Transfer-Encoding", "chunked"))
    return one(Request("POST", model_path(subject, "/infer"), chunks + b"0\r\n\r\n", headers, bare=True))


def _both_lengths(subject: Subject) -> Dialogue:
    headers = (_HOST, JSON, ("Content-Length", "6"), ("Transfer-Encoding", "chunked"))
    target = model_path(subject, "/infer")
    return Dialogue((Request("POST", target, b"0\r\n\r\nX", headers, bare=True), _live()))


def _huge(subject: Subject) -> Dialogue:
    headers = (_HOST, JSON, ("Content-Length", str(_TOO_MUCH)), ("Connection", "close"))
    return one(Request("POST", model_path(subject, "/infer"), b"", headers, bare=True))


def _truncated(subject: Subject) -> Dialogue:
    headers = (_HOST, JSON, ("Content-Length", "1000"))
    cut = Request("POST", model_path(subject, "/infer"), b'{"inputs": [', headers, bare=True)
    return Dialogue((cut,), cut=True)


def _ids(subject: Subject) -> Dialogue:
    return Dialogue(
        tuple(infer(subject, content(subject, id=f"pipelined-{number}")) for number in range(4)), pipelined=True
    )


def _mixed(subject: Subject) -> Dialogue:
    unknown = Request("GET", f"/v2/models/{NOBODY}")
    return Dialogue((_live(), unknown, _live(), unknown), pipelined=True)


def _in_order(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    for number, reply in enumerate(replies):
        if reply.status != 200:
            yield f"reply {number + 1} has status {reply.status}, 200 is due"
            return
        try:
            if body_of(reply).get("id") != f"pipelined-{number}":
                yield f"reply {number + 1} does not answer request {number + 1}"
        except Unreadable as problem:
            yield str(problem)


def _statuses(*due: int) -> Any:
    def judge(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
        found = tuple(each.status for each in replies)
        if found != due:
            yield f"statuses {', '.join(map(str, found))}; {', '.join(map(str, due))} are due"

    return judge


def _kept(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    yield from _statuses(200, 200, 200)(subject, replies)
    if any(each.closed for each in replies[:-1]):
        yield "the connection was not kept"


def _head(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    head, get = replies
    if head.status == 405:
        raise NotApplicable("the server does not take HEAD (405)")
    if get.status != 200:
        yield f"the GET after it has status {get.status}, 200 is due"
    elif head.status != get.status:
        yield f"HEAD has status {head.status}, GET has {get.status}"


def _gzip(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    yield from answered_or(415)(subject, replies)


def _limited(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    reply = replies[-1]
    if reply.lost.startswith("nothing"):
        raise NotApplicable("the server waits for 64 GiB: no limit was seen before the body")
    if not reply.lost:
        yield from refused(413)(subject, replies)


def _ambiguous(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    first = replies[0]
    if not first.lost and 200 <= first.status < 300:
        yield "the request was answered as if its length were clear"
    elif first.status >= 500:
        yield f"status {first.status} for a caller's fault, 400 is due"
    elif not first.lost and not first.closed:
        yield "the connection was kept after a request that two parties could read differently"


def _allow(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    reply = replies[-1]
    if reply.status == 404:
        raise NotApplicable("the server answers 404 to a wrong method")
    if reply.status != 405:
        yield f"status {reply.status}, 405 is due"
    elif not reply.headers.get("allow"):
        yield "405 without an Allow header"


def _no_5xx(subject: Subject, replies: Sequence[Reply]) -> Iterator[str]:
    if replies[-1].status >= 500:
        yield f"status {replies[-1].status} for a caller's fault"


def _case(number: int, clause: str, says: tuple[str, str], asked: Any, may_end: bool = False) -> HttpCase:
    ask, judge = asked
    return HttpCase(f"HTTP-{number:03}", "http", clause, *says, ask, judge, may_end)


_CLOSE = ("Connection", "close")

CASES: tuple[HttpCase, ...] = (
    _case(1, "RFC 9110 8.4", ("a valid inference in gzip", "answered, or refused with 415"),
          (with_body(compressed, JSON, _GZIP), _gzip)),
    _case(2, "RFC 9110 8.4", ("Content-Encoding gzip with a body that is none", "4xx, error object"),
          (with_body(bytes, JSON, _GZIP), refused())),
    _case(3, "RFC 9110 8.4", ("an unknown Content-Encoding", "4xx (415), error object"),
          (with_body(bytes, JSON, ("Content-Encoding", "conformance")), refused())),
    _case(4, "RFC 9110 12.5.3", ("Accept-Encoding: gzip", "a response that can be read"),
          (with_body(bytes, JSON, ("Accept-Encoding", "gzip")), inference)),
    _case(5, "RFC 9112 9.3", ("three requests on one connection", "three replies, the connection is kept"),
          (lambda subject: Dialogue((_live(), _live(), _live())), _kept)),
    _case(6, "RFC 9112 9.3.2", ("four inferences at once on one connection", "four replies in order"),
          (_ids, _in_order)),
    _case(7, "RFC 9112 9.3.2", ("good and bad requests in turn, at once", "each its own reply, in order"),
          (_mixed, _statuses(200, 404, 200, 404))),
    _case(8, "RFC 9112 9.6", ("Connection: close", "the connection ends after the reply"),
          (lambda subject: one(_live(_CLOSE)),
           lambda subject, replies: [] if replies[-1].closed else ["the reply does not say close"])),
    _case(9, "RFC 9110 9.3.2", ("HEAD, then GET on the same connection", "the same status, no body with HEAD"),
          (lambda subject: Dialogue((_live(method="HEAD"), _live())), _head)),
    _case(10, "RFC 9110 15.5.6", ("a method that the page does not take", "405 with Allow, or 404"),
          (lambda subject: one(_live(method="DELETE")), _allow)),
    _case(11, "RFC 9112 7.1", ("a valid inference in chunks", "200, or 411"), (_chunked, answered_or(411))),
    _case(12, "RFC 9112 6.1", ("Content-Length and Transfer-Encoding together", "refused, or ended after it"),
          (_both_lengths, _ambiguous), True),
    _case(13, "RFC 9112 6.3", ("two different Content-Lengths", "4xx"),
          (lambda subject: _bare(_HOST, ("Content-Length", "0"), ("Content-Length", "7"), body=b"1234567",
                                 method="POST", target=model_path(subject, "/infer")), _ambiguous), True),
    _case(14, "RFC 9112 3.2", ("a request without Host", "400"),
          (lambda subject: _bare(_CLOSE), status_in(400))),
    _case(15, "RFC 9110 8.6", ("Content-Length: -1", "4xx"),
          (lambda subject: _bare(_HOST, ("Content-Length", "-1"), method="POST",
                                 target=model_path(subject, "/infer")), _ambiguous), True),
    _case(16, "RFC 9110 15.5.14", ("64 GiB announced", "413, or the connection ends"), (_huge, _limited), True),
    _case(17, "RFC 6585 5", ("a header field of 200,000 characters", "4xx, or the connection ends"),
          (lambda subject: one(_live(("X-Conformance", "x" * 200_000))), _no_5xx), True),
    _case(18, "RFC 9112 8", ("a body that ends early", "4xx, or the connection ends"), (_truncated, _no_5xx), True),
    _case(19, "RFC 9112 3", ("a method that does not exist", "4xx or 501"),
          (lambda subject: one(_live(method="CONFORM")),
           lambda subject, replies: [] if replies[-1].status in (400, 404, 405, 501) else ["it was not refused"]),
          True),
    _case(20, "RFC 9110 15.5.16", ("a valid inference as application/x-www-form-urlencoded",
                                   "answered, or refused with 4xx, no 5xx"),
          (lambda subject: one(post(subject, plain(subject).requests[0].body,
                                    ("Content-Type", "application/x-www-form-urlencoded"))), answered_or())),
    _case(21, "RFC 9110 10.1.1", ("a valid inference with Expect: 100-continue", "200"),
          (with_body(bytes, JSON, ("Expect", "100-continue")), inference)),
)  # fmt: skip
