"""People at a real deployment: they pause, resume, return and abort, and a receiver is told of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failures.deployment import Deployment, deployment
from tests.failures.load import Load
from tests.failures.receiver import Receiver

from interlock.wiring import control

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]
LONG = "{shadow: 500ms}, {weight: 50, for: 60s}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def order(made: Deployment, *arguments: str, code: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "interlock.apps.cli.main", "rollout", *arguments]
    command += ["--person", "ada", "--output", "json"]
    done = subprocess.run(command, env=made.environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_canary(made: Deployment, version: str) -> bool:
    return any(line["version"] == version and line["state"] == "canary" for line in made.rollouts())


def serving(made: Deployment) -> list[tuple[str, str]]:
    seen = control.scorers(made.settings).observe("fraud", 0).services["fraud"]
    assert seen.table is not None
    return [(arm.name, arm.version) for arm in seen.table.arms]


def test_people_stop_a_rollout_let_it_go_on_return_and_abort(tmp_path: Path, receiver: Receiver) -> None:
    with deployment(tmp_path) as made:
        with (made.home / "settings.yaml").open("a") as file:
            file.write(f'notify:\n  urls: ["{receiver.url}/hook"]\n  poll_s: 0.1\n')
        url = made.serve()
        made.control()
        made.release("1.0.0")
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        with Load(url) as load:
            made.release("1.1.0", LONG)
            made.until(lambda: in_canary(made, "1.1.0"), "the canary begins")
            assert order(made, "pause", "fraud", "--reason", "lunch", "--wait")["state"] == "held"
            assert order(made, "resume", "fraud", "--advance", "--reason", "back", "--wait")["state"] == "settled"
            found = order(made, "rollback", "fraud", "--reason", "refunds are declined", "--wait")
            assert found["state"] == "settled"
            assert serving(made) == [("champion", "1.0.0")]
            made.release("1.2.0", LONG)
            made.until(lambda: in_canary(made, "1.2.0"), "the canary begins")
            found = order(made, "abort", "fraud", "--reason", "complaints", "--wait")
            assert (found["latched"], found["recorded"], found["state"]) == (True, True, "rolled_back")
            assert not order(made, "abort", "fraud", "--reason", "complaints")["latched"]
            assert serving(made) == [("champion", "1.0.0")]
        assert load.failures == []
        assert len(control.event_store(made.settings).after(0, ("rollout.abort.requested",))) == 1
        told = []
        while "rolled_back" not in [state for _, state in told]:
            data = json.loads(receiver.next()[2])["data"]
            told.append((data["version"], data["state"]))
    wanted = [
        ("1.0.0", "settled"),
        ("1.1.0", "held"),
        ("1.1.0", "settled"),
        ("1.1.0", "quarantined"),
        ("1.0.0", "settled"),
        ("1.2.0", "rolled_back"),
    ]
    assert [each for each in told if each in wanted] == wanted
