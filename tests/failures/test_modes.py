"""What went wrong elsewhere, by its number in the field's list, on a real scorer with a real controller under load.

The engine's own part of each mode is in `tests/properties/test_modes.py`; `docs/guide/failure-modes.md`
names a test for every mode.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.failures.deployment import Deployment, champion_under_load
from tests.failures.load import Load

from interlock.base.errors import InterlockError
from interlock.decision.admin import Observed
from interlock.decision.table import CANDIDATE, CHAMPION, RouteTable
from interlock.rollout.ports import Scorers
from interlock.wiring import control as rows

pytestmark = pytest.mark.timeout(600)
MILD = ((1.0, "DECLINE"),)
LONG = "{weight: 50, for: 600s}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Load]]:
    with champion_under_load(tmp_path_factory.mktemp("d"), MILD) as both:
        yield both


def door(made: Deployment) -> Scorers:
    return rows.scorers(made.settings)


def observed(made: Deployment) -> Observed:
    return door(made).observe("fraud", 0)


def table_of(made: Deployment) -> RouteTable:
    table = observed(made).services["fraud"].table
    assert table is not None
    return table


def answering(made: Deployment, arm: str, load: Load, version: str) -> Any:
    """Whether an arm answers a share, and its version has answered somebody."""
    found = table_of(made).arm(arm)
    return found is not None and found.version == version and found.ranges and load.answers.get(version)


@contextlib.contextmanager
def watched(made: Deployment) -> Iterator[list[Observed]]:
    """What the supervisor says all the time."""
    seen: list[Observed] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            with contextlib.suppress(InterlockError):
                seen.append(observed(made))
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join(10)


def test_mode_04_05_06_11_a_share_never_meets_a_worker_without_the_version_and_no_worker_is_lost(
    running: tuple[Deployment, Load],
) -> None:
    made, load = running
    with watched(made) as seen:
        made.release("1.1.0", policy="{shadow: 500ms}, {weight: 10, for: 1s}, {weight: 50, for: 1s}", cuts=MILD)
        told = made.until(lambda: made.ended("1.1.0"), "1.1.0 ends")
    assert told["outcome"] == "settled"
    shares = set()
    for one in seen:
        state = one.services["fraud"]
        assert one.workers == 2
        assert state.table is not None
        assert {arm.bundle for arm in state.table.arms if arm.ranges} <= set(state.loaded)
        shares |= {arm.share for arm in state.table.arms if arm.name == CANDIDATE}
    assert {0.1, 0.5, 0.95} <= shares
    load.flows()
    assert load.failures == []


def test_mode_22_a_controller_killed_in_mid_step_leaves_the_weights_as_they_are(
    running: tuple[Deployment, Load],
) -> None:
    made, load = running
    made.release("1.2.0", policy=LONG, cuts=MILD)
    made.until(lambda: answering(made, CANDIDATE, load, "1.2.0"), "the candidate answers")
    before = table_of(made)
    process = made.processes["control"]
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    load.flows(200)
    assert table_of(made) == before
    made.control()
    made.until(lambda: any(line["version"] == "1.2.0" for line in made.rollouts()), "the controller is back")
    load.flows(200)
    assert table_of(made).arms == before.arms
    assert table_of(made).generation == before.generation
    door(made).retreat("fraud", "by-hand", "enough", "ada", time.time_ns())
    told = made.until(lambda: made.ended("1.2.0"), "1.2.0 ends")
    assert told["outcome"] == "rolled_back"
    assert load.failures == []


def test_mode_07_a_version_that_fails_after_its_promotion_finds_the_champion_in_every_worker(
    running: tuple[Deployment, Load],
) -> None:
    made, load = running
    made.release("1.3.0", policy="{weight: 50, for: 500ms}", watch="600s", cuts=MILD)
    made.until(lambda: (arm := table_of(made).arm(CANDIDATE)) and arm.share > 0.9, "1.3.0 is promoted")
    load.flows(100)
    before = load.answers["1.1.0"]
    door(made).retreat("fraud", "by-hand-2", "it fails", "ada", time.time_ns())
    load.flows(100)
    assert load.answers["1.1.0"] - before > 50
    told = made.until(lambda: made.ended("1.3.0"), "1.3.0 is taken back")
    assert (told["outcome"], told["caught_in"]) == ("rolled_back", "watching")
    champion = table_of(made).arm(CHAMPION)
    assert champion is not None
    assert champion.version == "1.1.0"
    assert load.failures == []


def test_mode_23_a_release_that_cannot_be_loaded_keeps_the_survivors_serving(
    running: tuple[Deployment, Load],
) -> None:
    made, load = running
    before = table_of(made).arms
    with watched(made) as seen:
        made.release("1.4.0", cuts=MILD, golden_off=0.1)
        told = made.until(lambda: made.ended("1.4.0"), "1.4.0 ends")
    assert told["outcome"] == "refused"
    assert all(one.workers == 2 for one in seen)
    assert table_of(made).arms == before
    load.flows(200)
    assert "1.4.0" not in load.answers
    assert load.failures == []
