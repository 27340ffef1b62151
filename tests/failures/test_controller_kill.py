"""Kill -9 the controller before and after each effect of a rollout, under load.

Each time the end is the same: the candidate settled (or, for the bad one, the champion back, the
commit reverted), one bundle loaded, no latch, and no request failed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.failures.deployment import Deployment, champion_under_load
from tests.failures.load import Load

from interlock.decision.admin import ServiceState
from interlock.wiring import control as rows

pytestmark = pytest.mark.timeout(900)
MILD, STRICT = ((1.0, "DECLINE"),), ((0.0, "STEP_UP"),)
"""Threshold sets that flag nothing and everything."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Load]]:
    with champion_under_load(tmp_path_factory.mktemp("d"), MILD) as both:
        yield both


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


def disturbed(made: Deployment, version: str, at: int, **release: Any) -> tuple[Any, ...]:
    """Release under a controller that dies before effect `at`; the next dies after it; the third lives."""
    stop(made)
    first = made.control(at, "before")
    made.release(version, **release)
    made.until(lambda: first.poll() is not None, f"the controller dies before effect {at}")
    second = made.control(0, "after")
    made.until(lambda: second.poll() is not None, f"the controller dies after effect {at}")
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, -signal.SIGKILL)
    made.control()
    return settled_state(made, made.until(lambda: made.ended(version), f"{version} ends after two kills at {at}"))


def stop(made: Deployment) -> None:
    process = made.processes["control"]
    if process.poll() is None:
        process.terminate()
        process.wait(30)


def undisturbed(made: Deployment, version: str, **release: Any) -> tuple[int, tuple[Any, ...]]:
    """How many effects the rollout has, and how it ends."""
    stop(made)
    before = made.effects()
    made.control()
    made.release(version, **release)
    end = settled_state(made, made.until(lambda: made.ended(version), f"{version} ends"))
    return made.effects() - before, end


def test_a_good_rollout_ends_the_same_whenever_the_controller_is_killed(running: tuple[Deployment, Load]) -> None:
    made, load = running
    effects, expected = undisturbed(made, "1.1.0", cuts=MILD)
    assert (expected[0], effects) == ("settled", 7)
    for number in range(effects):
        assert disturbed(made, f"2.{number}.0", number, cuts=MILD) == expected, f"killed around effect {number}"
    assert load.failures == []
    assert load.sent > 500


def test_a_bad_rollout_goes_back_the_same_whenever_the_controller_is_killed(running: tuple[Deployment, Load]) -> None:
    made, load = running
    bad: dict[str, Any] = {"policy": "{weight: 50, for: 30s}", "cuts": STRICT}
    effects, expected = undisturbed(made, "3.0.0", **bad)
    assert (expected[:2], expected[-1], effects) == (("rolled_back", "flag_up"), "pushed", 7)
    for number in range(3, effects):
        found = disturbed(made, f"4.{number}.0", number, **bad)
        # The killed push may have arrived: then the inverse commit is found, not made twice.
        assert found[:-1] == expected[:-1], f"killed around effect {number}"
        assert found[-1] in ("pushed", "already")
    assert load.failures == []


def test_an_abort_from_the_command_line_goes_back_at_once(running: tuple[Deployment, Load]) -> None:
    made, load = running
    stop(made)
    made.control()
    made.release("6.0.0", policy="{weight: 50, for: 60s}", cuts=MILD)
    made.until(lambda: load.answers.get("6.0.0"), "the candidate answers")
    command = [sys.executable, "-m", "interlock.apps.cli.main", "rollout", "abort", "fraud", "--reason", "complaints"]
    done = subprocess.run([*command, "--output", "json"], env=made.environment, capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert (said["latched"], said["recorded"]) == (True, True)
    told = made.until(lambda: made.ended("6.0.0"), "the abort is carried out")
    assert (told["outcome"], told["reason"], told["caught_in"]) == ("rolled_back", "complaints", "canary")
    # The person's own latch is opened by the turn after the rollout has ended.
    made.until(lambda: settled_state(made, told)[4] is None, "the latch is opened")
    assert settled_state(made, told)[2:6] == (1, True, None, 1)
    assert load.failures == []
