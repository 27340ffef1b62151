"""Standing shadows beside a settled champion: they come when it is alone, rest in a rollout, and cost it nothing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.world import SERVICE, Behaviour, World, digest

from interlock.decision.counts import ShadowCounts, parse_key
from interlock.rollout import journal
from interlock.rollout.states import State

Row = dict[str, str]
BAD = Behaviour(error_rate=0.5)


def release(world: World, version: str, behaviour: Behaviour | None = None, **more: Any) -> str:
    """Push a quick release; its folder."""
    policy = {"steps": "{shadow: 1s}, {weight: 50, for: 1s}", "watch": 1}
    if behaviour is not None:
        policy["steps"] = "{weight: 50, for: 30s}"
    return world.release(version, behaviour, **{**policy, **more})[1]


def row(version: str, folder: str) -> Row:
    return {"version": version, "bundle": digest(f"bundle {version}"), "folder": folder}


def beside(world: World) -> list[tuple[str, str]]:
    return [(arm.name, arm.version) for arm in world.table.shadows]


def with_old_champion() -> tuple[World, Row]:
    """1.0.0 has settled, then 1.1.0, which keeps it as its shadow."""
    world = World(1)
    old = row("1.0.0", release(world, "1.0.0"))
    world.finish()
    release(world, "1.1.0", shadows=[old])
    world.finish()
    return world, old


def unloaded(world: World) -> set[str]:
    """Bundles that a rollout ever meant to unload."""
    entries = [journal.parse(event).rollout for event in world.store.after(0, journal.ENTRIES)]
    return {effect.bundle for each in entries for effect in each.pending if effect.kind == "unload"}


def pairs(world: World, name: str) -> int:
    found = [(parse_key(key)[2], each) for worker in world.scorers.workers for key, each in worker.shadows.items()]
    return sum(each.pairs for arm, each in found if arm == name and isinstance(each, ShadowCounts))


def test_a_former_champion_stays_as_a_shadow_of_its_successor_and_is_counted_under_its_own_name() -> None:
    world, old = with_old_champion()
    assert (world.serving(), beside(world), world.table.settled) == ("1.1.0", [("shadow-1", "1.0.0")], True)
    assert old["bundle"] in world.scorers.loaded
    assert old["bundle"] not in unloaded(world), "it was taken out of memory in between"
    before = dict(world.scorers.answered)
    world.run(5)
    assert pairs(world, "shadow-1") > 0
    assert world.scorers.answered[old["bundle"]] == before[old["bundle"]]
    world.settled()


def test_shadows_rest_during_a_rollout_and_leave_when_the_next_release_names_none() -> None:
    world, _ = with_old_champion()
    release(world, "1.2.0")
    while world.serving() != "1.2.0":
        world.turn()
        names = [name for name, _ in beside(world)]
        assert not any(name.startswith("shadow") for name in names) or world.serving() == "1.1.0"
        assert world.table.settled or set(names) <= {"candidate"}
    world.finish()
    assert beside(world) == []
    world.settled()


def test_going_back_does_not_wait_for_shadows_and_brings_them_back_at_its_end() -> None:
    world, _ = with_old_champion()
    release(world, "1.2.0", BAD)
    world.until(State.CANARY)
    world.delay_s = 3.0
    world.until(State.ROLLING_BACK)
    world.turn()
    pending = [effect.kind for effect in world.rollouts()[-1].pending]
    assert (world.serving(), beside(world), "stand" in pending) == ("1.1.0", [], True)
    world.finish()
    assert (world.serving(), beside(world)) == ("1.1.0", [("shadow-1", "1.0.0")])
    world.settled()


def test_a_shadow_that_cannot_be_loaded_is_left_out_and_the_release_settles_without_it() -> None:
    world = World(2)
    folders = {version: world_release(world, version) for version in ("1.0.0", "1.1.0")}
    world.scorers.behaviours[digest("bundle 1.0.0")] = Behaviour(loads=False)
    release(world, "1.2.0", shadows=[row(version, folder) for version, folder in folders.items()])
    world.finish()
    assert (world.serving(), beside(world)) == ("1.2.0", [("shadow-1", "1.1.0")])
    assert world.rollouts()[-1].state is State.SETTLED
    release(world, "1.3.0", shadows=[row("1.0.0", folders["1.0.0"])])
    world.finish()
    assert (world.serving(), beside(world), world.scorers.latch) == ("1.3.0", [], None)


def world_release(world: World, version: str) -> str:
    folder = release(world, version)
    world.finish()
    return folder


@pytest.mark.parametrize("shadow", ["unadmitted", "quarantined"])
def test_a_shadow_without_a_standing_admission_refuses_the_release(shadow: str) -> None:
    world = World(3)
    world_release(world, "1.0.0")
    folder = digest("another folder")
    if shadow == "quarantined":
        folder = release(world, "1.1.0", BAD)
        world.finish()
    release(world, "1.2.0", shadows=[row("1.1.0", folder)])
    world.finish()
    assert world.rollouts()[-1].state is State.REFUSED
    assert ("quarantine" if shadow == "quarantined" else "no admission") in world.rollouts()[-1].reason
    assert (world.serving(), beside(world)) == ("1.0.0", [])


def test_a_retreat_of_a_settled_service_leaves_its_shadows_out() -> None:
    world, _ = with_old_champion()
    world.scorers.retreat(SERVICE, "by hand", "the machine is busy", "ada", world.clock.now_ns())
    world.run(3)
    assert (world.serving(), beside(world), world.scorers.latch) == ("1.1.0", [], None)


def test_a_shadow_that_was_taken_back_when_it_returned_is_no_shadow_again() -> None:
    world, old = with_old_champion()
    world.scorers.behaviours[old["bundle"]] = Behaviour(error_rate=0.5)
    world.ask("rollback", version="1.0.0")
    world.until(State.WATCHING)
    world.ask("abort")
    world.finish()
    assert world.rollouts()[-1].state is State.ROLLED_BACK
    assert (world.serving(), beside(world)) == ("1.1.0", [])
    assert old["bundle"] not in world.scorers.loaded
    world.settled()


def test_a_challenger_that_was_a_shadow_before_it_went_bad_as_a_release_is_one_again() -> None:
    world, old = with_old_champion()
    release(world, "1.0.1", BAD, bundle=old["bundle"])
    world.finish()
    assert world.rollouts()[-1].state is State.ROLLED_BACK
    assert (world.serving(), beside(world)) == ("1.1.0", [("shadow-1", "1.0.0")])
    assert old["bundle"] not in unloaded(world)


def test_no_guard_looks_at_a_standing_shadow() -> None:
    world, old = with_old_champion()
    world.scorers.behaviours[old["bundle"]] = Behaviour(flag_rate=0.9, error_rate=0.5, miss_rate=0.5)
    world.run(20)
    assert beside(world) == [("shadow-1", "1.0.0")]
    assert pairs(world, "shadow-1") > 0
    release(world, "1.2.0")
    world.finish()
    assert world.serving() == "1.2.0"


def test_a_controller_that_is_killed_while_shadows_come_back_brings_them_back() -> None:
    world = World(4)
    old = row("1.0.0", world_release(world, "1.0.0"))
    release(world, "1.1.0", shadows=[old])
    world.delay_s = 2.0
    world.until(State.WATCHING)
    while world.rollouts()[-1].state is not State.SETTLED:
        world.turn()
    assert any(effect.kind == "stand" for effect in world.rollouts()[-1].pending)
    world.restart()
    world.delay_s = 0.0
    world.finish()
    assert (world.serving(), beside(world)) == ("1.1.0", [("shadow-1", "1.0.0")])
    world.settled()
