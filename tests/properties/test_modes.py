"""What went wrong elsewhere, by its number in the field's list, against the engine in the simulated world.

`docs/guide/failure-modes.md` names a test for every mode; those about processes are in `tests/failures`.
"""

from __future__ import annotations

from tests.rollout.test_world import back_on, rollouts, settled
from tests.world import Behaviour, Crash, Killer, World

from interlock.rollout.states import State

CALM = "{weight: 10, for: 60s}"
FILES = "environments/production/services/fraud/"


def candidate_share(world: World) -> float:
    arm = world.table.arm("candidate")
    return arm.share if arm is not None else 0.0


def in_canary(steps: str = CALM, behaviour: Behaviour | None = None, **policy: object) -> tuple[World, str]:
    """A settled 1.0.0 and a 1.1.0 in its first share."""
    world = settled()
    _, folder = world.release("1.1.0", behaviour, steps=steps, **policy)
    world.until(State.CANARY)
    return world, folder


def test_mode_03_a_candidate_receives_nothing_until_it_is_ready_and_the_champion_is_not_shrunk_before() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 50, for: 2s}")
    world.delay_s = 5.0
    while rollouts(world)[-1].state is not State.CANARY:
        world.turn()
        if rollouts(world)[-1].state is not State.CANARY:
            assert world.serving() == "1.0.0"
    assert {arm.bundle for arm in world.table.arms} <= world.scorers.loaded


def test_mode_04_a_share_does_not_grow_while_a_worker_has_not_even_the_smaller_one() -> None:
    world = settled()
    world.release("1.1.0", steps="{weight: 10, for: 1s}, {weight: 50, for: 1s}", deadline=60)
    world.until(State.LOADING)
    world.scorers.partial = 8
    while world.scorers.partial:
        world.turn()
        assert candidate_share(world) <= 0.1
    world.finish()
    assert world.serving() == "1.1.0"


def test_mode_05_promotion_waits_until_every_worker_has_the_candidate() -> None:
    world, _ = in_canary("{weight: 50, for: 2s}")
    world.scorers.partial = 6
    world.until(State.PROMOTING)
    before = len(world.scorers.routes["fraud"].behind)
    assert before, "one worker has not taken the table of 95 %"
    while world.scorers.partial:
        assert rollouts(world)[-1].state is State.PROMOTING
        world.turn()
    world.finish()
    assert world.serving() == "1.1.0"


def test_mode_06_the_champion_is_unloaded_only_when_nothing_in_flight_refers_to_it() -> None:
    world, _ = in_canary("{weight: 50, for: 1s}", watch=1)
    world.scorers.drain_s = 4.0
    world.until(State.SETTLED)
    world.run(2)
    assert len(world.scorers.loaded) == 2, "the last requests of the champion are still being answered"
    world.finish()
    assert len(world.scorers.loaded) == 1
    world.settled()


def test_mode_07_a_candidate_that_fails_after_its_promotion_finds_a_champion_that_was_kept() -> None:
    world, folder = in_canary("{weight: 50, for: 1s}", watch=60)
    world.until(State.WATCHING)
    bundle = rollouts(world)[-1].candidate
    assert bundle is not None
    world.scorers.behaviours[bundle.bundle] = Behaviour(error_rate=0.5)
    assert len(world.scorers.loaded) == 2
    world.finish()
    assert back_on(world, "1.0.0", folder).caught_in == "watching"


def test_mode_11_a_release_never_shrinks_what_runs() -> None:
    world, _ = in_canary()
    more = world.git.tree(world.git.head())[FILES + "inferenceservice.yaml"].replace(
        b"minReplicas: 1", b"minReplicas: 0"
    )
    world.git.push({FILES + "inferenceservice.yaml": more})
    for _ in range(40):
        world.turn()
        assert world.scorers.observe(None, 0).workers == 2
        assert world.table.arm("champion") is not None


def test_mode_14_what_answers_is_one_bundle_with_its_own_features_and_thresholds() -> None:
    world, _ = in_canary("{weight: 50, for: 3s}")
    champion, candidate = rollouts(world)[0].candidate, rollouts(world)[1].candidate
    assert champion is not None
    assert candidate is not None
    admitted = {(champion.bundle, champion.folder), (candidate.bundle, candidate.folder)}
    while rollouts(world)[-1].state is not State.SETTLED:
        assert {(arm.bundle, arm.folder) for arm in (*world.table.arms, *world.table.shadows)} <= admitted
        world.turn()


def test_mode_15_a_new_commit_in_mid_canary_leaves_two_versions_and_the_right_one_to_go_back_to() -> None:
    world, _ = in_canary()
    world.release("1.2.0", Behaviour(error_rate=0.5), steps="{weight: 50, for: 60s}")
    while rollouts(world)[-1].version != "1.2.0" or rollouts(world)[-1].state is not State.CANARY:
        world.turn()
        assert len(world.scorers.loaded) <= 2
    assert rollouts(world)[-1].champion == rollouts(world)[0].candidate
    world.finish()
    assert [each.state for each in rollouts(world)] == [State.SETTLED, State.SUPERSEDED, State.ROLLED_BACK]
    assert world.serving() == "1.0.0"


def test_mode_16_the_manifests_are_the_whole_wish_and_are_changed_by_an_exact_inverse_alone() -> None:
    world = settled()
    before = world.git.tree(world.git.head())
    commit, _ = world.release("1.1.0")
    world.finish()
    assert world.git.head() == commit, "a rollout that settles writes nothing to Git"
    asked = world.git.tree(commit)
    world.release("1.2.0", Behaviour(error_rate=0.5), steps="{weight: 50, for: 60s}")
    world.finish()
    assert world.git.tree(world.git.head()) == asked
    assert before != asked


def test_mode_17_measurements_that_all_fail_are_no_pass() -> None:
    world, _ = in_canary("{weight: 10, for: 2s}")
    share = candidate_share(world)
    world.scorers.down = True
    world.run(20)
    held = rollouts(world)[-1]
    assert (held.state, held.hold) == (State.HELD, "missing")
    assert candidate_share(world) == share
    world.scorers.down = False
    world.finish()
    assert world.serving() == "1.1.0"


def test_mode_18_no_traffic_has_a_declared_outcome_for_either_way_of_advancing() -> None:
    for advance in ("timeline", "evidence"):
        world = settled()
        world.tps = 0
        _, folder = world.release("1.1.0", steps="{weight: 10, for: 2s}", deadline=10, hold=20, advance=advance)
        held = world.until(State.HELD)
        assert held.reason == "no traffic has met the candidate"
        world.finish()
        assert "not settled within its deadline" in back_on(world, "1.0.0", folder).reason


def test_mode_19_a_breach_while_a_person_is_awaited_goes_back_all_the_same() -> None:
    world, folder = in_canary("{weight: 50, for: 600s}", deadline=5000)
    world.ask("pause")
    held = world.until(State.HELD)
    assert (held.hold, held.actor) == ("person", "ada")
    bundle = held.candidate
    assert bundle is not None
    world.scorers.behaviours[bundle.bundle] = Behaviour(error_rate=0.5)
    world.finish()
    last = back_on(world, "1.0.0", folder)
    assert (last.reason, last.caught_in) == ("errors", "canary")


def test_mode_19_a_breach_while_a_source_was_missing_goes_back_once_it_is_seen() -> None:
    world, folder = in_canary("{weight: 50, for: 600s}", deadline=5000)
    bundle = rollouts(world)[-1].candidate
    assert bundle is not None
    world.scorers.behaviours[bundle.bundle] = Behaviour(error_rate=0.5)
    world.scorers.down = True
    world.until(State.HELD)
    world.scorers.down = False
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "errors"


def test_mode_20_an_abort_is_one_and_is_never_tried_again() -> None:
    world, folder = in_canary()
    world.ask("abort")
    world.ask("abort")
    world.finish()
    assert back_on(world, "1.0.0", folder).reason == "complaints"
    world.restart()
    world.run(20)
    assert len(rollouts(world)) == 2
    assert len(world.git.commits) == 3, "one inverse commit"
    assert world.serving() == "1.0.0"


def test_mode_20_a_champion_that_has_gone_cold_is_loaded_before_it_is_returned_to() -> None:
    world, folder = in_canary()
    world.scorers.restart(disk=False)
    world.ask("abort")
    world.finish()
    back_on(world, "1.0.0", folder)
    world.settled()


def test_mode_21_returning_to_a_version_that_had_settled_skips_analysis_and_not_the_admission() -> None:
    world = settled()
    world.release("1.1.0")
    world.finish()
    world.scorers.shares.clear()
    world.ask("rollback", version="1.0.0")
    world.finish()
    assert world.serving() == "1.0.0"
    assert set(world.scorers.shares) <= {0.0, 1.0}, "no shadow, no steps"
    last = rollouts(world)[-1]
    assert (last.ended_ns - last.started_ns) / 1e9 <= 3
    world.settled()


def test_mode_21_returning_to_a_version_whose_admission_is_gone_is_refused() -> None:
    world = settled()
    world.release("1.1.0")
    world.finish()
    first = rollouts(world)[0].candidate
    assert first is not None
    world.scorers.admitted.discard((first.bundle, first.folder))
    world.ask("rollback", version="1.0.0")
    world.run(6)
    assert rollouts(world)[-1].state is State.REFUSED
    assert "admission" in rollouts(world)[-1].reason


def test_mode_22_a_controller_killed_in_mid_step_leaves_weights_and_step_as_they_are() -> None:
    world, _ = in_canary("{weight: 10, for: 60s}, {weight: 50, for: 2s}")
    world.run(2)
    before, at = world.table, rollouts(world)[-1]
    world.killer.at = len(world.killer.calls)
    try:
        world.run(60)
    except Crash:
        world.restart(Killer())
    for _ in range(4):
        assert world.table.arms == before.arms
        assert world.table.generation == before.generation
        world.turn()
    assert (rollouts(world)[-1].index, rollouts(world)[-1].since_ns) == (at.index, at.since_ns)
    world.finish()
    assert world.serving() == "1.1.0"


def test_mode_23_a_release_that_cannot_be_loaded_keeps_the_survivors_serving() -> None:
    world = settled()
    served = world.scorers.answered.copy()
    world.release("1.1.0", Behaviour(loads=False))
    world.finish()
    assert rollouts(world)[-1].state is State.REFUSED
    assert set(world.scorers.answered) == set(served)
    assert world.serving() == "1.0.0"
    world.settled()
