"""The table of states, and the pure step on it."""

from __future__ import annotations

import pytest

from interlock.base.errors import RefusedError
from interlock.rollout.states import FINAL, TABLE, State, after
from interlock.rollout.step import step
from interlock.rollout.values import Begun, Rejected, Rollout

ROLLOUT = Rollout(
    id="r", service="fraud", commit="c", folder="f", version="1.0.0", wish="w", salt="00" * 16, started_ns=1
)
EVENTS = {event for row in TABLE.values() for event in row}


def test_every_pair_that_the_table_does_not_list_raises() -> None:
    for state in State:
        for event in EVENTS - set(TABLE[state]):
            with pytest.raises(RefusedError, match=f"no event {event}"):
                after(state, event)


def test_every_state_has_a_row_and_every_state_is_reached() -> None:
    assert set(TABLE) == set(State)
    reached = {target for row in TABLE.values() for target in row.values()}
    assert reached == set(State) - {State.PROPOSED}


def test_going_back_is_reachable_from_every_state_that_may_carry_traffic() -> None:
    for state in set(State) - FINAL - {State.PROPOSED, State.CHECKING, State.ROLLING_BACK, State.RETREATED}:
        assert TABLE[state]["abort"] is State.ROLLING_BACK
        assert TABLE[state]["retreat"] is State.RETREATED
    for state in (State.ROLLING_BACK, State.RETREATED):
        assert set(TABLE[state].values()) == {State.ROLLED_BACK}


def test_an_observation_out_of_place_raises_and_the_rollout_is_as_before() -> None:
    with pytest.raises(RefusedError):
        step(ROLLOUT, Rejected("no"), 5)
    assert ROLLOUT.state is State.PROPOSED


def test_a_rejected_release_has_no_effects_at_all() -> None:
    checking, _ = step(ROLLOUT, Begun(), 2)
    refused, effects = step(checking, Rejected("no quorum"), 3)
    assert (refused.state, refused.reason, effects, refused.pending) == (State.REFUSED, "no quorum", (), ())


def test_checking_asks_for_nothing_to_be_done() -> None:
    checking, effects = step(ROLLOUT, Begun(), 2)
    assert (checking.state, effects, checking.pending) == (State.CHECKING, (), ())
