"""When the reconciler turns again: pure times, and the threads that wake it."""

from __future__ import annotations

import threading

import msgspec
import pytest

from interlock.apps.control.pace import SHORTEST_S, Runner, pause_s
from interlock.base.clock import NS_PER_S
from interlock.rollout.plan import Plan, Step
from interlock.rollout.states import State
from interlock.rollout.values import Effect, Rollout

BEGAN = 1_000 * NS_PER_S
PLAN = Plan(1.0, (Step(1_000, 2.0), Step(5_000, 0.5)), 500, 3.0, 600.0, {})
ROLLOUT = Rollout(
    id="r", service="fraud", commit="c", folder="f", version="1.1.0", wish="w", salt="s", started_ns=0, since_ns=BEGAN,
    plan=PLAN,
)  # fmt: skip


def at(state: State, after_s: float, index: int = -1, most_s: float = 10.0) -> float:
    rollout = msgspec.structs.replace(ROLLOUT, state=state, index=index)
    return pause_s([rollout], BEGAN + round(after_s * NS_PER_S), most_s)


@pytest.mark.parametrize(
    ("state", "index", "wait_s"),
    [
        pytest.param(State.SHADOW, -1, 0.75, id="shadow"),
        pytest.param(State.CANARY, 0, 1.75, id="first share"),
        pytest.param(State.CANARY, 1, 0.25, id="second share"),
        pytest.param(State.WATCHING, 1, 2.75, id="watching"),
    ],
)
def test_a_pause_ends_with_the_step_under_way(state: State, index: int, wait_s: float) -> None:
    assert at(state, 0.25, index) == pytest.approx(wait_s)


@pytest.mark.parametrize("state", [State.LOADING, State.HELD, State.ROLLING_BACK, State.CHECKING], ids=str)
def test_a_state_without_a_time_of_its_own_shortens_no_pause(state: State) -> None:
    assert at(state, 0.25, most_s=0.2) == 0.2


def test_a_step_that_is_over_and_does_not_go_on_is_no_reason_to_spin() -> None:
    assert at(State.SHADOW, 5.0, most_s=0.2) == 0.2
    assert at(State.SHADOW, 1.0 - 1e-9, most_s=0.2) == SHORTEST_S


def test_a_share_that_is_not_installed_yet_has_no_end() -> None:
    waiting = msgspec.structs.replace(ROLLOUT, state=State.SHADOW, pending=(Effect(1, "set_route"),))
    assert pause_s([waiting], BEGAN, 0.2) == 0.2


def test_the_nearest_end_counts_and_no_rollout_means_the_whole_pause() -> None:
    early = msgspec.structs.replace(ROLLOUT, state=State.CANARY, index=1)
    late = msgspec.structs.replace(ROLLOUT, state=State.WATCHING)
    assert pause_s([late, early], BEGAN, 10.0) == pytest.approx(0.5)
    assert pause_s([], BEGAN, 0.2) == 0.2


def test_work_that_ends_wakes_the_loop_well_or_badly() -> None:
    wake = threading.Event()
    with Runner(1, wake) as runner:
        for work in (lambda: 7, lambda: 1 / 0):
            wake.clear()
            future = runner.submit(work)
            assert wake.wait(10)
            assert future.done()
