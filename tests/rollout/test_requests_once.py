"""What a person asked for is carried out once, for the rollout that they saw, whoever leads meanwhile."""

from __future__ import annotations

from tests.rollout.test_world import settled
from tests.world import Behaviour, World

from interlock.rollout.states import State

EVIDENCE = {"advance": "evidence", "steps": "{weight: 10, for: 2s}, {weight: 50, for: 2s}", "deadline": 600}


def unclear() -> World:
    """A canary by evidence that too little traffic keeps at its first step."""
    world = settled()
    world.tps = 20
    world.release("1.1.0", Behaviour(), **EVIDENCE)
    world.until(State.CANARY)
    world.run(10)
    assert world.rollouts()[-1].index == 0
    return world


def test_a_new_controller_accepts_no_missing_evidence_a_second_time() -> None:
    world = unclear()
    world.ask("resume", advance=True)
    world.run(5)
    assert world.rollouts()[-1].index == 1
    world.restart()
    world.run(10)
    assert (world.rollouts()[-1].state, world.rollouts()[-1].index) == (State.CANARY, 1)


def test_a_lost_answer_of_the_store_accepts_no_missing_evidence_a_second_time() -> None:
    world = unclear()
    world.ask("resume", advance=True)
    world.run(5)
    world.controller._journal.doubtful = True
    world.run(5)
    assert (world.rollouts()[-1].state, world.rollouts()[-1].index) == (State.CANARY, 1)


def test_an_abort_of_one_rollout_is_none_of_the_next() -> None:
    world = settled()
    world.release("1.0.0", service="credit")
    world.run(20)
    # Another service's rollout is under way for as long as all of this lasts.
    world.release("1.1.0", service="credit", steps="{weight: 10, for: 500s}", deadline=5000)
    world.until(State.CANARY, "credit")
    world.release("1.1.0", steps="{weight: 10, for: 100s}")
    world.until(State.CANARY)
    world.ask("abort")
    world.until(State.ROLLED_BACK)
    world.release("1.2.0", steps="{weight: 10, for: 500s}", deadline=5000)
    world.until(State.CANARY)
    world.restart()
    world.run(5)
    assert world.rollouts()[-1].state is State.CANARY


def test_a_return_that_was_answered_is_not_carried_out_again() -> None:
    world = settled()
    world.release("1.0.0", service="credit")
    world.run(20)
    world.release("1.1.0", service="credit", steps="{weight: 10, for: 500s}", deadline=5000)
    world.until(State.CANARY, "credit")
    world.release("1.1.0", steps="{weight: 50, for: 1s}", watch=1)
    world.until(State.SETTLED)
    world.run(5)
    world.ask("rollback")
    world.run(20)
    assert world.serving() == "1.0.0"
    world.restart()
    world.run(10)
    assert len(world.store.after(0, ("release.reverted",))) == 1
    assert len(world.store.after(0, ("release.quarantined",))) == 1


def test_what_was_asked_while_no_controller_lived_still_holds() -> None:
    world = unclear()
    world.ask("pause")
    world.restart()
    world.run(5)
    assert world.rollouts()[-1].state is State.HELD
