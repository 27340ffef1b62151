"""Kill -9 the controller before and after each effect of a rollout, under load.

Each time the end is the same: the candidate settled (or, for the bad one, the champion back, the
commit reverted), one bundle loaded, no latch, and no request failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.failures.deployment import QUICK, Deployment, deployment
from tests.failures.load import Load

from interlock.decision.admin import ServiceState
from interlock.wiring import control as rows

pytestmark = pytest.mark.timeout(900)
FLAGS = ((0.0, "STEP_UP"),)
"""A threshold set that flags everything."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Load]]:
    with deployment(tmp_path_factory.mktemp("d")) as made:
        url = made.serve()
        made.control()
        made.release("1.0.0")
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        with Load(url) as load:
            yield made, load


def settled_state(made: Deployment, told: dict[str, Any]) -> tuple[Any, ...]:
    """What must not depend on when the controller was killed."""
    state: ServiceState = rows.scorers(made.settings).observe("fraud", 0).services["fraud"]
    assert state.table is not None
    return (
        told["outcome"],
        told["reason"],
        len(state.table.arms),
        state.table.settled,
        state.latch,
        len(state.loaded),
        (told["reverted"] or "none").split()[0],
    )


def disturbed(made: Deployment, version: str, at: int, when: str, **release: Any) -> tuple[Any, ...]:
    """Release a version under a controller that dies around effect `at`, then under one that does not."""
    stop(made)
    dying = made.control(at, when)
    made.release(version, **release)
    made.until(lambda: dying.poll() is not None, f"the controller dies {when} effect {at}")
    made.control()
    return settled_state(made, made.until(lambda: made.ended(version), f"{version} ends after {when} {at}"))


def stop(made: Deployment) -> None:
    process = made.processes["control"]
    if process.poll() is None:
        process.terminate()
        process.wait(30)


def undisturbed(made: Deployment, version: str, **release: Any) -> tuple[int, tuple[Any, ...]]:
    """How many effects the rollout has, and how it ends."""
    stop(made)
    before = made.log("control").count("\neffect ")
    made.control()
    made.release(version, **release)
    end = settled_state(made, made.until(lambda: made.ended(version), f"{version} ends"))
    return made.log("control").count("\neffect ") - before, end


def test_a_good_rollout_ends_the_same_whenever_the_controller_is_killed(running: tuple[Deployment, Load]) -> None:
    made, load = running
    effects, expected = undisturbed(made, "1.1.0")
    assert expected[0] == "settled"
    assert effects >= 7
    for number in range(effects):
        for when in ("before", "after"):
            found = disturbed(made, f"2.{number}.{int(when == 'after')}", number, when)
            assert found == expected, f"{when} effect {number}"
    assert load.failures == []
    assert load.sent > 500


def test_a_bad_rollout_goes_back_the_same_whenever_the_controller_is_killed(running: tuple[Deployment, Load]) -> None:
    made, load = running
    bad = {"policy": QUICK, "watch": "30s", "cuts": FLAGS}
    effects, expected = undisturbed(made, "3.0.0", **bad)
    assert expected[0] == "rolled_back"
    for number in range(3, effects):
        for when in ("before", "after"):
            found = disturbed(made, f"4.{number}.{int(when == 'after')}", number, when, **bad)
            assert found == expected, f"{when} effect {number}"
    assert load.failures == []


def test_three_rollouts_of_the_same_model_settle(running: tuple[Deployment, Load]) -> None:
    made, load = running
    for number in range(3):
        effects, end = undisturbed(
            made, f"5.{number}.0", policy="{shadow: 3s}, {weight: 10, for: 2s}, {weight: 50, for: 2s}", watch="5s"
        )
        assert (end[0], effects) == ("settled", 8)
    assert load.failures == []
