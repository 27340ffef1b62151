"""The control API, in process, on a real database."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.rollout.standing import record, rollout

from interlock import settings
from interlock.apps.control.api import create
from interlock.apps.control.client import ControlClient
from interlock.base.clock import ManualClock
from interlock.base.errors import UnreachableError, UsageError
from interlock.rollout.states import State
from interlock.trust.event import NewEvent
from interlock.trust.memory import MemoryEventStore
from interlock.wiring import control

EVENT = NewEvent(
    time_ns=1, type="model.registered", actor="ada", origin="test", object="model/x", outcome="success", body={"a": 1}
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[ControlClient]:
    with ControlClient.open(settings.load(tmp_path, {})) as opened:
        yield opened


def test_an_appended_event_is_stored_with_the_servers_time(client: ControlClient) -> None:
    stored = client.append(EVENT)
    assert stored.time_ns > 1_700_000_000 * 10**9
    assert client.events(types=["model.registered"]) == [stored]
    assert client.events(after=stored.id) == []


def test_it_works_inside_a_running_event_loop(client: ControlClient) -> None:
    async def inside() -> int:
        return client.append(EVENT).id

    assert asyncio.run(inside()) == 1


def test_an_unknown_rollout_or_type_is_a_usage_error_with_a_remedy(client: ControlClient) -> None:
    with pytest.raises(UsageError, match="0 rollouts"):
        client.rollout("x")
    with pytest.raises(UsageError, match="unknown event type"):
        client.events(types=["nothing.happened"])


def under_way(home: Path) -> None:
    record(control.event_store(settings.load(home, {})), rollout("v1", State.SETTLED), rollout("v2", State.HELD))


def test_an_order_is_an_event_with_actor_and_reason(client: ControlClient, tmp_path: Path) -> None:
    under_way(tmp_path)
    events = [
        client.pause("fraud", "lunch", "ada"),
        client.resume("fraud", "back", "ada", advance=True),
        client.rollback("fraud", "complaints", "ada", "v1"),
        client.abort("fraud", "complaints", "ada"),
    ]
    why = {"service": "fraud", "reason": "complaints"}
    assert [(event.type, event.body) for event in events] == [
        ("rollout.pause.requested", {"service": "fraud", "reason": "lunch"}),
        ("rollout.resume.requested", {"service": "fraud", "reason": "back", "advance": True}),
        ("rollout.rollback.requested", {**why, "version": "v1"}),
        ("rollout.abort.requested", why),
    ]
    assert {event.actor for event in events} == {"ada"}


def test_an_unknown_service_is_a_usage_error_also_when_its_name_is_no_path(client: ControlClient) -> None:
    for name in ("nothing", "a/b", "../x", "%2e"):
        with pytest.raises((UsageError, UnreachableError)):
            client.pause(name, "why", "ada")


def test_the_token_is_the_owners_alone(client: ControlClient, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "run" / "control.token").stat().st_mode) == 0o600


def call(method: str, path: str, token: str = "secret", **arguments: object) -> httpx.Response:  # noqa: S107
    async def inside() -> httpx.Response:
        app = create(MemoryEventStore(), token, ManualClock())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://c") as http:
            return await http.request(method, path, **arguments)  # type: ignore[arg-type]

    return asyncio.run(inside())


OWNER = {"authorization": "Bearer secret"}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/rollouts", "/v1/rollouts/x"])
def test_without_the_token_nothing_is_told(path: str) -> None:
    assert call("GET", path).status_code == 401
    assert call("GET", path, headers={"authorization": "Bearer other"}).status_code == 401
    # A token's file that a full disk left empty lets nobody in.
    assert call("GET", path, token="").status_code == 401
    assert call("GET", "/healthz").json() == {"status": "alive"}


@pytest.mark.parametrize(
    "kind", ["rollout.step.intended", "rollout.abort.requested", "release.quarantined", "segment.sealed"]
)
def test_not_even_the_operator_writes_what_controllers_go_by(kind: str) -> None:
    event = {"type": kind, "actor": "ada", "origin": "x", "object": "x", "outcome": "success", "body": {}}
    assert call("POST", "/v1/events", headers=OWNER, content=json.dumps(event).encode()).status_code == 403


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"type": "no.such"}', b'{"type": 1}', b'{"type": []}', b'{"x": 1}', b" " * 300_000]
)
def test_a_malformed_event_is_refused_with_the_remedy(body: bytes) -> None:
    reply = call("POST", "/v1/events", headers=OWNER, content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["remedy"]
