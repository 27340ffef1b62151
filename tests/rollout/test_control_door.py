"""The control API's door: every route asks one action of the table, and denials are events."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import doorkeeper
from tests.rollout.standing import admitted, record, rollout

from interlock.adapters.oidc.verifier import Verifier
from interlock.apps.control.api import APPENDABLE, ROUTES, Row, create
from interlock.apps.control.door import TELL_S, Denials, Door
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.rollout.plan import Plan
from interlock.rollout.states import State
from interlock.trust.event import TYPES
from interlock.trust.grants import ACTIONS, ROLES
from interlock.trust.memory import MemoryEventStore

BODIES: dict[str, dict[str, Any]] = {
    "append": {
        "type": "model.registered",
        "actor": "x",
        "origin": "t",
        "object": "m",
        "outcome": "success",
        "body": {},
    },
    "rollback": {"actor": "x", "reason": "why", "version": "v1"},
    "resume": {"actor": "x", "reason": "why", "advance": True},
    "abort": {"actor": "x", "reason": "why"},
    "pause": {"actor": "x", "reason": "why"},
}
ROLE_KEYS = {role: number for number, role in enumerate(sorted(ROLES), start=1)}


class House:
    """A store with a rollout under way, an access file, and the app on both."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.store, self.clock = MemoryEventStore(), ManualClock(doorkeeper.NOW_NS)
        record(self.store, rollout("v1", State.SETTLED), rollout("v2", State.CANARY))
        self.path = folder / "access.yaml"
        self.path.write_bytes(doorkeeper.access_file(**sections))
        door = Door("local", self.store, self.clock, self.path, self._tokens)
        self.app = create(self.store, "local", self.clock, None, door)

    def _tokens(self, issuers: Any, before: Any) -> Any:
        return Verifier(issuers, self.path.parent, before) if issuers else None

    def call(self, row: Row, credential: str, service: str = "fraud", **body: Any) -> httpx.Response:
        async def inside() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://c") as http:
                path = row.path.format(service=service, id="fraud-v2")
                content = {**BODIES.get(row.handler, {}), **body}
                headers = {"authorization": f"Bearer {credential}"} if credential else {}
                return await http.request(row.method, path, json=content or None, headers=headers)

        return asyncio.run(inside())

    def events(self, kind: str) -> list[Any]:
        return self.store.after(0, (kind,))


def row(handler: str) -> Row:
    return next(each for each in ROUTES if each.handler == handler)


@pytest.fixture(scope="module")
def everybody(tmp_path_factory: pytest.TempPathFactory) -> House:
    keys = [doorkeeper.key_entry(number, roles=[role], services="all", name=role) for role, number in ROLE_KEYS.items()]
    return House(tmp_path_factory.mktemp("trust"), keys=keys)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_route_lets_a_role_in_exactly_when_the_table_says_so(everybody: House, role: str) -> None:
    credential = doorkeeper.key(ROLE_KEYS[role]).text
    allowed = {each.handler: everybody.call(each, credential).status_code != 403 for each in ROUTES}
    assert allowed == {each.handler: each.action in ROLES[role] for each in ROUTES}


def test_every_route_asks_for_an_action_that_the_table_knows() -> None:
    assert {each.action for each in ROUTES} <= set(ACTIONS)
    assert {"rollout.pause", "rollout.resume", "rollout.rollback", "rollout.abort"} <= ROLES["operate"]


@pytest.mark.parametrize("each", ROUTES, ids=lambda each: f"{each.method}-{each.handler}")
def test_nobody_and_a_wrong_credential_are_401_on_every_route(tmp_path: Path, each: Row) -> None:
    house = House(tmp_path, anonymous={"roles": ["operate"], "services": "all"})
    before = len(house.store.after(0))
    assert house.call(each, "").status_code == 401
    assert house.call(each, "other").status_code == 401
    assert house.call(each, doorkeeper.key(9).text).status_code == 401
    assert {event.type for event in house.store.after(before)} == {"access.denied"}


def test_a_key_acts_under_its_own_name_whatever_it_says(tmp_path: Path) -> None:
    house = House(tmp_path, keys=[doorkeeper.key_entry(1, roles=["operate"], name="night-shift")])
    assert house.call(row("pause"), doorkeeper.key(1).text, actor="somebody else").status_code == 202
    assert house.events("rollout.pause.requested")[0].actor == "night-shift"


def test_an_issuers_token_acts_under_its_subject(tmp_path: Path) -> None:
    house = House(tmp_path, oidc=[doorkeeper.issuer_entry(jwksFile="keys.json")])
    issuer = doorkeeper.Idp("ES256")
    (tmp_path / "keys.json").write_bytes(issuer.key_set())
    reply = house.call(row("abort"), issuer.sign(doorkeeper.claims(groups=["ops"])))
    assert reply.status_code == 202, reply.text
    assert house.events("rollout.abort.requested")[0].actor == "tess@login.example.org/realms/shop"
    assert house.call(row("abort"), issuer.sign(doorkeeper.claims(groups=["tellers"]))).status_code == 403


def test_a_service_that_is_not_granted_is_refused_and_not_shown(tmp_path: Path) -> None:
    house = House(tmp_path, keys=[doorkeeper.key_entry(1, roles=["operate"], services=["other"])])
    credential = doorkeeper.key(1).text
    for handler in ("abort", "pause", "resume", "rollback", "rollout", "list_events"):
        assert house.call(row(handler), credential).status_code == 403, handler
    assert house.call(row("rollouts"), credential).json() == {"rollouts": []}
    assert not [event for event in house.store.after(0) if event.type.endswith(".requested")]


def test_appending_covers_no_event_that_has_an_action_of_its_own(tmp_path: Path) -> None:
    house = House(tmp_path, keys=[doorkeeper.key_entry(1, roles=["train"], services="all", name="trainer")])
    credential = doorkeeper.key(1).text
    for kind in TYPES:
        status = house.call(row("append"), credential, type=kind, actor="ada").status_code
        assert status == (201 if kind in APPENDABLE else 403), kind
    assert {event.actor for event in house.events("model.registered")} == {"trainer"}


def test_the_local_operator_says_who_acts(tmp_path: Path) -> None:
    house = House(tmp_path)
    assert house.call(row("pause"), "local", actor="ada").status_code == 202
    assert house.events("rollout.pause.requested")[0].actor == "ada"


def test_a_denial_is_an_event_at_once_and_then_counted(tmp_path: Path) -> None:
    house = House(tmp_path, keys=[doorkeeper.key_entry(1, roles=["score"], name="shop")])
    for _ in range(5):
        assert house.call(row("abort"), doorkeeper.key(1).text).status_code == 403
    denied = house.events("access.denied")
    assert [(event.actor, event.body["action"], event.body["count"]) for event in denied] == [
        ("shop", "rollout.abort", 1)
    ]
    house.clock.advance(TELL_S)
    house.call(row("abort"), doorkeeper.key(1).text)
    assert house.events("access.denied")[1].body["count"] == 5


def test_denials_are_bounded_in_kinds_too() -> None:
    denials = Denials()
    told = [each for n in range(500) for each in denials.note((f"p{n}", "a", "", "r"), n)]
    assert len(told) < 100
    assert sum(event.body["count"] for event in told) < 500
    assert sum(event.body["count"] for event in denials.due(10**6 * NS_PER_S)) + len(told) == 500


def test_a_changed_file_holds_at_the_next_request_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, keys=[doorkeeper.key_entry(1, roles=["score"])])
    credential = doorkeeper.key(1).text
    assert house.call(row("pause"), credential).status_code == 403
    house.path.write_bytes(doorkeeper.access_file(keys=[doorkeeper.key_entry(1, roles=["operate"])]))
    assert house.call(row("pause"), credential).status_code == 202
    house.path.write_bytes(b"apiVersion: [")
    assert house.call(row("pause"), credential).status_code == 202
    os.unlink(house.path)
    assert house.call(row("pause"), credential).status_code == 202


def test_an_author_cannot_wave_the_evidence_through_over_the_api(tmp_path: Path) -> None:
    house = House(tmp_path)
    plan = Plan(0, (), 0, 0, 600, {}, advance="evidence")
    held = rollout("v3", State.HELD, hold="inconclusive", plan=plan, started_ns=doorkeeper.NOW_NS)
    record(house.store, rollout("v2", State.SUPERSEDED), held)
    admitted(house.store, held, ["ada", "dev"])
    refused = house.call(row("resume"), "local", actor="ada")
    assert (refused.status_code, refused.json()["error"]["kind"]) == (403, "refused")
    assert house.call(row("resume"), "local", actor="ben").status_code == 202


def test_an_abort_is_recorded_once_and_after_it_went_back_it_is_still_that_one(tmp_path: Path) -> None:
    house = House(tmp_path)
    first = house.call(row("abort"), "local", actor="ada")
    again = house.call(row("abort"), "local", actor="ben")
    assert (first.status_code, again.status_code) == (202, 200)
    record(house.store, rollout("v2", State.ROLLED_BACK))
    assert house.call(row("abort"), "local").json()["id"] == first.json()["id"]
    assert len(house.events("rollout.abort.requested")) == 1


def test_an_abort_that_latched_is_recorded_once_though_the_controller_was_faster(tmp_path: Path) -> None:
    house = House(tmp_path)
    record(house.store, rollout("v2", State.ROLLED_BACK))
    assert house.call(row("abort"), "local").status_code == 409
    assert house.call(row("abort"), "local", latched=True).status_code == 202
    assert house.call(row("abort"), "local", latched=True).status_code == 200
    assert house.call(row("abort"), "local", "nothing", latched=True).status_code == 404


def test_an_unreadable_journal_keeps_nobody_from_an_abort(tmp_path: Path) -> None:
    house = House(tmp_path)
    from interlock.trust.event import NewEvent

    house.store.append(
        NewEvent(
            time_ns=1,
            type="rollout.step.done",
            actor="x",
            origin="x",
            object="service/fraud",
            outcome="success",
            body={},
        )
    )
    assert house.call(row("abort"), "local").status_code == 202
    assert house.call(row("pause"), "local").status_code == 409


@pytest.mark.parametrize(
    ("handler", "service", "body", "status"),
    [
        ("pause", "nothing", {}, 404),
        ("rollback", "fraud", {"version": "v9"}, 404),
        ("resume", "fraud", {"advance": False}, 409),
        ("pause", "fraud", {"reason": ""}, 400),
    ],
    ids=["service", "version", "not-held", "no-reason"],
)
def test_what_cannot_be_carried_out_is_told_with_its_remedy(
    tmp_path: Path, handler: str, service: str, body: dict[str, Any], status: int
) -> None:
    house = House(tmp_path)
    reply = house.call(row(handler), "local", service, **body)
    assert reply.status_code == status, json.dumps(reply.json())
    assert reply.json()["error"]["remedy"]
    assert not [event for event in house.store.after(0) if event.type.endswith(".requested")]
