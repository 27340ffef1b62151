"""The control API: the one way to append events and to ask about rollouts.

JSON over HTTP on the loopback, bearer token from `run/control.token` (0600). The server stamps the
time of every event it takes; a reply means that the event is durable. Errors are
`{"error": {"kind", "message", "remedy"}}` with 400 (malformed), 403 (refused), 409 (integrity),
503 (unreachable). Nothing here changes traffic: an abort is an event that the reconciler carries
out, and whoever is in a hurry latches the supervisor first.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from interlock.apps.views import rollout as view
from interlock.base.clock import Clock
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError
from interlock.trust.event import TYPES, NewEvent
from interlock.trust.ports import EventStore

_STATUS = {UsageError: 400, RefusedError: 403, IntegrityError: 409, UnreachableError: 503}
_MAX_BODY = 256 * 1024
_MAX_PAGE = 1000

_Handler = Callable[[Request], Awaitable[Response]]


def create(store: EventStore, token: str, clock: Clock, hooks: Sequence[Route] = ()) -> Starlette:
    """The ASGI application on `store`; `token` is what callers must present, but those of `hooks`."""
    api = _Api(store, token, clock)
    return Starlette(
        routes=[
            Route("/healthz", api.health, methods=["GET"]),
            Route("/v1/events", api.guarded(api.append), methods=["POST"]),
            Route("/v1/events", api.guarded(api.list_events), methods=["GET"]),
            Route("/v1/rollouts", api.guarded(api.rollouts), methods=["GET"]),
            Route("/v1/rollouts/{id}", api.guarded(api.rollout), methods=["GET"]),
            Route("/v1/rollouts/{service}/abort", api.guarded(api.abort), methods=["POST"]),
            *hooks,
        ]
    )


class _Api:
    def __init__(self, store: EventStore, token: str, clock: Clock) -> None:
        self._store = store
        self._token = f"Bearer {token}".encode()
        self._clock = clock

    def guarded(self, handler: _Handler) -> _Handler:
        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, self._token):
                return _error(401, "unauthorised", "no valid bearer token", "send the token of run/control.token")
            try:
                return await handler(request)
            except InterlockError as error:
                kind = type(error)
                return _error(_STATUS[kind], kind.__name__.removesuffix("Error").lower(), error.message, error.remedy)

        return answer

    async def health(self, request: Request) -> Response:
        """Alive: no token needed, nothing said."""
        return JSONResponse({"status": "alive"})

    async def append(self, request: Request) -> Response:
        """Append one event, stamped with the server's time."""
        body = await _body(request)
        try:
            event = msgspec.convert({**body, "time_ns": self._clock.now_ns()}, NewEvent)
        except msgspec.ValidationError as error:
            raise UsageError("not an event", "send type, actor, origin, object, outcome and body") from error
        taken = await run_in_threadpool(self._store.append, event)
        return JSONResponse(msgspec.to_builtins(taken), status_code=201)

    async def list_events(self, request: Request) -> Response:
        """Events after an id, of some types."""
        types = [name for name in request.query_params.get("types", "").split(",") if name] or None
        unknown = [name for name in types or () if name not in TYPES]
        if unknown:
            raise UsageError("unknown event type", f"use some of: {', '.join(TYPES)}")
        after = _integer(request.query_params.get("after", "0"))
        limit = min(_integer(request.query_params.get("limit", str(_MAX_PAGE))), _MAX_PAGE)
        found = await run_in_threadpool(self._store.after, after, types, limit)
        return JSONResponse({"events": msgspec.to_builtins(found)})

    async def rollouts(self, request: Request) -> Response:
        """One line per rollout."""
        return JSONResponse({"rollouts": view.listing(await run_in_threadpool(view.read, self._store))})

    async def rollout(self, request: Request) -> Response:
        """One rollout's story."""
        events = await run_in_threadpool(view.read, self._store, True)
        return JSONResponse(view.story(events, request.path_params["id"]))

    async def abort(self, request: Request) -> Response:
        """Ask the reconciler to go back; recorded with who and why."""
        body = await _body(request)
        reason, actor = body.get("reason"), body.get("actor")
        if not isinstance(reason, str) or not isinstance(actor, str):
            raise UsageError("an abort needs an actor and a reason", 'send {"actor": …, "reason": …}')
        event = NewEvent(
            time_ns=self._clock.now_ns(),
            type="rollout.abort.requested",
            actor=actor,
            origin="control-api",
            object=f"service/{request.path_params['service']}",
            outcome="success",
            body={"service": request.path_params["service"], "reason": reason[:400]},
        )
        taken = await run_in_threadpool(self._store.append, event)
        return JSONResponse(msgspec.to_builtins(taken), status_code=202)


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
