"""A freeze that begins while a rollout is under way: no larger share until it ends, and going back all the while."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from tests.rollout.test_world import rollouts, settled
from tests.world import Behaviour, World

from interlock.apps.control.calendar import Calendar
from interlock.apps.control.wishes import FREEZE, Wish
from interlock.base.clock import NS_PER_S
from interlock.rollout.plan import Plan, returning
from interlock.rollout.states import State
from interlock.rollout.values import Rollout

HEAD = "apiVersion: interlock.dev/v1alpha1\nkind: FreezeCalendar\nmetadata: {name: production}\nspec:\n"


def freeze(world: World, seconds: int, services: str = "") -> None:
    """Everything for the next seconds."""
    now = world.clock.now_ns() // NS_PER_S
    start, end = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for at in (now, now + seconds))
    row = f'    - {{from: "{start}", until: "{end}", reason: outage{services}}}\n'
    world.git.push({FREEZE: f"{HEAD}  windows:\n{row}".encode()})


def held(world: World) -> None:
    world.run(3)
    last = rollouts(world)[-1]
    assert (last.state, last.hold) == (State.HELD, "frozen")
    assert "releases are frozen: outage, until" in last.reason


def test_a_rollout_under_way_is_held_and_goes_on_when_the_freeze_ends() -> None:
    world = settled()
    world.release("1.1.0")
    world.run(4)
    share = rollouts(world)[-1].share
    freeze(world, 6)
    held(world)
    world.run(1)
    assert rollouts(world)[-1].share == share
    world.finish()
    assert world.serving() == "1.1.0"


def test_a_breach_goes_back_in_the_middle_of_a_freeze() -> None:
    world = settled()
    world.release("1.1.0", Behaviour(flag_rate=0.2))
    world.run(1)
    freeze(world, 3600)
    world.finish()
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    assert world.serving() == "1.0.0"


def calendar_of(data: bytes | None) -> Calendar:
    calendar = Calendar("production")
    governed = {"people.json": b"{}"} if data is None else {FREEZE: data}
    calendar.mind({"fraud": Wish("fraud", "c", "p", (), "f", "k", governed, {})})
    return calendar


ALWAYS = f"{HEAD}  windows:\n    - {{monthly: {{from: 1, until: 31}}, services: [fraud], reason: always}}\n".encode()
FRAUD = Rollout(id="r", service="fraud", commit="c", folder="f", version="1", wish="w", salt="", started_ns=0)


def test_the_newest_calendar_that_was_read_holds_while_nothing_new_is_read() -> None:
    calendar = calendar_of(ALWAYS)
    calendar.mind({})
    assert "releases are frozen: always" in calendar.frozen(FRAUD, NS_PER_S)
    assert calendar.frozen(msgspec.structs.replace(FRAUD, service="loans"), NS_PER_S) == ""
    assert calendar_of(None).frozen(FRAUD, NS_PER_S) == ""


def test_a_return_is_never_frozen() -> None:
    plan = Plan(shadow_s=0, steps=(), holdback=0, watch_s=0, deadline_s=1, guards={})
    calendar = calendar_of(ALWAYS)
    assert calendar.frozen(msgspec.structs.replace(FRAUD, plan=plan), NS_PER_S)
    assert calendar.frozen(msgspec.structs.replace(FRAUD, plan=returning(plan)), NS_PER_S) == ""


@pytest.mark.parametrize("data", [pytest.param(b"nonsense", id="no-calendar"), pytest.param(b"\xff", id="no-text")])
def test_a_calendar_that_cannot_be_read_freezes_everything(data: bytes) -> None:
    assert "cannot be read" in calendar_of(data).frozen(FRAUD, NS_PER_S)


def test_a_freeze_is_not_forgotten_by_a_new_controller_that_cannot_reach_git() -> None:
    world = settled()
    world.release("1.1.0")
    world.run(4)
    freeze(world, 3600)
    held(world)
    world.git.down = True
    world.restart()
    world.run(20)
    last = rollouts(world)[-1]
    assert (last.state, last.hold) == (State.HELD, "frozen")
    world.clock.advance(3600)
    world.git.down = False
    world.finish()
    assert world.serving() == "1.1.0"


def test_nobody_resumes_into_a_larger_share_during_a_freeze() -> None:
    world = settled()
    world.release("1.1.0")
    world.run(4)
    freeze(world, 3600)
    held(world)
    share = rollouts(world)[-1].share
    world.scorers.shares.clear()
    world.ask("resume", advance=True)
    world.run(5)
    world.ask("pause")
    world.ask("resume", advance=True)
    world.run(5)
    assert (rollouts(world)[-1].state, rollouts(world)[-1].share) == (State.HELD, share)
    assert max(world.scorers.shares) <= share / 10_000 + 0.05
