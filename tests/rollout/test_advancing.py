"""How a rollout goes on: by schedule, by evidence, by a person; and how each strategy ends. On the pure step alone."""

from __future__ import annotations

import msgspec
import pytest

from interlock.base.clock import NS_PER_S
from interlock.rollout.plan import ALL, ROLLBACK, Experiment, Plan, Step, returning
from interlock.rollout.states import State
from interlock.rollout.step import NO_TRAFFIC, SHADOWED, step
from interlock.rollout.values import (
    Aborted,
    Admitted,
    Begun,
    Looked,
    Observation,
    Outcome,
    Paused,
    Resumed,
    Rollout,
    Target,
)

OLD = Target("1.0.0", "sha256:" + "01" * 32, "sha256:" + "11" * 32, "c1")
NEW = Target("1.1.0", "sha256:" + "02" * 32, "sha256:" + "22" * 32, "c2")
PLAN = Plan(
    shadow_s=3,
    steps=(Step(1000, 2), Step(5000, 2)),
    holdback=500,
    watch_s=5,
    deadline_s=60,
    guards={},
    hold_s=600,
)
GOOD = Looked(candidate_requests=100, tau_ns=1000)


class Machine:
    """A rollout whose effects succeed at once, looked at every second."""

    def __init__(self, plan: Plan = PLAN, champion: Target | None = OLD) -> None:
        self.now = 1_000 * NS_PER_S
        self.rollout = Rollout(
            id="r",
            service="fraud",
            commit="c2",
            folder="f",
            version="1.1.0",
            wish="w",
            salt="00" * 16,
            started_ns=self.now,
        )
        self.see(Begun())
        self.see(Admitted(NEW, plan, champion, 7))

    @property
    def state(self) -> State:
        return self.rollout.state

    def see(self, *seen: Observation) -> State:
        for each in seen:
            self.rollout, _ = step(self.rollout, each, self.now)
            while self.rollout.pending:
                self.rollout, _ = step(self.rollout, Outcome(self.rollout.pending[0].n), self.now)
        return self.rollout.state

    def look(self, seconds: float, seen: Looked = GOOD) -> State:
        for _ in range(round(seconds)):
            self.now += NS_PER_S
            self.see(seen)
        return self.rollout.state

    def until(self, state: State, seen: Looked = GOOD, limit_s: int = 2000) -> None:
        for _ in range(limit_s):
            if self.rollout.state is state:
                return
            self.look(1, seen)
        raise AssertionError(f"never {state.value}, but {self.rollout.state.value}")


def of(**changes: object) -> Plan:
    return msgspec.structs.replace(PLAN, **changes)  # type: ignore[arg-type]


UNCLEAR = msgspec.structs.replace(GOOD, unclear="flag_up")


def test_a_timeline_goes_on_whatever_is_not_excluded() -> None:
    machine = Machine()
    machine.until(State.SETTLED, UNCLEAR)
    assert machine.rollout.caught_in == ""


def test_evidence_stays_where_it_is_until_harm_is_excluded() -> None:
    machine = Machine(of(advance="evidence"))
    machine.until(State.SHADOW)
    assert machine.look(20, UNCLEAR) is State.SHADOW
    assert machine.look(1) is State.CANARY
    assert machine.look(20, UNCLEAR) is State.CANARY
    machine.until(State.SETTLED)


def test_evidence_that_does_not_come_in_time_is_held_for_a_person_and_ends_on_the_champion() -> None:
    machine = Machine(of(advance="evidence"))
    machine.until(State.HELD, UNCLEAR)
    assert (machine.rollout.hold, machine.rollout.resume) == ("inconclusive", "shadow")
    assert "flag_up" in machine.rollout.reason
    # Good looks alone do not end it: a person decides, or its own deadline.
    assert machine.look(500) is State.HELD
    machine.until(State.ROLLED_BACK)
    assert machine.rollout.caught_in == "shadow"


@pytest.mark.parametrize("hold", ["inconclusive", "person"])
def test_a_breach_while_held_goes_back(hold: str) -> None:
    machine = Machine(of(advance="evidence"))
    machine.until(State.CANARY)
    if hold == "person":
        machine.see(Paused("ada", "lunch"))
    else:
        machine.until(State.HELD, UNCLEAR)
    assert machine.rollout.hold == hold
    machine.look(1, msgspec.structs.replace(GOOD, breach="errors"))
    assert (machine.state, machine.rollout.caught_in, machine.rollout.actor) == (
        State.ROLLED_BACK,
        "canary",
        "controller",
    )


def test_a_person_pauses_and_only_a_person_resumes() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    machine.see(Paused("ada", "a question"))
    assert (machine.state, machine.rollout.reason, machine.rollout.actor) == (State.HELD, "a question", "ada")
    assert machine.look(100) is State.HELD
    machine.see(Resumed("ben", "answered"))
    assert (machine.state, machine.rollout.hold, machine.rollout.actor) == (State.CANARY, "", "ben")
    machine.until(State.SETTLED)


def test_a_pause_while_loading_takes_hold_as_soon_as_it_can() -> None:
    machine = Machine()
    machine.see(Paused("ada", "wait"))
    assert machine.state is not State.HELD
    machine.until(State.HELD)
    assert (machine.rollout.resume, machine.rollout.hold) == ("shadow", "person")
    machine.see(Resumed("ada", "go"))
    machine.until(State.SETTLED)


def test_a_hold_that_would_end_by_itself_is_a_persons_once_a_person_asks() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    machine.look(1, Looked(missing="1 of 2 workers are silent"))
    assert (machine.state, machine.rollout.hold) == (State.HELD, "missing")
    machine.see(Paused("ada", "look into it"))
    assert machine.look(20) is State.HELD


def test_resuming_runs_the_deadline_anew() -> None:
    machine = Machine(of(advance="evidence"))
    machine.until(State.HELD, UNCLEAR)
    machine.look(300, UNCLEAR)
    machine.see(Resumed("ada", "more traffic now"))
    assert machine.look(50, UNCLEAR) is State.SHADOW
    machine.until(State.SETTLED)


def test_advance_accepts_the_missing_evidence_of_one_part_only() -> None:
    machine = Machine(of(advance="evidence"))
    machine.until(State.HELD, UNCLEAR)
    machine.see(Resumed("ada", "seen by risk", advance=True))
    assert (machine.state, machine.rollout.share) == (State.CANARY, 1000)
    assert machine.look(30, UNCLEAR) is State.CANARY
    machine.until(State.HELD, UNCLEAR)


def test_nobody_resumes_onto_a_broken_champion() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    machine.look(1, Looked(breach="errors", champion_ready=False, candidate_requests=5))
    assert (machine.state, machine.rollout.hold) == (State.HELD, "blocked")
    machine.see(Resumed("ada", "go", advance=True))
    assert machine.state is State.HELD
    # Nor does time alone take traffic to a champion that is not there.
    assert machine.look(700, Looked(champion_ready=False, candidate_requests=5)) is State.HELD
    assert machine.look(1, Looked(breach="errors", candidate_requests=5)) is State.ROLLED_BACK


def test_a_freeze_holds_the_share_and_lets_go_by_itself() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    frozen = msgspec.structs.replace(GOOD, frozen="releases are frozen: year end")
    machine.look(1000, frozen)
    assert (machine.state, machine.rollout.hold, machine.rollout.share) == (State.HELD, "frozen", 1000)
    machine.until(State.SETTLED)
    machine = Machine()
    machine.until(State.CANARY)
    machine.look(10, frozen)
    assert machine.look(1, msgspec.structs.replace(frozen, breach="errors")) is State.ROLLED_BACK


def test_no_traffic_holds_and_says_so() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    machine.look(5, Looked())
    assert (machine.state, machine.rollout.hold, machine.rollout.reason) == (State.HELD, "missing", NO_TRAFFIC)
    machine.until(State.ROLLED_BACK, Looked())


def test_blue_green_switches_once() -> None:
    machine = Machine(of(strategy="blue-green", steps=(), holdback=0))
    machine.until(State.SHADOW)
    machine.until(State.WATCHING)
    assert machine.rollout.share == ALL
    machine.until(State.SETTLED)


def test_a_shadow_release_waits_for_a_person_at_the_end_and_is_promoted_by_them() -> None:
    machine = Machine(of(strategy="shadow", steps=()))
    machine.until(State.HELD)
    assert (machine.rollout.hold, machine.rollout.reason) == ("person", SHADOWED)
    machine.see(Resumed("ada", "agreed", advance=True))
    machine.until(State.SETTLED)
    machine = Machine(of(strategy="shadow", steps=()))
    machine.until(State.HELD)
    machine.see(Aborted("ada", "not better"))
    assert machine.state is State.ROLLED_BACK


AB = of(
    strategy="ab", shadow_s=0, steps=(Step(5000, 100),), experiment=Experiment(share=5000, period_s=100), deadline_s=30
)


def test_an_experiment_lasts_its_period_and_then_keeps_whom_it_says() -> None:
    machine = Machine(AB)
    machine.until(State.CANARY)
    assert machine.look(90) is State.CANARY
    machine.until(State.ROLLED_BACK)
    # The champion stayed: nothing had failed, so nothing is in quarantine.
    assert (machine.rollout.breach_ns, machine.rollout.caught_in, machine.rollout.shape) == (0, "", "champion")
    keeps = msgspec.structs.replace(AB, experiment=Experiment(share=5000, period_s=100, then="candidate"))
    machine = Machine(keeps)
    machine.until(State.SETTLED)


@pytest.mark.parametrize(("winner", "end"), [("candidate", State.SETTLED), ("champion", State.ROLLED_BACK)])
def test_the_stop_rule_ends_an_experiment_early(winner: str, end: State) -> None:
    machine = Machine(AB)
    machine.until(State.CANARY)
    machine.look(5)
    machine.look(1, msgspec.structs.replace(GOOD, winner=winner))
    machine.until(end)
    assert (machine.now - machine.rollout.started_ns) / NS_PER_S < 60


def test_a_return_takes_everything_at_once_and_can_still_go_back() -> None:
    plan = returning(PLAN)
    assert plan.strategy == ROLLBACK
    machine = Machine(plan)
    machine.look(2)
    assert (machine.state, machine.rollout.shape) == (State.SETTLED, "settled")
    assert machine.rollout.majority_ns


def test_a_pause_after_a_long_freeze_has_its_whole_time() -> None:
    machine = Machine()
    machine.until(State.CANARY)
    machine.look(3 * PLAN.hold_s, msgspec.structs.replace(GOOD, frozen="the year's end"))
    assert (machine.state, machine.rollout.hold) == (State.HELD, "frozen")
    machine.see(Paused("ada", "until we are back"))
    assert machine.look(5) is State.HELD


def test_the_deadline_runs_from_the_admission_however_long_that_took() -> None:
    machine = Machine.__new__(Machine)
    machine.now = 1_000 * NS_PER_S
    machine.rollout = Rollout(
        id="r", service="fraud", commit="c2", folder="f", version="1.1.0", wish="w", salt="00", started_ns=machine.now
    )
    machine.see(Begun())
    machine.now += round(10 * PLAN.deadline_s) * NS_PER_S
    machine.see(Admitted(NEW, PLAN, OLD, 7))
    machine.until(State.SETTLED)
