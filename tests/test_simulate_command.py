from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from interlock.apps.cli import main
from interlock.base.errors import UsageError

POLICY = """apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: fraud}
spec:
  strategy: canary
  steps: [{weight: 10, for: 4s}, {weight: 100}]
  watch: {holdback: 0.05, for: 3s}
"""
FEW = ("--runs", "2", "--processes", "1", "--tps", "3000", "--cards", "0", "--base-rate", "0.02")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "rollout.yaml"
    path.write_text(POLICY)
    return path


def simulated(*arguments: str | Path) -> Any:
    words = ["simulate", *map(str, arguments), "--advance", "timeline", "--output", "json"]
    done = CliRunner().invoke(main.build(), words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_policy_is_played_without_harm_and_with_it(policy: Path, tmp_path: Path) -> None:
    plot = tmp_path / "seen.svg"
    found = simulated(policy, *FEW, "--harm", "flags=5", "--plot", plot)
    assert (found["null"]["settled"], found["null"]["false_rollback"]) == (2, 0.0)
    assert (found["harmed"]["power"], found["harm"]) == (1.0, {"flagged": 5.0})
    assert found["null"]["interval"][1] == pytest.approx(0.8419, abs=1e-4)
    assert len(re.findall("<polyline", plot.read_text())) == 2


def test_without_a_harm_there_is_one_answer(policy: Path) -> None:
    found = simulated(policy, *FEW)
    assert found["harmed"] is None
    assert found["traffic"]["cards"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--harm", "flags"), "is not WHAT=RATIO"),
        (("--harm", "flogs=2"), "nothing counts flogs"),
        (("--plot", "seen.png"), "is no .svg file"),
        (("--advance", "someday"), "is unknown"),
        (("--recorded", "nowhere"), "is no folder"),
    ],
    ids=["no ratio", "unknown harm", "plot", "advance", "no recording"],
)
def test_what_cannot_be_simulated_is_refused(policy: Path, arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(main.build(), ["simulate", str(policy), *arguments], catch_exceptions=False)
