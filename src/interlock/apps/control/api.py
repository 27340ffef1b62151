"""The control API: the one way to append events and to ask about rollouts.

JSON over HTTP. Who may do what is the door's matter (`apps/control/door.py`): each route of `ROUTES`
asks one action of `trust.grants`. The server stamps the time of every event it takes; a reply means
that the event is durable. Errors are `{"error": {"kind", "message", "remedy"}}` with 400 (malformed),
401 (nobody), 403 (refused or not allowed), 404 (no such service or version), 409 (not in this state,
or integrity), 503 (unreachable). Nothing here changes traffic: an order is an event that the
reconciler carries out, and whoever is in a hurry latches the supervisor first.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.apps.control import orders
from interlock.apps.control.door import ANY, Caller, DeniedError, Door, UnidentifiedError
from interlock.apps.control.memory import Memory
from interlock.apps.views import rollout as view
from interlock.base.clock import Clock
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError
from interlock.rollout import journal
from interlock.rollout.options import RolloutOptions
from interlock.rollout.states import State
from interlock.rollout.values import Rollout
from interlock.trust.event import TYPES, Event, NewEvent
from interlock.trust.ports import EventStore

_STATUS: tuple[tuple[type[InterlockError], int, str], ...] = (
    (UnidentifiedError, 401, "unauthorised"),
    (DeniedError, 403, "denied"),
    (orders.UnknownError, 404, "usage"),
    (orders.NotNowError, 409, "refused"),
    (UsageError, 400, "usage"),
    (RefusedError, 403, "refused"),
    (IntegrityError, 409, "integrity"),
    (UnreachableError, 503, "unreachable"),
)
_MAX_BODY = 256 * 1024
_MAX_PAGE = 1000
_ADMITTED = "release.admitted"
_log = logging.getLogger(__name__)

APPENDABLE = frozenset(
    {
        "dataset.registered",
        "model.registered",
        "model.retired",
        "retrain.requested",
        "release.proposed",
        "decision.explained",
        "batch.scored",
        "data.sampled",
    }
)
"""What `events.append` covers. Any other type has an action of its own, or only the platform may write it."""
_PLATFORM = ("rollout.", "scorer.", "segment.", "log.", "notification.")
_GATE = ("admitted", "refused", "reverted", "superseded", "quarantined")
RESERVED = frozenset(each for each in TYPES if each.startswith(_PLATFORM)) | {f"release.{each}" for each in _GATE}
"""What nobody appends by hand, the local operator included: controllers go by it, and cannot go on without."""


@dataclass(frozen=True)
class Row:
    """A route: its action, and which services that action is asked for.

    `scope`: `service` (the one in the path), `all`, or `any` (what is told is filtered by service).
    """

    method: str
    path: str
    action: str
    handler: str
    scope: str


ROUTES: tuple[Row, ...] = (
    Row("POST", "/v1/events", "events.append", "append", "all"),
    Row("GET", "/v1/events", "events.read", "list_events", "all"),
    Row("GET", "/v1/rollouts", "rollouts.read", "rollouts", "any"),
    Row("GET", "/v1/rollouts/{id}", "rollouts.read", "rollout", "any"),
    Row("POST", "/v1/rollouts/{service}/abort", "rollout.abort", "abort", "service"),
    Row("POST", "/v1/rollouts/{service}/pause", "rollout.pause", "pause", "service"),
    Row("POST", "/v1/rollouts/{service}/resume", "rollout.resume", "resume", "service"),
    Row("POST", "/v1/rollouts/{service}/rollback", "rollout.rollback", "rollback", "service"),
)
"""Every route that needs a credential."""

_Answer = Callable[[Request, Caller], Awaitable[Response]]


def create(  # long: the ports of an API
    store: EventStore,
    token: str,
    clock: Clock,
    options: RolloutOptions | None = None,
    door: Door | None = None,
    hooks: Sequence[Route] = (),
) -> Starlette:
    """The ASGI application on `store`.

    Args:
        store: the events.
        token: of the local operator.
        clock: stamps events.
        options: the horizon of returns; None: the defaults.
        door: who else may come in; None: the local operator alone.
        hooks: routes that check their callers themselves.
    """
    api = _Api(store, door or Door(token, store, clock), clock, options or RolloutOptions())
    routes = [Route(row.path, api.guarded(row), methods=[row.method]) for row in ROUTES]
    return Starlette(routes=[Route("/healthz", api.health, methods=["GET"]), *routes, *hooks])


class _Api:
    def __init__(self, store: EventStore, door: Door, clock: Clock, options: RolloutOptions) -> None:
        self._store = store
        self._door = door
        self._clock = clock
        self._options = options
        self._one = threading.Lock()
        """One order at a time: what is checked is what is recorded."""

    def guarded(self, row: Row) -> Callable[[Request], Awaitable[Response]]:
        """The route's handler behind the door."""
        handler: _Answer = getattr(self, row.handler)

        async def answer(request: Request) -> Response:
            try:
                caller = await self._door.identify(request.headers)
                asked = request.path_params["service"] if row.scope == "service" else ANY if row.scope == "all" else ""
                await self._door.check(caller, row.action, asked)
                return await handler(request, caller)
            except InterlockError as error:
                status, kind = next((status, kind) for each, status, kind in _STATUS if isinstance(error, each))
                return _error(status, kind, error.message, error.remedy)

        return answer

    async def health(self, request: Request) -> Response:
        """Alive: no token needed, nothing said."""
        return JSONResponse({"status": "alive"})

    async def append(self, request: Request, caller: Caller) -> Response:
        """Append one event, stamped with the server's time, and with the name of whoever was identified."""
        body = await _body(request)
        if caller.actor is not None:
            if str(body.get("type")) not in APPENDABLE:
                raise DeniedError("this type of event is not appended by hand", f"one of: {', '.join(APPENDABLE)}")
            body["actor"] = caller.actor
        if str(body.get("type")) in RESERVED:
            raise DeniedError("only the platform writes this type of event", "see `interlock rollout --help`")
        try:
            event = msgspec.convert({**body, "time_ns": self._clock.now_ns()}, NewEvent)
        except msgspec.ValidationError as error:
            raise UsageError("not an event", "send type, actor, origin, object, outcome and body") from error
        return _stored(await run_in_threadpool(self._store.append, event), 201)

    async def list_events(self, request: Request, caller: Caller) -> Response:
        """Events after an id, of some types."""
        types = [name for name in request.query_params.get("types", "").split(",") if name] or None
        unknown = [name for name in types or () if name not in TYPES]
        if unknown:
            raise UsageError("unknown event type", f"use some of: {', '.join(TYPES)}")
        after = _integer(request.query_params.get("after", "0"))
        limit = min(_integer(request.query_params.get("limit", str(_MAX_PAGE))), _MAX_PAGE)
        found = await run_in_threadpool(self._store.after, after, types, limit)
        return JSONResponse({"events": msgspec.to_builtins(found)})

    async def rollouts(self, request: Request, caller: Caller) -> Response:
        """One line per rollout of the services that the caller may ask for."""
        lines = view.listing(await run_in_threadpool(view.read, self._store))
        seen = [line for line in lines if self._door.sees(caller, "rollouts.read", line["service"])]
        return JSONResponse({"rollouts": seen})

    async def rollout(self, request: Request, caller: Caller) -> Response:
        """One rollout's story."""
        wanted = request.path_params["id"]
        told = view.story(await run_in_threadpool(view.of_one, self._store, wanted), wanted)
        await self._door.check(caller, "rollouts.read", told["service"])
        return JSONResponse(told)

    # --- orders ---------------------------------------------------------------------------------

    async def abort(self, request: Request, caller: Caller) -> Response:
        """Ask the reconciler to go back; asked twice of one rollout, recorded once."""
        order = await self._order("abort", request, caller)
        return await run_in_threadpool(self._aborted, order)

    async def pause(self, request: Request, caller: Caller) -> Response:
        """Ask the reconciler to stop where it is; guards go on."""
        return await run_in_threadpool(self._record, await self._order("pause", request, caller))

    async def resume(self, request: Request, caller: Caller) -> Response:
        """Ask the reconciler to go on."""
        return await run_in_threadpool(self._record, await self._order("resume", request, caller))

    async def rollback(self, request: Request, caller: Caller) -> Response:
        """Ask the reconciler to return to a version that had settled."""
        return await run_in_threadpool(self._record, await self._order("rollback", request, caller))

    async def _order(self, kind: str, request: Request, caller: Caller) -> orders.Order:
        return orders.parse(kind, request.path_params["service"], await _body(request), caller.actor)

    def _record(self, order: orders.Order) -> Response:
        with self._one:
            orders.check(order, self._standing(order.service))
            return self._append(order)

    def _append(self, order: orders.Order) -> Response:
        return _stored(self._store.append(orders.event(order, self._clock.now_ns())), 202)

    def _aborted(self, order: orders.Order) -> Response:
        with self._one:
            return self._abort_once(order)

    def _abort_once(self, order: orders.Order) -> Response:
        try:
            newest = self._newest(order.service)
            before = None if newest is None else self._abort_of(newest)
            if before is not None:
                return _stored(before, 200)
            orders.check(order, self._standing(order.service))
        except (IntegrityError, KeyError, TypeError, ValueError) as error:
            # What cannot be read must not keep anybody from going back.
            _log.error("an abort is recorded unchecked: %s", error)
        return self._append(order)

    def _standing(self, service: str) -> orders.Standing:
        memory = Memory.of(self._store)
        found = orders.standing(memory, service, self._options, self._clock.now_ns(), self._known(service))
        if found.under_way is None:
            return found
        folder, authors = found.under_way.folder, ()
        for event in self._all((_ADMITTED,)):
            if event.body.get("service") == service and event.body.get("folder") == folder:
                authors = tuple(event.body.get("authors", ()))
        return orders.Standing(found.known, found.under_way, authors, found.live, found.earlier)

    def _known(self, service: str) -> bool:
        return any(event.object == f"service/{service}" for event in self._all(view.TYPES))

    def _newest(self, service: str) -> Rollout | None:
        mine = [event for event in self._all(journal.ENTRIES) if event.object == f"service/{service}"]
        return next(reversed(journal.rollouts(mine).values()), None)

    def _abort_of(self, rollout: Rollout) -> Event | None:
        """The abort that was asked for since this rollout started, unless it settled all the same."""
        if rollout.state is State.SETTLED:
            return None
        asked = [each for each in self._all((orders.KINDS["abort"],)) if each.time_ns >= rollout.started_ns]
        return next((each for each in asked if each.body.get("service") == rollout.service), None)

    def _all(self, types: tuple[str, ...]) -> list[Event]:
        found: list[Event] = []
        while page := self._store.after(found[-1].id if found else 0, types):
            found += page
        return found


def _stored(event: Event, status: int) -> Response:
    return JSONResponse(msgspec.to_builtins(event), status_code=status)


def _error(status: int, kind: str, message: str, remedy: str) -> Response:
    return JSONResponse({"error": {"kind": kind, "message": message, "remedy": remedy}}, status_code=status)


async def _body(request: Request) -> dict[str, Any]:
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MAX_BODY:
            raise UsageError("the body is too long", f"send at most {_MAX_BODY} bytes")
    try:
        found = json.loads(bytes(data))
    except ValueError as error:
        raise UsageError("the body is not JSON", "send one JSON object") from error
    if not isinstance(found, dict):
        raise UsageError("the body is not a JSON object", "send one JSON object")
    return found


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise UsageError("not a number", "give a non-negative integer")
    return int(text)
