"""An experiment where evidence decides: nobody is promoted on what is missing, and it ends all the same."""

from __future__ import annotations

import msgspec
from tests.rollout.test_advancing import GOOD, PLAN, Machine

from interlock.rollout.plan import Experiment, Plan, Step
from interlock.rollout.states import State

UNCLEAR = msgspec.structs.replace(GOOD, unclear="latency")


def machine(then: str) -> Machine:
    experiment = Experiment(share=5000, period_s=100, then=then)
    plan: Plan = msgspec.structs.replace(
        PLAN,
        strategy="ab",
        advance="evidence",
        shadow_s=0,
        steps=(Step(5000, 100),),
        experiment=experiment,
        deadline_s=30,
    )
    made = Machine(plan)
    made.until(State.CANARY, UNCLEAR)
    return made


def test_an_experiment_that_the_champion_keeps_ends_with_its_period() -> None:
    ab = machine("champion")
    ab.until(State.ROLLED_BACK, UNCLEAR, limit_s=120)
    assert ab.rollout.breach_ns == 0


def test_a_candidate_is_not_kept_at_the_end_on_missing_evidence_but_held_for_a_person() -> None:
    ab = machine("candidate")
    ab.until(State.HELD, UNCLEAR, limit_s=140)
    assert ab.rollout.hold == "inconclusive"


def test_a_candidate_that_wins_waits_for_the_evidence_on_the_other_guards() -> None:
    ab = machine("champion")
    ab.look(5, msgspec.structs.replace(UNCLEAR, winner="candidate"))
    assert ab.state is State.CANARY
    ab.look(1, msgspec.structs.replace(GOOD, winner="candidate"))
    assert ab.state is State.WATCHING


def test_a_champion_that_wins_stays_at_once() -> None:
    ab = machine("candidate")
    ab.look(1, msgspec.structs.replace(UNCLEAR, winner="champion"))
    assert ab.state is State.ROLLED_BACK
