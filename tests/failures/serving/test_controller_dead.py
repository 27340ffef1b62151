"""The controller dies in the middle of a canary and nobody starts another: the champion answers again."""

from __future__ import annotations

from pathlib import Path

from tests.failures.deployment import deployment
from tests.failures.load import Load

from interlock.adapters.scorers.client import ScorerClient


def test_when_the_lease_of_a_dead_controller_lapses_the_champion_answers_everything(tmp_path: Path) -> None:
    with deployment(tmp_path, table_lease_s=5.0) as made:
        url = made.serve()
        controller = made.control()
        made.release("1.0.0")
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        scorer = ScorerClient(made.settings.places.admin_socket)
        with Load(url, rate=100, anew=5) as load:
            made.release("1.1.0", policy="{weight: 50, for: 100s}")
            made.until(lambda: load.answers.get("1.1.0"), "the candidate answers")
            controller.kill()
            controller.wait()
            made.until(lambda: scorer.status().services["fraud"].latch, "the supervisor goes back")
            load.flows()  # what was under way
            candidate = load.answers["1.1.0"]
            load.flows(100)
            assert load.answers["1.1.0"] == candidate
            made.control()
            told = made.until(lambda: made.ended("1.1.0"), "the next controller ends the rollout")
            assert told["outcome"] == "rolled_back"
        assert load.failures == []
        state = scorer.status().services["fraud"]
        assert state.table is not None
        assert [arm.version for arm in state.table.arms] == ["1.0.0"]
