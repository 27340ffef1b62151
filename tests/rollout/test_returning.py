"""Pauses, resumptions and returns, asked for as events and carried out by a real controller in the simulated world."""

from __future__ import annotations

from typing import Any

import pytest
from tests.rollout.test_world import rollouts, settled
from tests.world import Behaviour, Crash, Killer, World

from interlock.rollout.states import State
from interlock.trust.event import NewEvent


def ask(world: World, what: str, **body: Any) -> None:
    world.store.append(
        NewEvent(
            time_ns=world.clock.now_ns(),
            type=f"rollout.{what}.requested",
            actor="ada",
            origin="test",
            object="service/fraud",
            outcome="success",
            body={"service": "fraud", "reason": "because", **body},
        )
    )


def two_settled() -> World:
    world = settled("1.0.0")
    world.release("1.1.0")
    world.finish()
    assert world.serving() == "1.1.0"
    return world


def types(world: World) -> list[str]:
    return [event.type for event in world.store.after(0)]


def test_a_paused_rollout_waits_until_it_is_resumed() -> None:
    world = settled()
    world.release("1.1.0")
    world.run(3)
    ask(world, "pause")
    world.run(60)
    assert rollouts(world)[-1].state is State.HELD
    held = next(event for event in world.store.after(0) if event.type == "rollout.held")
    assert (held.actor, held.body["reason"]) == ("ada", "because")
    ask(world, "resume")
    world.finish()
    assert world.serving() == "1.1.0"
    assert [event.actor for event in world.store.after(0) if event.type == "rollout.resumed"] == ["ada"]


def test_a_return_goes_to_the_version_before_through_git_without_shadow_or_steps() -> None:
    world = two_settled()
    world.scorers.shares.clear()
    ask(world, "rollback")
    world.run(2)
    world.finish()
    assert world.serving() == "1.0.0"
    last = rollouts(world)[-1]
    assert (last.state, last.plan is not None and last.plan.strategy) == (State.SETTLED, "rollback")
    # It never stood at a share in between, and took seconds.
    assert set(world.scorers.shares) <= {0.0, 1.0}
    assert (last.ended_ns - last.started_ns) / 1e9 <= 5
    head = world.git.tree(world.git.head())
    assert b'"1.0.0"' in head["environments/production/services/fraud/release.yaml"]
    assert not world.controller._known.returns


def test_the_version_that_was_left_is_in_quarantine() -> None:
    world = two_settled()
    newer = world.git.tree(world.git.head())
    ask(world, "rollback")
    world.run(2)
    world.finish()
    world.git.push(dict(newer))
    world.run(10)
    assert world.serving() == "1.0.0"
    assert "quarantine" in [e for e in world.store.after(0) if e.type == "release.refused"][-1].body["reason"]


def test_a_return_names_its_version_and_one_beyond_the_horizon_is_refused_with_what_is_within() -> None:
    world = two_settled()
    for version in ("1.2.0", "1.3.0"):
        world.release(version)
        world.finish()
    ask(world, "rollback", version="1.0.0")
    world.run(5)
    refused = [event for event in world.store.after(0) if event.type == "release.refused"][-1]
    assert "1.2.0, 1.1.0" in refused.body["reason"]
    assert world.serving() == "1.3.0"
    ask(world, "rollback", version="1.1.0")
    world.run(2)
    world.finish()
    assert world.serving() == "1.1.0"


def test_a_return_while_a_rollout_is_under_way_ends_that_and_nothing_more() -> None:
    world = two_settled()
    world.release("1.2.0")
    world.run(4)
    ask(world, "rollback")
    world.finish()
    world.run(10)
    assert rollouts(world)[-1].version == "1.2.0"
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    assert world.serving() == "1.1.0"


def test_a_return_beyond_the_champion_ends_the_rollout_first() -> None:
    world = two_settled()
    world.release("1.2.0")
    world.run(4)
    ask(world, "rollback", version="1.0.0")
    world.finish()
    world.run(5)
    world.finish()
    assert world.serving() == "1.0.0"


def test_a_return_asked_for_while_git_is_down_happens_when_it_is_back() -> None:
    world = two_settled()
    world.git.down = True
    ask(world, "rollback")
    world.run(10)
    assert world.serving() == "1.1.0"
    world.restart()
    world.run(5)
    world.git.down = False
    world.run(5)
    world.finish()
    assert world.serving() == "1.0.0"
    assert types(world).count("release.reverted") == 1


def test_a_hand_made_revert_of_a_settled_release_is_a_return_too() -> None:
    world = two_settled()
    first = world.git.commits[0][1]
    world.git.push(dict(first))
    world.run(2)
    world.finish()
    assert world.serving() == "1.0.0"
    assert rollouts(world)[-1].plan.strategy == "rollback"


def test_a_return_without_the_old_admission_is_refused() -> None:
    world = two_settled()
    old = rollouts(world)[0].candidate
    world.scorers.admitted.remove((old.bundle, old.folder))
    ask(world, "rollback")
    world.run(5)
    assert rollouts(world)[-1].state is State.REFUSED
    assert world.serving() == "1.1.0"


def test_a_rolled_back_release_comes_back_only_under_new_statements() -> None:
    world = settled()
    _, folder = world.release("1.1.0", Behaviour(flag_rate=0.4))
    place = f"approvals/{folder.removeprefix('sha256:')}/ada.technical"
    world.git.push({f"{place}.json": b"first statement", f"{place}.sig": b"its signature"})
    world.finish()
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    tree = {name: data for name, data in world.git.commits[1][1].items() if name.startswith("environments/")}
    # One signature can be written in many ways, and a statement signed again by whoever signed it once.
    world.git.push({**tree, f"{place}.sig": b"its signature\n"})
    world.run(10)
    assert len(rollouts(world)) == 2
    copy = place.replace("ada", "bob")
    world.git.push({f"{copy}.json": b"first statement", f"{copy}.sig": b"x", f"{place}.json": None})
    world.run(10)
    assert len(rollouts(world)) == 2
    world.scorers.behaviours[rollouts(world)[-1].candidate.bundle] = Behaviour()
    world.git.push({f"{place}.json": b"second statement", f"{copy}.json": None})
    world.run(2)
    world.finish()
    assert world.serving() == "1.1.0"


@pytest.mark.parametrize("at", range(1, 40, 3))
def test_a_return_survives_a_controller_killed_anywhere(at: int) -> None:
    world = two_settled()
    ask(world, "rollback")
    world.restart(Killer(at))
    try:
        world.run(3)
        world.finish()
    except Crash:
        world.restart()
        world.run(3)
        world.finish()
    assert world.serving() == "1.0.0"
    assert len([each for each in rollouts(world) if each.plan and each.plan.strategy == "rollback"]) == 1
