"""The control API's client: over HTTP while a control process lives, else the same app in process.

`append` returns when the event is durable. Both ways run the same code (`apps/control/api.py`) on
the same database, so a command behaves alike whether or not the platform is up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from interlock.base.clock import SystemClock
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UnreachableError, UsageError
from interlock.settings import Settings, read_endpoints
from interlock.trust.event import Event, NewEvent

_KINDS: dict[str, type[InterlockError]] = {
    "usage": UsageError,
    "refused": RefusedError,
    "integrity": IntegrityError,
    "unreachable": UnreachableError,
    "unauthorised": RefusedError,
    "denied": RefusedError,
}


class ControlClient:
    """What the command line and the jobs use; close it, or use it as a context manager."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def open(cls, settings: Settings) -> ControlClient:
        """A client of the running control process, or of the app in this process."""
        from interlock.wiring import control  # late: commands show their help without SQL

        token = control.api_token(settings)
        headers = {"authorization": f"Bearer {token}"}
        url = _alive(read_endpoints(settings.home).get("control"))
        if url is not None:
            return cls(httpx.Client(base_url=url, headers=headers, timeout=settings.control.request_timeout_s))
        from interlock.apps.control.api import create  # late: only when nothing runs

        app = create(control.event_store(settings), token, SystemClock(), settings.rollout)
        return cls(httpx.Client(base_url="http://control", headers=headers, transport=_InProcess(app)))

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def append(self, event: NewEvent) -> Event:
        """Append one event; durable on return, stamped with the server's time."""
        body = {name: value for name, value in msgspec.to_builtins(event).items() if name != "time_ns"}
        return msgspec.convert(self._call("POST", "/v1/events", json=body), Event)

    def events(self, after: int = 0, types: Collection[str] | None = None) -> list[Event]:
        """All events after an id, of some types, ascending."""
        return list(self._pages(after, types))

    def rollouts(self) -> list[dict[str, Any]]:
        """One line per rollout, newest last."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/rollouts")["rollouts"]
        return found

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        """The story of one rollout (`views.rollout.story`)."""
        found: dict[str, Any] = self._call("GET", f"/v1/rollouts/{rollout_id}")
        return found

    def abort(self, service: str, reason: str, actor: str, latched: bool = False) -> Event:
        """Ask the reconciler to take the service back to its champion; the same event when asked again.

        Args:
            service: whose rollout.
            reason: why.
            actor: who asks.
            latched: the supervisor was latched before: then the rollout may have ended by now.
        """
        return self._order(service, "abort", {"reason": reason, "actor": actor, "latched": latched})

    def pause(self, service: str, reason: str, actor: str) -> Event:
        """Ask the reconciler to stop where it is; guards go on."""
        return self._order(service, "pause", {"reason": reason, "actor": actor})

    def resume(self, service: str, reason: str, actor: str, advance: bool = False) -> Event:
        """Ask the reconciler to go on; with `advance` without the evidence that this part waits for."""
        return self._order(service, "resume", {"reason": reason, "actor": actor, "advance": advance})

    def rollback(self, service: str, reason: str, actor: str, version: str | None = None) -> Event:
        """Ask the reconciler to return to a version that had settled; None: the release before the live one."""
        return self._order(service, "rollback", {"reason": reason, "actor": actor, "version": version})

    def _order(self, service: str, kind: str, body: dict[str, Any]) -> Event:
        path = f"/v1/rollouts/{quote(service, safe='')}/{kind}"
        return msgspec.convert(self._call("POST", path, json=body), Event)

    def _pages(self, after: int, types: Collection[str] | None) -> Iterator[Event]:
        while True:
            query = {"after": str(after), "types": ",".join(types or ())}
            page = msgspec.convert(self._call("GET", "/v1/events", params=query)["events"], list[Event])
            yield from page
            if not page:
                return
            after = page[-1].id

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            reply = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"the control API does not answer ({type(error).__name__})", "run `interlock doctor`"
            ) from error
        if reply.is_success:
            return reply.json()
        try:
            body = reply.json()["error"]
            raise _KINDS[body["kind"]](body["message"], body["remedy"])
        except (ValueError, KeyError, TypeError) as error:
            raise UnreachableError(f"the control API answered {reply.status_code}", "see run/control.log") from error


def _alive(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        return url if httpx.get(f"{url}/healthz", timeout=2.0).is_success else None
    except httpx.HTTPError:
        return None


class _InProcess(httpx.BaseTransport):
    """Carries requests to an ASGI app on a thread of its own, so that callers may have a loop running."""

    def __init__(self, app: Any) -> None:
        self._transport = httpx.ASGITransport(app=app)
        self._thread = ThreadPoolExecutor(1)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Run the app once."""
        return self._thread.submit(asyncio.run, self._answer(request)).result()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        reply = await self._transport.handle_async_request(
            httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
        )
        body = await reply.aread()
        return httpx.Response(reply.status_code, headers=reply.headers, content=body, request=request)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
