"""A scorer without an online store: tensors are scored, transactions refused, everything else as ever."""

from __future__ import annotations

import json
from pathlib import Path

from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome, predict
from tests.failures.serving.test_versions_and_segments import TENSOR

from interlock.features.definition import feature_set


def test_tensors_need_no_store_and_transactions_are_refused_with_the_remedy(tmp_path: Path) -> None:
    home = ScorerHome(tmp_path, mode="tensors-only")
    try:
        home.serve()
        arm = home.settle("1.0.0")
        status, body = predict(home.connection(), [transaction("t1", 1)])
        assert status == 400
        assert "scoring.mode" in json.loads(body)["error"]
        columns = [
            {"name": name, "shape": [1], "datatype": "INT64" if name == "amount" else "BYTES", "data": [value]}
            for name, value in transaction("t2", 2).items()
        ]
        connection = home.connection()
        for inputs, expected in (([TENSOR], 200), (columns, 400)):
            connection.request("POST", "/v2/models/fraud/infer", json.dumps({"inputs": inputs}))
            reply = connection.getresponse()
            assert (reply.status, reply.read() != b"") == (expected, True)
        assert home.ready()
        assert home.recorded().total() == 1
        other = home.admitted("2.0.0", "candidate", features=feature_set("another", 1, ("card",)))
        home.load(other)
        assert home.state().table is not None
        assert arm.bundle in home.state().loaded
    finally:
        home.stop()
