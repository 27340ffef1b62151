"""What the scoring API serves: predict, models, health, metrics; everything else is 404 or 405."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from interlock.apps.scorer.desk import Desk, House
from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.ports import Caller
from interlock.base.errors import UsageError
from interlock.serving.pipeline import Call
from interlock.serving.tick import Unanswered
from interlock.serving.wire import v1

ANONYMOUS = "anonymous"
_MODELS = "/v1/models"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_TRACE = b"traceparent"

Plan = Callable[[Exchange], None]


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

    def __init__(self, house: House, desk: Desk) -> None:
        self._house = house
        self._desk = desk
        self._caller = Caller(ANONYMOUS)

    def handle(self, exchange: Exchange) -> None:
        """Answer one exchange, now or later; what its head alone decides is decided once per head."""
        head = exchange.head
        if head.plan is None:
            head.plan = self._plan(exchange)
        head.plan(exchange)

    def _plan(self, exchange: Exchange) -> Plan:
        path, method = exchange.head.path, exchange.head.method
        if path.startswith(_MODELS + "/") and path.endswith(":predict"):
            if method != "POST":
                return _refusal(405, "predict takes POST", b"allow: POST\r\n")
            return _wrong_body(exchange) or partial(self._predict, path[len(_MODELS) + 1 : -len(":predict")])
        if method not in ("GET", "HEAD"):
            known = path in _FIXED or path.startswith(_MODELS)
            return _refusal(405 if known else 404, "no such operation", b"allow: GET, HEAD\r\n" if known else b"")
        if path in _FIXED:
            return partial(_FIXED[path], self)
        if path.startswith(_MODELS + "/"):
            return partial(self._model, path[len(_MODELS) + 1 :])
        return _refusal(404, "no such page")

    def _predict(self, service: str, exchange: Exchange) -> None:
        try:
            self._desk.predict(service, exchange.body, self._of(exchange), _Predict(exchange, service))
        except UsageError as error:
            exchange.refuse(400, str(error))
        except Unanswered as why:
            exchange.refuse(why.status, why.message, why.retry_s)

    def _of(self, exchange: Exchange) -> Caller:
        trace = exchange.head.headers.get(_TRACE)
        return Caller(ANONYMOUS, trace_id=_trace(trace)) if trace else self._caller

    def _model(self, name: str, exchange: Exchange) -> None:
        pipeline = self._house.pipelines.get(name)
        if pipeline is None:
            exchange.refuse(404, "no such model")
        else:
            exchange.respond(200, v1.describe({"name": name, "ready": pipeline.route is not None}))

    def _models(self, exchange: Exchange) -> None:
        exchange.respond(200, v1.describe({"models": sorted(self._house.pipelines)}))

    def _alive(self, exchange: Exchange) -> None:
        exchange.respond(200, b'{"status":"alive"}')

    def _live(self, exchange: Exchange) -> None:
        exchange.respond(200, b'{"live":true}')

    def _ready(self, exchange: Exchange) -> None:
        if self._house.ready():
            exchange.respond(200, b'{"ready":true}')
        else:
            exchange.refuse(503, "not ready", 1)

    def _metrics(self, exchange: Exchange) -> None:
        self._house.metrics(lambda text: exchange.respond(200, text.encode(), _TEXT))


_FIXED: dict[str, Callable[[Doors, Exchange], None]] = {
    "/": Doors._alive,
    _MODELS: Doors._models,
    "/v2/health/live": Doors._live,
    "/v2/health/ready": Doors._ready,
    "/metrics": Doors._metrics,
}


def _refusal(status: int, message: str, extra: bytes = b"") -> Plan:
    return lambda exchange: exchange.refuse(status, message, extra=extra)


def _wrong_body(exchange: Exchange) -> Plan | None:
    """What is wrong with the kind of body that the head announces, if anything."""
    headers = exchange.head.headers
    kind = headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
    if kind != b"application/json":
        return _refusal(415, "send application/json")
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return _refusal(415, "send the body as it is, without a content encoding")
    return None


def _trace(header: bytes) -> str:
    """The trace id of a W3C traceparent, or nothing."""
    parts = header.split(b"-")
    if len(parts) != 4 or len(parts[1]) != 32 or any(c not in b"0123456789abcdef" for c in parts[1]):
        return ""
    return parts[1].decode()
