"""What the scoring API serves over HTTP: V1, V2 (JSON and binary), repository, health, metrics.

Contract. What a path, a method and the head allow is decided once per head; everything else is 404
or 405. A refusal is the protocol's error object and never says what the caller sent.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

from interlock.apps.scorer.content import HEADER_LENGTH, OCTETS, Terms, content, header_length, refuse, terms_of
from interlock.apps.scorer.desk import Desk, House
from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.gate import Gate
from interlock.apps.scorer.ports import Caller
from interlock.apps.scorer.tracing import Tracing
from interlock.base.errors import RefusedError, UnreachableError, UsageError
from interlock.serving.call import Call, Unanswered
from interlock.serving.options import ServingOptions
from interlock.serving.wire import explain, oip, openapi, v1, v2
from interlock.trust.principal import Principal

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"

_VERSION = version("interlock")
_log = logging.getLogger(__name__)

Plan = Callable[[Exchange], None]


class _Predict(Call):
    """A V1 request on its way."""

    __slots__ = ("_exchange", "_service")

    def __init__(self, exchange: Exchange, service: str, caller: Caller) -> None:
        super().__init__(deadline_ns=caller.deadline_ns, urgent=caller.priority == 0)
        self.trace = caller.trace
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


class Explains(Protocol):
    """What explains recorded decisions; `adapters.explainer.client.ExplainClient`."""

    async def explain(
        self,
        service: str,
        *,
        decisions: Sequence[str] = (),
        transactions: Sequence[str] = (),
        actor: str,
        roles: Collection[str],
        trace_id: str = "",
    ) -> bytes:
        """The JSON text of the explanations."""
        ...


class Doors:
    """Routes exchanges to what answers them.

    Args:
        house: the worker behind them.
        desk: takes requests.
        gate: tells callers apart, and lets them in or not.
        options: bounds.
        explains: the process that explains, or None: nobody does here.
        tracing: begins the traces of scoring requests, or None: none is traced.
    """

    def __init__(
        self,
        house: House,
        desk: Desk,
        gate: Gate,
        options: ServingOptions,
        explains: Explains | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._house = house
        self._desk = desk
        self._gate = gate
        self._options = options
        self._explains = explains
        self._tracing = tracing
        self._waiting: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Answer one exchange, now or later; what its head alone decides is decided once per head."""
        head = exchange.head
        if head.plan is None:
            head.plan = self._plan(exchange)
        try:
            head.plan(exchange)
        except (UsageError, Unanswered) as why:
            refuse(exchange, why)

    def _plan(self, exchange: Exchange) -> Plan:
        path, method = exchange.head.path, exchange.head.method
        for route in _ROUTES:
            if (found := route.path.fullmatch(path)) is None:
                continue
            if method not in route.methods:
                allowed = ", ".join(route.methods).encode()
                return _refusal(405, f"this takes {route.methods[0]}", b"allow: %b\r\n" % allowed)
            if route.body and (wrong := _wrong_body(exchange)) is not None:
                return wrong
            try:
                terms = terms_of(exchange.head.headers, self._options.max_wait_s)
            except UsageError as error:
                return _refusal(400, str(error))
            return partial(self._answer, _Asked(route, found.groupdict(""), terms))
        return _refusal(404, "no such page")

    def _answer(self, asked: _Asked, exchange: Exchange) -> None:
        asked.route.answer(self, exchange, self._admit(asked, exchange), **asked.names)

    def _admit(self, asked: _Asked, exchange: Exchange) -> Caller:
        """Who asks, if they may; every word of it is looked at again with every request."""
        action, terms = asked.route.action, asked.terms
        if not action:
            return _ANYONE
        trace_id = terms.trace_id
        if self._tracing is not None and (name := _SPANS.get(action)) is not None:
            # Before the gate: what is turned away is seen too.
            exchange.trace = self._tracing.begin(name, terms.parent, exchange.started_ns)
            trace_id = trace_id or (exchange.trace.trace_id if exchange.trace else "")
        principal = self._gate.identify(exchange.head.headers, exchange.certificate)
        self._gate.check(principal, action, asked.names.get("service", ""))
        known = asked.caller
        if known is not None and asked.principal is principal and exchange.trace is None and not terms.timeout_ns:
            return known
        deadline = exchange.started_ns + terms.timeout_ns if terms.timeout_ns else 0
        may, sees = partial(self._gate.check, principal), partial(self._gate.sees, principal)
        made = Caller(principal.name, principal.roles, terms.priority, deadline, trace_id, may, sees, exchange.trace)
        if exchange.trace is None:
            asked.principal, asked.caller = principal, made
        return made

    def _predict(self, exchange: Exchange, caller: Caller, service: str) -> None:
        body = content(exchange, self._options.max_body_bytes)
        self._desk.predict(service, body, caller, _Predict(exchange, service, caller))

    def _infer(self, exchange: Exchange, caller: Caller, service: str, version: str) -> None:
        def done(outcome: oip.InferResponse | Unanswered) -> None:
            try:
                if isinstance(outcome, Unanswered):
                    raise outcome
                exchange.label = f"{outcome.model}|{outcome.version}"
                body, length = v2.encode(outcome, request)
            except (UsageError, Unanswered) as why:
                refuse(exchange, why)
                return
            if length is None:
                exchange.answer(body)
            else:
                exchange.respond(200, body, OCTETS, b"%b: %d\r\n" % (HEADER_LENGTH, length))

        body = content(exchange, self._options.max_body_bytes)
        request = v2.decode(body, header_length(exchange), service, version)
        self._desk.infer(request, caller, done)

    def _explain(self, exchange: Exchange, caller: Caller, service: str) -> None:
        if self._explains is None:
            raise Unanswered(503, "nothing explains decisions here", 0)
        self._desk.pipeline(service)
        body = content(exchange, self._options.max_body_bytes)
        asked = explain.decode(body, self._desk.features.currencies, self._options.max_instances)
        task = asyncio.get_running_loop().create_task(self._explained(self._explains, exchange, caller, service, asked))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _explained(  # long: what is asked, by whom, for what
        self, explains: Explains, exchange: Exchange, caller: Caller, service: str, asked: explain.Asked
    ) -> None:
        try:
            body = await explains.explain(
                service,
                decisions=asked.decisions,
                transactions=asked.transactions,
                actor=caller.principal,
                roles=caller.roles,
                trace_id=caller.trace_id,
            )
        except UsageError as error:
            refuse(exchange, error)
        except RefusedError as error:
            exchange.refuse(403, str(error))
        except UnreachableError as error:
            exchange.refuse(503, str(error), 1)
        except Exception:  # also a record that is not of one piece: the auditor's tools say more
            _log.exception("decisions could not be explained")
            exchange.refuse(500, "internal error")
        else:
            exchange.answer(body)

    def _index(self, exchange: Exchange, caller: Caller) -> None:
        ready = v2.repository_ready(content(exchange, self._options.max_body_bytes))
        found = [each for each in self._desk.repository_index() if caller.sees(each["name"])]
        exchange.respond(200, v1.describe([each for each in found if not ready or each["state"] == "READY"]))

    def _load(self, exchange: Exchange, caller: Caller, service: str) -> None:
        version = v2.repository_version(content(exchange, self._options.max_body_bytes))
        self._desk.repository_load(service, caller, partial(_changed, exchange), version)

    def _unload(self, exchange: Exchange, caller: Caller, service: str) -> None:
        version = v2.repository_version(content(exchange, self._options.max_body_bytes))
        self._desk.repository_unload(service, caller, partial(_changed, exchange), version)

    def _model_ready(self, exchange: Exchange, caller: Caller, service: str, version: str) -> None:
        if not self._desk.model_ready(service, version):
            raise Unanswered(503, "not ready", 1)
        exchange.respond(200, v2.model_ready(service, True))

    def _ready(self, exchange: Exchange, caller: Caller) -> None:
        if not self._house.ready():
            raise Unanswered(503, "not ready", 1)
        exchange.respond(200, v2.ready(True))

    def _model(self, exchange: Exchange, caller: Caller, service: str, version: str) -> None:
        exchange.respond(200, v1.describe(self._desk.describe(service, version)))

    def _models(self, exchange: Exchange, caller: Caller) -> None:
        # V1 and V2 list the same names in the same object.
        exchange.respond(200, v2.models(self._seen(caller)))

    def _v1_model(self, exchange: Exchange, caller: Caller, service: str) -> None:
        exchange.respond(200, v1.describe({"name": service, "ready": self._desk.model_ready(service, "")}))

    def _document(self, exchange: Exchange, caller: Caller) -> None:
        exchange.respond(200, v1.describe(openapi.document(self._seen(caller), self._options)))

    def _seen(self, caller: Caller) -> list[str]:
        return [service for service in self._desk.services() if caller.sees(service)]

    def _metrics(self, exchange: Exchange, caller: Caller) -> None:
        self._house.metrics(lambda text: exchange.respond(200, text.encode(), _TEXT))


_ANYONE = Caller("")


@dataclass(slots=True)
class _Asked:
    """What a head asks for, and who sent it last: most callers are the one before."""

    route: _Route
    names: dict[str, str]
    terms: Terms
    principal: Principal | None = None
    caller: Caller | None = None


_SPANS = {
    "predict": "POST /v1/models/{model}:predict",
    "infer": "POST /v2/models/{model}/infer",
    "explain": "POST /v1/models/{model}:explain",
}
"""Server span by action: the method and the route, never what a caller put into it."""


@dataclass(frozen=True)
class _Route:
    """What answers a path.

    Attributes:
        path: the whole of it; groups `service` and `version`.
        methods: the first one is what it is for.
        action: of `trust.grants`; empty: anybody may, since probes carry no credentials.
        answer: takes the doors, the exchange, the caller and the groups.
        body: whether a body is read.
    """

    path: re.Pattern[str]
    methods: tuple[str, ...]
    action: str
    answer: Callable[..., None]
    body: bool = False


_GET, _POST = ("GET", "HEAD"), ("POST",)
_MODEL = r"/(?P<service>[^/:]+)"
_V2 = rf"/v2/models{_MODEL}(?:/versions/(?P<version>[^/]+))?"
_ROUTES = tuple(
    _Route(re.compile(path), methods, action, answer, body)
    for path, methods, action, answer, body in (
        (rf"/v1/models{_MODEL}:predict", _POST, "predict", Doors._predict, True),
        (rf"{_V2}/infer", _POST, "infer", Doors._infer, True),
        (rf"/v1/models{_MODEL}:explain", _POST, "explain", Doors._explain, True),
        ("/", _GET, "", lambda doors, exchange, caller: exchange.respond(200, b'{"status":"alive"}'), False),
        ("/v2/health/live", _GET, "", lambda doors, exchange, caller: exchange.respond(200, v2.live(True)), False),
        ("/v2/health/ready", _GET, "", Doors._ready, False),
        ("/metrics", _GET, "metrics", Doors._metrics, False),
        ("/openapi.json", _GET, "models", Doors._document, False),
        ("/v1/models", _GET, "models", Doors._models, False),
        (rf"/v1/models{_MODEL}", _GET, "models", Doors._v1_model, False),
        (
            "/v2/?",
            _GET,
            "",
            lambda doors, exchange, caller: exchange.respond(200, v2.server_metadata(_VERSION)),
            False,
        ),
        ("/v2/models", _GET, "models", Doors._models, False),
        (_V2, _GET, "models", Doors._model, False),
        (rf"{_V2}/ready", _GET, "models", Doors._model_ready, False),
        ("/v2/repository/index", _POST, "repository.index", Doors._index, True),
        (rf"/v2/repository/models{_MODEL}/load", _POST, "repository.load", Doors._load, True),
        (rf"/v2/repository/models{_MODEL}/unload", _POST, "repository.unload", Doors._unload, True),
    )
)


def _changed(exchange: Exchange, failure: Unanswered | None) -> None:
    if failure is None:
        exchange.respond(200, b"{}")
    else:
        refuse(exchange, failure)


def _refusal(status: int, message: str, extra: bytes = b"") -> Plan:
    return lambda exchange: exchange.refuse(status, message, extra=extra)


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
