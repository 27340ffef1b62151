"""What the scoring API serves: predict, models, health, metrics; everything else is 404 or 405."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from interlock.apps.scorer.http import Exchange
from interlock.base.clock import Clock, EdgeClock
from interlock.base.errors import UsageError
from interlock.features.definition import FeatureSet
from interlock.privacy.token import Tokeniser
from interlock.serving.options import ServingOptions
from interlock.serving.pipeline import Call, Pipeline
from interlock.serving.tick import Row, Unanswered
from interlock.serving.wire import v1

ANONYMOUS = "anonymous"
_MODELS = "/v1/models"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class House(Protocol):
    """What the doors need of the worker behind them."""

    pipelines: dict[str, Pipeline]

    def ready(self) -> bool:
        """Whether traffic should come."""
        ...

    def metrics(self, give: Callable[[str], None]) -> None:
        """Fetch the metrics of all workers."""
        ...


class Doors:
    """Routes exchanges to what answers them."""

    def __init__(
        self, house: House, edge: tuple[Tokeniser, FeatureSet], clock: Clock, time: EdgeClock, options: ServingOptions
    ) -> None:
        self._house = house
        self._tokeniser, self._features = edge
        self._entities = self._features.entities
        self._clock = clock
        self._edge = time
        self._options = options
        self._recorded_clock = (time.origin_ns, time.speed)

    def handle(self, exchange: Exchange) -> None:
        """Answer one exchange, now or later."""
        path, method = exchange.path, exchange.method
        if path.startswith(_MODELS + "/") and path.endswith(":predict"):
            if method != "POST":
                exchange.refuse(405, "predict takes POST", extra=b"allow: POST\r\n")
            else:
                self._predict(exchange, path[len(_MODELS) + 1 : -len(":predict")])
        elif method not in ("GET", "HEAD"):
            known = path in _FIXED or path.startswith(_MODELS)
            exchange.refuse(405 if known else 404, "no such operation", extra=b"allow: GET, HEAD\r\n" if known else b"")
        elif path in _FIXED:
            _FIXED[path](self, exchange)
        elif path.startswith(_MODELS + "/"):
            self._model(exchange, path[len(_MODELS) + 1 :])
        else:
            exchange.refuse(404, "no such page")

    def _predict(self, exchange: Exchange, service: str) -> None:
        pipeline = self._house.pipelines.get(service)
        if pipeline is None:
            exchange.refuse(404, "no such model")
            return
        kind = exchange.headers.get(b"content-type", b"application/json").split(b";")[0].strip().lower()
        if kind != b"application/json":
            exchange.refuse(415, "send application/json")
            return
        if exchange.headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            exchange.refuse(415, "send the body as it is, without a content encoding")
            return
        try:
            found = v1.decode(exchange.body, self._features.currencies, self._options.max_instances)
            call = Call(len(found), lambda outcome: _finish(exchange, service, call, outcome))
            rows = [self._row(exchange, call, (service, place), each) for place, each in enumerate(found)]
            pipeline.submit(rows)
        except UsageError as error:
            exchange.refuse(400, str(error))
        except Unanswered as why:
            exchange.refuse(why.status, why.message, why.retry_s)

    def _row(self, exchange: Exchange, call: Call, at: tuple[str, int], given: v1.Transaction) -> Row:
        service, place = at
        tokeniser = self._tokeniser
        inputs: dict[str, Any] = {
            "card": tokeniser.card(given.pan),
            "terminal": tokeniser.entity("terminal", given.terminal_id),
            "device": tokeniser.entity("device", given.device_id),
            "ip": tokeniser.entity("ip", given.ip),
            "amount": given.amount,
            "currency": given.currency,
        }
        for name in ("mcc", "country", "event_time"):
            value = getattr(given, name)
            if value is not None:
                inputs[name] = value
        return Row(
            call=call,
            place=place,
            transaction_id=given.transaction_id,
            inputs=inputs,
            entities=tuple(inputs[kind].encode() for kind in self._entities),
            claim=f"{service}:{given.transaction_id}".encode(),
            received_ns=self._clock.now_ns(),
            edge_ns=self._edge.now_ns(),
            clock=self._recorded_clock,
            principal=ANONYMOUS,
            trace_id=_trace(exchange.headers.get(b"traceparent", b"")),
        )

    def _model(self, exchange: Exchange, name: str) -> None:
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


def _finish(exchange: Exchange, service: str, call: Call, outcome: list[bytes] | Unanswered) -> None:
    if call.version:
        exchange.label = f"{service}|{call.version}"
    if isinstance(outcome, Unanswered):
        exchange.refuse(outcome.status, outcome.message, outcome.retry_s)
    else:
        exchange.respond(200, v1.reply(outcome))


def _trace(header: bytes) -> str:
    """The trace id of a W3C traceparent, or nothing."""
    parts = header.split(b"-")
    if len(parts) != 4 or len(parts[1]) != 32 or any(c not in b"0123456789abcdef" for c in parts[1]):
        return ""
    return parts[1].decode()
