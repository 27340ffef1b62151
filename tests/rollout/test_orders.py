"""What people may order of a rollout, and what is recorded of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollout.standing import DAY_NS, NOW_NS, record, rollout

from interlock.apps.control import orders
from interlock.apps.control.memory import Memory
from interlock.apps.control.orders import NotNowError, Order, Standing, UnknownError
from interlock.base.errors import RefusedError, UsageError
from interlock.privacy import pan
from interlock.rollout.options import RolloutOptions
from interlock.rollout.plan import Plan
from interlock.rollout.states import State
from interlock.rollout.values import Effect, Rollout
from interlock.trust.memory import MemoryEventStore

WHY = {"actor": "ada", "reason": "complaints"}
EVIDENCE = Plan(0, (), 0, 0, 600, {}, advance="evidence")


def order(kind: str, **changes: Any) -> Order:
    return orders.parse(kind, "fraud", {**WHY, **changes})


def under(state: State, **changes: Any) -> Standing:
    return Standing(True, rollout("v2", state, **changes), live="v1", earlier=("v0",))


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("abort", {}),
        ("pause", {}),
        ("resume", {"advance": True}),
        ("rollback", {"version": "v1"}),
        ("rollback", {"version": None}),
    ],
    ids=["abort", "pause", "resume", "rollback", "rollback-before"],
)
def test_an_order_is_one_event_with_exactly_the_body_that_the_reconciler_reads(
    kind: str, extra: dict[str, Any]
) -> None:
    event = orders.event(order(kind, **extra), NOW_NS)
    assert event.body == {"service": "fraud", "reason": "complaints", **extra}
    assert (event.type, event.actor, event.object) == (orders.KINDS[kind], "ada", "service/fraud")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"actor": "ada"},
        {"reason": "x"},
        {"actor": "", "reason": "x"},
        {"actor": "ada", "reason": " \n"},
        {"actor": 1, "reason": "x"},
        {**WHY, "advance": 1},
        {**WHY, "wrong": 1},
    ],
    ids=str,
)
def test_who_and_why_are_mandatory_and_nothing_else_is_taken(body: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        orders.parse("resume", "fraud", body)


def test_whoever_was_identified_is_the_actor_whatever_the_body_says() -> None:
    assert orders.parse("pause", "fraud", WHY, "ops7").actor == "ops7"


@settings(max_examples=40)
@given(st.text(max_size=60), st.integers(0, 500))
def test_a_reason_is_one_printable_line_without_card_numbers(text: str, before: int) -> None:
    found = orders.line("x" * before + text + " 4111 1111 1111 1111", orders.MAX_REASON)
    assert found.isprintable()
    assert len(found) <= orders.MAX_REASON
    assert not pan.find(found)


def test_a_card_number_is_withheld_also_where_the_reason_is_cut() -> None:
    found = orders.line("x" * (orders.MAX_REASON - 14) + " 4111111111111111 and more", orders.MAX_REASON)
    assert "4111" not in found


@pytest.mark.parametrize("kind", ["abort", "pause", "resume"])
def test_without_a_rollout_under_way_there_is_nothing_to_order(kind: str) -> None:
    with pytest.raises(NotNowError, match="under way; it serves v1"):
        orders.check(order(kind), Standing(True, live="v1", earlier=("v0",)))


def test_an_abort_that_has_latched_is_recorded_though_the_rollout_ended_meanwhile() -> None:
    """The controller finds the latch, and may have gone back before the record of who asked for it comes."""
    latched = order("abort", latched=True)
    orders.check(latched, Standing(True, live="v1"))
    assert orders.event(latched, NOW_NS).body == {"service": "fraud", "reason": "complaints"}


def test_an_abort_of_a_settled_service_names_the_command_that_goes_back() -> None:
    with pytest.raises(NotNowError) as caught:
        orders.check(order("abort"), Standing(True, live="v1", earlier=("v0",)))
    assert "interlock rollout rollback fraud" in caught.value.remedy


@pytest.mark.parametrize("kind", sorted(orders.KINDS))
def test_an_unknown_service_is_told_apart(kind: str) -> None:
    with pytest.raises(UnknownError):
        orders.check(order(kind), Standing(False))


@pytest.mark.parametrize("state", list(State), ids=str)
def test_an_abort_passes_in_every_unfinished_state(state: State) -> None:
    orders.check(order("abort"), under(state))


@pytest.mark.parametrize(
    ("state", "changes", "advance", "passes"),
    [
        (State.HELD, {"hold": "person"}, False, True),
        (State.HELD, {"hold": "inconclusive"}, True, True),
        (State.HELD, {"hold": "blocked"}, True, False),
        (State.LOADING, {"asked": "wait"}, False, True),
        (State.CANARY, {}, False, False),
        (State.CANARY, {}, True, True),
        (State.PROMOTING, {}, True, False),
        (State.ROLLING_BACK, {}, True, False),
    ],
    ids=["person", "inconclusive", "blocked", "asked", "running", "advance", "promoting", "back"],
)
def test_a_resumption_needs_something_that_is_held(
    state: State, changes: dict[str, Any], advance: bool, passes: bool
) -> None:
    def ask() -> None:
        orders.check(order("resume", advance=advance), under(state, **changes))

    if passes:
        ask()
    else:
        with pytest.raises(NotNowError):
            ask()


@pytest.mark.parametrize("actor", ["ada", "ADA", "ada@login.example.org"])
def test_an_author_may_not_accept_that_evidence_is_missing(actor: str) -> None:
    held = rollout("v2", State.HELD, hold="inconclusive", plan=EVIDENCE)
    standing = Standing(True, held, ("ada", "ben"), "v1", ())
    with pytest.raises(RefusedError, match="author"):
        orders.check(orders.parse("resume", "fraud", {**WHY, "advance": True}, actor), standing)
    orders.check(orders.parse("resume", "fraud", {**WHY, "advance": True}, "cleo"), standing)
    orders.check(orders.parse("resume", "fraud", WHY, actor), standing)
    timed = Standing(True, rollout("v2", State.HELD, hold="person"), ("ada", "ben"), "v1", ())
    orders.check(orders.parse("resume", "fraud", {**WHY, "advance": True}, actor), timed)


@pytest.mark.parametrize(
    ("version", "problem"),
    [("v0", None), (None, None), ("v1", "already"), ("v9", "not within")],
    ids=["within", "before", "live", "beyond"],
)
def test_a_return_goes_to_what_is_within_the_horizon(version: str | None, problem: str | None) -> None:
    now = Standing(True, live="v1", earlier=("v0", "v00"))
    if problem is None:
        orders.check(order("rollback", version=version), now)
    else:
        with pytest.raises((NotNowError, UnknownError), match=problem) as caught:
            orders.check(order("rollback", version=version), now)
        assert "v0, v00" in caught.value.remedy


def test_a_return_during_a_rollout_may_name_what_still_serves() -> None:
    orders.check(order("rollback", version="v1"), under(State.CANARY))
    orders.check(order("rollback"), under(State.CANARY))


def settled(*versions: Rollout) -> Standing:
    store = MemoryEventStore()
    record(store, *versions)
    return orders.standing(Memory.of(store), "fraud", RolloutOptions(), NOW_NS)


def test_the_horizon_is_three_settled_releases_and_thirty_days_since_they_served() -> None:
    ends = {"v1": 90, "v2": 60, "v3": 31, "v4": 2, "v5": 1}
    found = settled(
        *(
            rollout(name, State.SETTLED, started_ns=NOW_NS - days * DAY_NS, ended_ns=NOW_NS - days * DAY_NS)
            for name, days in ends.items()
        )
    )
    # v3 settled 31 days ago and served until v4 did; v2 was left 31 days ago, and is the fourth besides.
    assert (found.live, found.earlier) == ("v5", ("v4", "v3"))


def test_a_settled_rollout_with_something_left_to_do_is_not_under_way() -> None:
    store = MemoryEventStore()
    record(store, rollout("v1", State.SETTLED, pending=(Effect(1, "unload"),)))
    assert orders.standing(Memory.of(store), "fraud", RolloutOptions(), NOW_NS).under_way is None


def test_what_was_left_too_long_ago_is_out() -> None:
    old = NOW_NS - 40 * DAY_NS
    found = settled(
        rollout("v1", State.SETTLED, started_ns=old, ended_ns=old),
        rollout("v2", State.SETTLED, started_ns=old + DAY_NS, ended_ns=old + DAY_NS),
    )
    assert (found.live, found.earlier) == ("v2", ())
