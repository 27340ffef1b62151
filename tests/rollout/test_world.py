"""Whole rollouts in the simulated world."""

from __future__ import annotations

from tests.world import Behaviour, World

from interlock.apps.views import rollout as view
from interlock.rollout import journal
from interlock.rollout.states import State
from interlock.rollout.values import Rollout


def rollouts(world: World) -> list[Rollout]:
    return list(journal.rollouts(view.read(world.store)).values())


def settled(version: str = "1.0.0", seed: int = 1) -> World:
    world = World(seed)
    world.release(version)
    world.finish()
    assert world.serving() == version
    return world


def test_a_first_release_settles_without_a_champion() -> None:
    world = settled()
    only = rollouts(world)[0]
    assert only.state is State.SETTLED
    assert only.majority_ns
    assert world.table.settled


def test_a_good_candidate_takes_shadow_ten_fifty_and_all_and_the_old_one_is_unloaded() -> None:
    world = settled()
    world.scorers.shares.clear()
    world.release("1.1.0")
    world.finish()
    assert world.serving() == "1.1.0"
    seen = list(dict.fromkeys(world.scorers.shares))
    assert seen[:4] == [0.0, 0.1, 0.5, 0.95]
    last = rollouts(world)[-1]
    assert last.state is State.SETTLED
    assert (last.majority_ns - last.started_ns) / 1e9 <= 10
    assert world.scorers.loaded == {last.candidate.bundle}


def back_on(world: World, version: str, bad_folder: str) -> Rollout:
    """What must hold after any way of going back."""
    last = rollouts(world)[-1]
    assert last.state is State.ROLLED_BACK
    assert world.serving() == version
    assert world.scorers.latch is None
    assert world.table.settled
    assert last.candidate is not None
    assert last.candidate.bundle not in world.scorers.loaded
    head = world.git.head()
    assert f'"{version}"'.encode() in world.git.tree(head)["environments/production/services/fraud/release.yaml"]
    types = {event.type for event in world.store.after(0)}
    assert {"release.quarantined", "release.reverted", "rollout.rolled_back"} <= types
    return last


def test_a_threshold_that_flags_ten_times_too_much_is_caught_in_shadow() -> None:
    world = settled()
    world.scorers.shares.clear()
    _, folder = world.release("1.1.0", Behaviour(flag_rate=0.2))
    world.finish()
    last = back_on(world, "1.0.0", folder)
    assert (last.caught_in, last.reason) == ("shadow", "flag_up")
    assert max(world.scorers.shares) == 0
    assert (last.champion_ns - last.breach_ns) / 1e9 <= 2


def test_a_slow_model_is_caught_in_canary() -> None:
    world = settled()
    _, folder = world.release("1.1.0", Behaviour(model_ms=2.0), steps="{weight: 10, for: 2s}, {weight: 50, for: 2s}")
    world.finish()
    last = back_on(world, "1.0.0", folder)
    assert (last.caught_in, last.reason) == ("canary", "latency")


def test_errors_and_deadline_misses_are_caught() -> None:
    for behaviour, guard in ((Behaviour(error_rate=0.3), "errors"), (Behaviour(miss_rate=0.3), "misses")):
        world = settled()
        _, folder = world.release("1.1.0", behaviour, steps="{weight: 50, for: 5s}")
        world.finish()
        assert back_on(world, "1.0.0", folder).reason == guard


def test_a_candidate_that_stops_flagging_is_caught() -> None:
    world = settled()
    _, folder = world.release("1.1.0", Behaviour(flag_rate=0.0005))
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "flag_down"


def test_the_same_model_under_a_new_version_settles_every_time() -> None:
    world = settled()
    for number in range(1, 4):
        world.release(f"1.{number}.0")
        world.finish()
        assert world.serving() == f"1.{number}.0"
    assert {each.state for each in rollouts(world)} == {State.SETTLED}


def test_an_unapproved_release_is_refused_and_meets_no_traffic() -> None:
    world = settled()
    world.release("1.1.0", approve=False)
    world.run(5)
    last = rollouts(world)[-1]
    assert last.state is State.REFUSED
    assert "no quorum" in last.reason
    refused = world.store.after(0, ("release.refused",))
    assert [(event.body["version"], event.outcome) for event in refused] == [("1.1.0", "refused")]
    assert world.scorers.answered.keys() == {rollouts(world)[0].candidate.bundle}
    world.run(5)
    assert len(rollouts(world)) == 2


def test_a_refused_release_is_tried_again_once_its_approvals_change() -> None:
    world = settled()
    _, folder = world.release("1.1.0", approve=False)
    world.run(3)
    world.approved.add(folder)
    world.git.push({f"approvals/{folder.removeprefix('sha256:')}/ada.risk.json": b"{}"})
    world.finish()
    assert world.serving() == "1.1.0"


def test_an_unrelated_commit_starts_nothing() -> None:
    world = settled()
    world.git.push({"README": b"hello"})
    world.run(5)
    assert len(rollouts(world)) == 1


def test_a_malformed_manifest_is_refused_with_its_line() -> None:
    world = settled()
    path = "environments/production/services/fraud/rollout.yaml"
    world.git.push({path: world.git.tree(world.git.head())[path] + b"  stepz: []\n"})
    world.run(3)
    (refused,) = world.store.after(0, ("release.refused",))
    assert "rollout.yaml:11" in refused.body["reason"]
    assert view.listing(view.read(world.store))[-1]["outcome"] == "refused"


def test_a_folder_with_a_strange_path_is_refused_and_the_others_are_read() -> None:
    world = settled()
    world.git.push({"environments/production/services/credit/a b": b"x"})
    world.release("1.1.0")
    world.finish()
    assert world.serving() == "1.1.0"
    assert [event.body["service"] for event in world.store.after(0, ("release.refused",))] == ["credit"]


def test_a_force_push_is_refused_once_and_changes_nothing() -> None:
    world = settled()
    world.git.rewritten = True
    world.run(5)
    (refused,) = world.store.after(0, ("release.refused",))
    assert "rewritten" in refused.body["reason"]
    assert world.serving() == "1.0.0"
    world.git.rewritten = False
    world.release("1.1.0")
    world.finish()
    assert world.serving() == "1.1.0"


def test_a_candidate_that_dies_in_its_trial_is_refused_and_the_champion_stays_settled() -> None:
    world = settled()
    world.release("1.1.0", Behaviour(loads=False))
    world.finish()
    last = rollouts(world)[-1]
    assert last.state is State.REFUSED
    assert "signal 11" in last.reason
    assert world.serving() == "1.0.0"
    assert world.table.settled


def test_a_person_aborts_through_the_control_api() -> None:
    world = settled()
    _, folder = world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.run(8)
    world.ask("abort")
    world.finish()
    last = back_on(world, "1.0.0", folder)
    assert (last.actor, last.reason, last.caught_in) == ("ada", "complaints", "canary")


def test_a_latch_that_a_person_set_at_the_supervisor_is_adopted() -> None:
    world = settled()
    _, folder = world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.run(8)
    world.scorers.retreat("fraud", "by-hand", "complaints", "ada", world.clock.now_ns())
    world.finish()
    last = back_on(world, "1.0.0", folder)
    assert (last.actor, last.reason) == ("ada", "complaints")


def test_a_latch_on_a_settled_service_is_told_once_however_long_it_takes_to_open() -> None:
    world = settled()
    world.scorers.retreat("fraud", "by-hand", "complaints", "ada", world.clock.now_ns())
    world.scorers.partial = 4
    world.run(6)
    world.settled()
    assert [event.body["latch"] for event in world.store.after(0, ("rollout.retreated",))] == ["by-hand"]


def test_an_abort_while_the_controller_is_dead_is_carried_out_when_it_is_back() -> None:
    world = settled()
    _, folder = world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.run(8)
    world.ask("abort")
    world.restart()
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "complaints"


def test_a_dead_controller_lets_the_lease_lapse_and_the_next_one_cleans_up() -> None:
    world = settled()
    _, folder = world.release("1.1.0", steps="{weight: 10, for: 600s}", deadline=5000)
    world.run(8)
    world.clock.advance(61)
    world.scorers.tick(100)
    assert world.serving() == "1.0.0"
    world.restart()
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "the lease lapsed"


def test_a_rolled_back_release_is_in_quarantine_even_when_pushed_again() -> None:
    world = settled()
    world.release("1.1.0", Behaviour(flag_rate=0.2))
    world.finish()
    world.release("1.1.0", Behaviour(flag_rate=0.2))
    world.git.push({"people.json": b"{}"})
    world.run(5)
    assert len(rollouts(world)) == 2
    assert "quarantine" in world.store.after(0, ("release.refused",))[-1].body["reason"]
    assert world.serving() == "1.0.0"


def test_a_newer_commit_supersedes_an_unfinished_rollout() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.run(8)
    world.release("1.2.0")
    world.finish()
    assert [each.state for each in rollouts(world)] == [State.SETTLED, State.SUPERSEDED, State.SETTLED]
    assert world.serving() == "1.2.0"
    assert len(world.scorers.loaded) == 1
    assert rollouts(world)[-1].champion == rollouts(world)[0].candidate


def test_reverting_the_commit_by_hand_goes_back() -> None:
    world = settled()
    root = "environments/production/services/fraud"
    before = {path: data for path, data in world.git.tree(world.git.head()).items() if path.startswith(root)}
    _, folder = world.release("1.1.0", steps="{weight: 10, for: 60s}")
    world.run(8)
    world.git.push(dict(before))
    world.finish()
    assert "asks for the champion again" in back_on(world, "1.0.0", folder).reason


def test_going_back_does_not_wait_for_git() -> None:
    world = settled()
    _, folder = world.release("1.1.0", Behaviour(error_rate=0.5), steps="{weight: 50, for: 60s}")
    while rollouts(world)[-1].state is not State.CANARY:
        world.turn()
    world.git.down = True
    world.run(10)
    assert world.serving() == "1.0.0"
    assert rollouts(world)[-1].state is State.ROLLING_BACK
    world.git.down = False
    world.finish()
    back_on(world, "1.0.0", folder)


def test_a_reset_counter_pauses_and_the_next_look_resumes() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 10, for: 6s}")
    world.run(7)
    world.scorers.replace_worker(0)
    world.run(1)
    types = [event.type for event in world.store.after(0, ("rollout.held", "rollout.resumed"))]
    assert types == ["rollout.held", "rollout.resumed"]
    world.finish()
    assert world.serving() == "1.1.0"


def test_a_champion_that_is_not_ready_is_not_rolled_back_onto() -> None:
    world = settled()
    champion = rollouts(world)[0].candidate
    assert champion is not None
    _, folder = world.release("1.1.0", Behaviour(error_rate=0.9), steps="{weight: 50, for: 60s}", watch=60)
    world.until(State.CANARY)
    world.scorers.unready.add(champion.bundle)
    world.run(10)
    held = rollouts(world)[-1]
    assert (held.state, held.hold) == (State.HELD, "blocked")
    assert "only healthy copy" in held.reason
    assert world.scorers.latch is None
    world.scorers.unready.clear()
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "errors"


def test_a_newer_commit_waits_while_the_candidate_is_the_only_healthy_copy() -> None:
    world = settled()
    champion = rollouts(world)[0].candidate
    assert champion is not None
    world.release("1.1.0", steps="{weight: 50, for: 60s}")
    world.until(State.CANARY)
    world.scorers.unready.add(champion.bundle)
    world.release("1.2.0")
    world.run(4)
    assert world.table.arm("candidate") is not None
    world.scorers.unready.clear()
    world.finish()
    assert world.serving() == "1.2.0"


def test_going_back_does_not_wait_for_the_database() -> None:
    world = settled()
    _, folder = world.release("1.1.0", Behaviour(error_rate=0.5), steps="{weight: 50, for: 60s}")
    while rollouts(world)[-1].state is not State.CANARY:
        world.turn()
    world.store_down = True
    world.run(5)
    assert world.serving() == "1.0.0"
    world.store_down = False
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "errors"


def test_two_controllers_never_lead_at_once() -> None:
    world = settled()
    first = world.controller
    world.restart(lapse=False)
    assert first is not None
    assert world.controller is not None
    assert not world.controller.turn()
    assert first.turn()


def test_a_first_release_that_breaks_leaves_the_fallback_and_no_manifests() -> None:
    world = World()
    world.release("1.0.0", watch=60)
    world.run(5)
    world.ask("abort")
    world.finish()
    assert rollouts(world)[-1].state is State.ROLLED_BACK
    assert world.table.arms == ()
    assert not [path for path in world.git.tree(world.git.head()) if path.startswith("environments")]


def test_the_story_tells_states_looks_and_times() -> None:
    world = settled()
    world.release("1.1.0")
    world.finish()
    told = view.story(view.read(world.store, looks=True), "last")
    assert [each["state"] for each in told["states"] if each["state"] != "loading"][-3:] == [
        "promoting",
        "watching",
        "settled",
    ]
    assert told["outcome"] == "settled"
    assert {guard["guard"] for guard in told["looks"][-1]["guards"]} == {
        "errors",
        "misses",
        "latency",
        "flag_up",
        "flag_down",
        "degraded",
        "nulls",
        "shadow_flips",
        "score_shape",
    }
    assert told["looks"][-1]["powers"]["flag_up"]["10"] > 0.9
