"""What the scoring API serves over HTTP: V1, V2 (JSON and binary), repository, health, metrics.

Contract. What a path, a method and the head allow is decided once per head; everything else is 404
or 405. A refusal is the protocol's error object and never says what the caller sent.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from interlock.apps.scorer.desk import Desk, House
from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.ports import Caller
from interlock.base.errors import UsageError
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Call
from interlock.serving.tick import Unanswered
from interlock.serving.wire import oip, openapi, v1, v2

ANONYMOUS = "anonymous"
_HEADER_LENGTH = b"inference-header-content-length"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_TRACE = b"traceparent"

_VERSION = version("interlock")
OCTETS = b"application/octet-stream"

Plan = Callable[[Exchange], None]
_Make = Callable[["Doors", Exchange, re.Match[str]], Plan]


class _Predict(Call):
    """A V1 request on its way."""

    __slots__ = ("_exchange", "_service")

    def __init__(self, exchange: Exchange, service: str) -> None:
        super().__init__()
        self._exchange = exchange
        self._service = service

    def done(self, outcome: list[Any] | Unanswered) -> None:
        """Answer the exchange."""
        exchange = self._exchange
        if self.version:
            exchange.label = f"{self._service}|{self.version}"
        if isinstance(outcome, Unanswered):
            exchange.refuse(outcome.status, outcome.message, outcome.retry_s)
        else:
            exchange.answer(v1.reply(outcome))


class Doors:
    """Routes exchanges to what answers them."""

    def __init__(self, house: House, desk: Desk, options: ServingOptions) -> None:
        self._house = house
        self._desk = desk
        self._options = options
        self._caller = Caller(ANONYMOUS)

    def handle(self, exchange: Exchange) -> None:
        """Answer one exchange, now or later; what its head alone decides is decided once per head."""
        head = exchange.head
        if head.plan is None:
            head.plan = self._plan(exchange)
        head.plan(exchange)

    def _plan(self, exchange: Exchange) -> Plan:
        path, method = exchange.head.path, exchange.head.method
        for pattern, wanted, make in _ROUTES:
            if (found := pattern.fullmatch(path)) is not None:
                if method in wanted:
                    return make(self, exchange, found)
                allowed = ", ".join(wanted).encode()
                return _refusal(405, f"this takes {wanted[0]}", b"allow: %b\r\n" % allowed)
        return _refusal(404, "no such page")

    def _predict(self, service: str, exchange: Exchange) -> None:
        try:
            body = _content(exchange, self._options.max_body_bytes)
            self._desk.predict(service, body, self._of(exchange), _Predict(exchange, service))
        except (UsageError, Unanswered) as why:
            _refuse(exchange, why)

    def _infer(self, service: str, version: str, exchange: Exchange) -> None:
        def done(outcome: oip.InferResponse | Unanswered) -> None:
            if isinstance(outcome, Unanswered):
                _refuse(exchange, outcome)
                return
            exchange.label = f"{outcome.model}|{outcome.version}"
            try:
                body, length = v2.encode(outcome, request)
            except UsageError as error:
                _refuse(exchange, error)
                return
            if length is None:
                exchange.answer(body)
            else:
                exchange.respond(200, body, OCTETS, b"%b: %d\r\n" % (_HEADER_LENGTH, length))

        try:
            body = _content(exchange, self._options.max_body_bytes)
            request = v2.decode(body, _header_length(exchange), service, version)
            self._desk.infer(request, self._of(exchange), done)
        except (UsageError, Unanswered) as why:
            _refuse(exchange, why)

    def _ask(self, answer: Callable[[], bytes], exchange: Exchange) -> None:
        try:
            exchange.respond(200, answer())
        except Unanswered as why:
            _refuse(exchange, why)

    def _repository(self, change: Callable[..., None], service: str, exchange: Exchange) -> None:
        def done(failure: Unanswered | None) -> None:
            if failure is None:
                exchange.respond(200, b"{}")
            else:
                _refuse(exchange, failure)

        try:
            change(service, self._of(exchange), done)
        except Unanswered as why:
            _refuse(exchange, why)

    def _model_ready(self, service: str, version: str) -> bytes:
        if not self._desk.model_ready(service, version):
            raise Unanswered(503, "not ready", 1)
        return v2.model_ready(service, True)

    def _server_ready(self) -> bytes:
        if not self._house.ready():
            raise Unanswered(503, "not ready", 1)
        return v2.ready(True)

    def _document(self) -> bytes:
        return v1.describe(openapi.document(self._desk.services(), self._options))

    def _v1_model(self, service: str) -> bytes:
        return v1.describe({"name": service, "ready": self._desk.model_ready(service, "")})

    def _of(self, exchange: Exchange) -> Caller:
        trace = exchange.head.headers.get(_TRACE)
        return Caller(ANONYMOUS, trace_id=_trace(trace)) if trace else self._caller

    def _metrics(self, exchange: Exchange) -> None:
        self._house.metrics(lambda text: exchange.respond(200, text.encode(), _TEXT))


def _wants(make: Callable[..., Plan]) -> _Make:
    """A plan for a request with a body, unless the head announces one that nobody reads."""
    return lambda doors, exchange, found: _wrong_body(exchange) or make(doors, found)


def _tells(answer: Callable[..., bytes]) -> _Make:
    return lambda doors, exchange, found: partial(doors._ask, lambda: answer(doors, **found.groupdict("")))


_GET, _POST = ("GET", "HEAD"), ("POST",)
_MODEL = r"(?P<service>[^/:]+)"
_V1 = rf"/v1/models/{_MODEL}"
_V2 = rf"/v2/models/{_MODEL}(?:/versions/(?P<version>[^/]+))?"
_ROUTES: tuple[tuple[re.Pattern[str], tuple[str, ...], _Make], ...] = tuple(
    (re.compile(pattern), methods, make)
    for pattern, methods, make in (
        (rf"{_V1}:predict", _POST, _wants(lambda doors, found: partial(doors._predict, found["service"]))),
        (
            rf"{_V2}/infer",
            _POST,
            _wants(lambda doors, found: partial(doors._infer, found["service"], found["version"] or "")),
        ),
        ("/", _GET, _tells(lambda doors: b'{"status":"alive"}')),
        ("/v2/health/live", _GET, _tells(lambda doors: v2.live(True))),
        ("/v2/health/ready", _GET, _tells(Doors._server_ready)),
        ("/metrics", _GET, lambda doors, exchange, found: doors._metrics),
        ("/openapi.json", _GET, _tells(Doors._document)),
        ("/v1/models", _GET, _tells(lambda doors: v1.describe({"models": doors._desk.services()}))),
        (_V1, _GET, _tells(Doors._v1_model)),
        ("/v2/?", _GET, _tells(lambda doors: v2.server_metadata(_VERSION))),
        ("/v2/models", _GET, _tells(lambda doors: v2.models(doors._desk.services()))),
        (_V2, _GET, _tells(lambda doors, service, version: v1.describe(doors._desk.describe(service, version)))),
        (rf"{_V2}/ready", _GET, _tells(Doors._model_ready)),
        ("/v2/repository/index", _POST, _tells(lambda doors: v1.describe(doors._desk.repository_index()))),
        (
            rf"/v2/repository/models/{_MODEL}/load",
            _POST,
            lambda doors, exchange, found: partial(doors._repository, doors._desk.repository_load, found["service"]),
        ),
        (
            rf"/v2/repository/models/{_MODEL}/unload",
            _POST,
            lambda doors, exchange, found: partial(doors._repository, doors._desk.repository_unload, found["service"]),
        ),
    )
)


def _refusal(status: int, message: str, extra: bytes = b"") -> Plan:
    return lambda exchange: exchange.refuse(status, message, extra=extra)


def _refuse(exchange: Exchange, why: UsageError | Unanswered) -> None:
    if isinstance(why, UsageError):
        exchange.refuse(400, str(why))
    else:
        exchange.refuse(why.status, why.message, why.retry_s)


def _wrong_body(exchange: Exchange) -> Plan | None:
    """What is wrong with the kind of body that the head announces, if anything."""
    headers = exchange.head.headers
    # The official Triton client names no type, and octets where raw tensors follow the JSON.
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind not in (b"application/json", OCTETS):
        return _refusal(415, "send application/json")
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b"gzip", b"deflate"):
        return _refusal(415, "send the body as it is, or with gzip")
    return None


def _content(exchange: Exchange, most: int) -> bytes:
    """The body after its content coding, which may not grow beyond what a plain one may have.

    Raises:
        UsageError: it is not what the coding says.
        Unanswered: it is too long (413).
    """
    coding = exchange.head.headers.get(b"content-encoding")
    if coding is None or coding.strip().lower() == b"identity":
        return exchange.body
    unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, as its header says
    try:
        plain = unpack.decompress(exchange.body, most + 1)
    except zlib.error:
        raise UsageError("the body is not what its content encoding says", "send it plain, or with gzip") from None
    if len(plain) > most:
        raise Unanswered(413, "the body is too long", 0)
    if not unpack.eof or unpack.unused_data:
        raise UsageError("the body is not what its content encoding says", "send it plain, or with gzip")
    return plain


def _header_length(exchange: Exchange) -> int | None:
    text = exchange.head.headers.get(_HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 10:
        raise UsageError("the inference header's length is not a number", "send the length of the JSON in bytes")
    return int(text)


def _trace(header: bytes) -> str:
    """The trace id of a W3C traceparent, or nothing."""
    parts = header.split(b"-")
    if len(parts) != 4 or len(parts[1]) != 32 or any(c not in b"0123456789abcdef" for c in parts[1]):
        return ""
    return parts[1].decode()
