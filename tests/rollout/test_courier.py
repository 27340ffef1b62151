"""How notices are carried: in order, at least once, with pauses; no network."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollout.standing import record, rollout

from interlock.apps.control.courier import Courier, Desk
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import InterlockError, UnreachableError
from interlock.base.ids import SeededIds
from interlock.rollout import notices
from interlock.rollout.notices import DELIVERED, FAILED, Endpoint
from interlock.rollout.options import NotifyOptions
from interlock.rollout.states import State
from interlock.trust.event import Event, NewEvent
from interlock.trust.memory import MemoryEventStore

KEY = b"k" * 32
TO = notices.endpoint("https://hooks.example.org/x?token=secret")


class Street:
    """A store with a rollout's history, and endpoints that answer as they are told to."""

    def __init__(self, **options: Any) -> None:
        self.store, self.clock = MemoryEventStore(), ManualClock()
        self.answers: list[int | InterlockError] = []
        self.sent: list[tuple[Mapping[str, str], dict[str, Any]]] = []
        self.taken: list[str] = []
        self.options = NotifyOptions(**options)
        self.keys: tuple[bytes, ...] = (KEY,)

    def post(self, to: Endpoint, headers: Mapping[str, str], content: bytes) -> int:
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, InterlockError):
            raise answer
        self.sent.append((headers, json.loads(content)))
        if answer == 200:
            self.taken.append(self.told[-1])
        return answer

    def courier(self, holder: str = "one", store: Any = None, to: Endpoint = TO) -> Courier:
        desk = Desk(store or self.store, self.clock, SeededIds(1), self.post, self.secrets, self.options, holder)
        return Courier(to, notices.selected(self.options.events), desk)

    def happens(self, kind: str, **body: Any) -> Event:
        return self.store.append(
            NewEvent(
                time_ns=self.clock.now_ns(),
                type=kind,
                actor="controller",
                origin="t",
                object="service/fraud",
                outcome="success",
                body={"service": "fraud", **body},
            )
        )

    def run(self, courier: Courier, seconds: float = 5.0) -> None:
        """Turn it for so long."""
        end = self.clock.monotonic_ns() + seconds * NS_PER_S
        while self.clock.monotonic_ns() < end:
            self.clock.advance(max(courier.turn(), 0.001))

    def secrets(self) -> tuple[bytes, ...]:
        if not self.keys:
            raise UnreachableError("the secret of notices cannot be read", "see notify.secret")
        return self.keys

    @property
    def told(self) -> list[str]:
        return [content["data"]["reason"] for _, content in self.sent]

    def recorded(self, kind: str) -> list[dict[str, Any]]:
        return [event.body for event in self.store.after(0, (kind,)) if not event.body.get("begins")]


def test_what_happens_is_told_in_order_and_recorded() -> None:
    street = Street()
    courier = street.courier()
    street.run(courier)
    events = [street.happens("rollout.held", reason=f"r{n}") for n in range(5)]
    street.run(courier)
    assert street.told == ["r0", "r1", "r2", "r3", "r4"]
    assert [body["event"] for body in street.recorded(DELIVERED)] == [str(event.id) for event in events]


def test_an_endpoint_that_was_never_told_anything_begins_now() -> None:
    street = Street()
    record(street.store, rollout("v1", State.SETTLED))
    street.happens("rollout.settled", reason="old")
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="new")
    street.run(courier)
    assert street.told == ["new"]


def test_only_the_chosen_types_are_told() -> None:
    street = Street(events=("rollout.rolled_back",))
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="no")
    street.happens("rollout.rolled_back", reason="yes")
    street.run(courier)
    assert street.told == ["yes"]


@pytest.mark.parametrize("answer", [500, 404, 302, 429, UnreachableError("no", "wait")], ids=str)
def test_a_failure_is_tried_again_before_anything_later_is_told(answer: int | InterlockError) -> None:
    street = Street()
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="first")
    street.happens("rollout.settled", reason="second")
    street.answers = [answer, answer]
    street.run(courier, 30)
    assert street.told[-2:] == ["first", "second"]
    assert [body["attempts"] for body in street.recorded(DELIVERED)] == [3, 1]
    assert len({headers["webhook-id"] for headers, _ in street.sent}) == 2


def test_it_gives_up_when_the_event_is_old_and_goes_on_with_the_next() -> None:
    street = Street(give_up_h=1.0)
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="lost")
    street.answers = [500] * 1000
    street.run(courier, 3600 + 700)
    (failed,) = street.recorded(FAILED)
    assert failed["reason"] == "the endpoint answered 500"
    street.answers = []
    street.happens("rollout.settled", reason="kept")
    street.run(courier, 700)
    assert street.told[-1] == "kept"
    assert [body["type"] for body in street.recorded(DELIVERED)] == ["rollout.settled"]


def test_after_a_long_outage_of_ours_everything_is_tried_once() -> None:
    street = Street(give_up_h=1.0)
    street.run(street.courier())
    street.happens("rollout.held", reason="late")
    street.clock.advance(7200)
    street.run(street.courier())
    assert street.told == ["late"]


def test_gone_ends_an_endpoint_until_the_process_starts_again() -> None:
    street = Street()
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="a")
    street.answers = [410]
    street.run(courier)
    street.happens("rollout.settled", reason="b")
    street.run(courier, 60)
    assert courier.gone
    assert street.told == ["a"]
    assert street.recorded(FAILED)[0]["reason"] == "the endpoint is gone (410)"
    street.run(street.courier())
    assert street.told == ["a", "b"]


class Killed(BaseException):
    """The process dies."""


class Dying:
    """A store that kills whoever records a delivery, or is away for it."""

    def __init__(self, store: MemoryEventStore, error: BaseException) -> None:
        self._store, self.error = store, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, event: NewEvent) -> Event:
        if event.type == DELIVERED and not event.body.get("begins") and self.error is not None:
            raise self.error
        return self._store.append(event)


def test_killed_between_sending_and_recording_it_sends_again_under_the_same_id() -> None:
    street = Street()
    street.run(street.courier())
    street.happens("rollout.held", reason="a")
    street.happens("rollout.settled", reason="b")
    with pytest.raises(Killed):
        street.run(street.courier(store=Dying(street.store, Killed())))
    street.run(street.courier())
    assert street.told == ["a", "a", "b"]
    ids = [headers["webhook-id"] for headers, _ in street.sent]
    assert ids[0] == ids[1] != ids[2]
    assert street.sent[0][1] == street.sent[1][1]


class Fated:
    """A store that follows a script: what becomes of each recording of a delivery."""

    def __init__(self, store: MemoryEventStore) -> None:
        self._store, self.fate = store, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, event: NewEvent) -> Event:
        fate, self.fate = self.fate, ""
        if event.type == DELIVERED and fate == "kill":
            raise Killed
        if event.type == DELIVERED and fate == "away":
            raise UnreachableError("away", "wait")
        taken = self._store.append(event)
        if event.type == DELIVERED and fate == "kill-after":
            raise Killed
        return taken


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["500", "none", "kill", "kill-after", "away", "restart", "ok"]), max_size=14))
def test_whatever_fails_everything_is_told_in_order_and_recorded_once(fates: list[str]) -> None:
    street = Street(first_retry_s=1.0, longest_retry_s=1.0)
    store, script = Fated(street.store), list(fates)
    street.run(street.courier())
    events = [street.happens("rollout.held", reason=f"r{n}") for n in range(4)]
    courier = street.courier(store=store)
    for _ in range(200):
        fate = script.pop(0) if script else "ok"
        failed: dict[str, int | InterlockError] = {"500": 500, "none": UnreachableError("no", "wait")}
        street.answers = [failed.get(fate, 200)]
        store.fate = fate
        try:
            street.clock.advance(courier.turn() + 0.001)
        except Killed:
            courier = street.courier(store=store)
        if fate == "restart":
            courier = street.courier(store=store)
    taken = [reason for reason, _ in itertools.groupby(street.taken)]
    assert taken == ["r0", "r1", "r2", "r3"]
    assert [body["event"] for body in street.recorded(DELIVERED)] == [str(event.id) for event in events]


def test_a_store_that_is_away_makes_no_second_sending() -> None:
    street = Street()
    store = Dying(street.store, UnreachableError("away", "wait"))
    courier = street.courier(store=store)
    street.run(courier)
    street.happens("rollout.held", reason="a")
    street.run(courier)
    assert street.told == ["a"]
    store.error = None  # type: ignore[assignment]
    street.run(courier)
    assert street.told == ["a"]
    assert len(street.recorded(DELIVERED)) == 1


def test_of_two_processes_one_sends_and_the_other_goes_on_after_it() -> None:
    street = Street()
    one, two = street.courier("one"), street.courier("two")
    for courier in (one, two, one, two):
        courier.turn()
    for n in range(4):
        street.happens("rollout.held", reason=f"r{n}")
        for courier in (one, two, one, two, one, two):
            courier.turn()
    street.clock.advance(61)
    street.happens("rollout.held", reason="r4")
    street.run(two)
    street.clock.advance(61)
    street.run(one)
    assert street.told == ["r0", "r1", "r2", "r3", "r4"]


def test_each_endpoint_has_a_place_of_its_own_in_the_queue() -> None:
    street = Street()
    first, second = street.courier(), street.courier(to=notices.endpoint("https://other.example.org/"))
    street.run(first)
    street.run(second)
    street.happens("rollout.held", reason="a")
    street.run(first)
    street.run(street.courier(to=notices.endpoint("https://other.example.org/")))
    assert street.told == ["a", "a"]


def test_between_two_attempts_it_waits_also_when_it_is_turned_sooner() -> None:
    street = Street(first_retry_s=10.0)
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="a")
    street.answers = [500]
    for _ in range(40):
        courier.turn()
    assert street.told == ["a"]
    street.clock.advance(10.0)
    courier.turn()
    assert street.told == ["a", "a"]


def test_without_a_secret_nothing_is_sent_until_there_is_one() -> None:
    street = Street()
    courier = street.courier()
    street.run(courier)
    street.keys = ()
    street.happens("rollout.held", reason="a")
    street.run(courier)
    assert street.sent == []
    street.keys = (KEY,)
    street.run(courier)
    assert street.told == ["a"]


def test_an_endpoints_address_stands_in_no_event() -> None:
    street = Street()
    courier = street.courier()
    street.run(courier)
    street.happens("rollout.held", reason="a")
    street.run(courier)
    assert not [event for event in street.store.after(0) if "token=secret" in str(event)]
