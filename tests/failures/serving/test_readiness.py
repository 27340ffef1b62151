"""Ready means: everything that is routed is loaded and warm (modes 1 and 2). An open port means nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.failures.load import transaction
from tests.failures.scorer_home import get, predict, scorer_home, until

from interlock.base.canonical import digest_hex
from interlock.base.errors import RefusedError


def test_a_scorer_without_a_model_listens_lives_and_is_not_ready(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        assert get(home.connection(), "/v2/health/live")[0] == 200
        assert get(home.connection(), "/v2/health/ready")[0] == 503
        status, body = predict(home.connection(), [transaction("early", 1)])
        assert (status, "error" in json.loads(body)) == (404, True)
        home.load(home.admitted("1.0.0"))
        assert get(home.connection(), "/v2/health/ready")[0] == 503, "loaded is not routed"
        home.settle("1.1.0")
        assert get(home.connection(), "/v2/health/ready")[0] == 200


def test_the_only_model_cannot_be_unloaded_and_when_it_cannot_be_loaded_nobody_is_sent_here(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        champion = home.settle()
        with pytest.raises(RefusedError, match="still names it"):
            home.client.unload(champion.bundle)
        assert home.ready()
        assert home.terminate() == 0
        model = home.places.bundles / digest_hex(champion.bundle) / "model.onnx"
        model.rename(tmp_path / "model.onnx")
        home.serve()
        assert get(home.connection(), "/v2/health/live")[0] == 200
        assert get(home.connection(), "/v2/health/ready")[0] == 503
        assert predict(home.connection(), [transaction("failed", 1)])[0] in (404, 503)
        (tmp_path / "model.onnx").rename(model)
        home.load(champion)
        home.route(champion)
        until(home.ready, "it is ready when the model is")
        assert home.versions("after", 5) == {"1.0.0": 5}
