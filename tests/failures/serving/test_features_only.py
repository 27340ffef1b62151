"""A scorer before another server's predictor, which here is a second scorer that takes tensors only."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.failures.scorer_home import ScorerHome, until

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.errors import InterlockError
from interlock.decision import segment
from interlock.decision.decide import decide
from interlock.decision.model import open_model
from interlock.registry import bundle as bundles


def test_it_decides_by_the_predictors_scores_and_degrades_without_it(tmp_path: Path) -> None:
    predictor = ScorerHome(tmp_path / "predictor", mode="tensors-only", workers=1)
    before = None
    try:
        predictor.serve()
        arm = predictor.settle("1.0.0")
        before = ScorerHome(tmp_path / "before", mode="features-only", workers=1, predictor_url=predictor.url)
        before.start_store()
        before.serve()
        before.settle("1.0.0")
        told = before.ask([f"a{number}" for number in range(8)])
        assert [(each["model_version"], each["degraded"]) for each in told] == [("1.0.0", False)] * 8
        model = open_model(bundles.read(before.places.bundles, arm.bundle), OnnxRuntime.from_bytes)
        for path in before.places.segments.glob("[!.]*.open"):
            for kept in segment.read(path).records():
                assert kept.score == float(decide(model, kept.features()[None, :]).scores[0])
        assert predictor.recorded().total() >= 8, "it has scored them"
        other = before.admitted("2.0.0", "candidate", seed=5)
        with pytest.raises(InterlockError, match="golden"):
            before.load(other)
        predictor.stop()
        told = before.ask(["b1", "b2"])
        assert [(each["degraded"], each["score"], each["decision"]) for each in told] == [(True, None, "REVIEW")] * 2
        assert before.ready()
    finally:
        predictor.stop()
        if before is not None:
            before.stop()


def test_it_does_not_start_without_knowing_its_predictor(tmp_path: Path) -> None:
    home = ScorerHome(tmp_path, mode="features-only")
    home.places.run.mkdir(parents=True)
    process = home.launch()
    until(lambda: process.poll() is not None, "it ends")
    assert process.returncode == 2
    assert "scoring.predictor_url" in home.log()
