"""A real scorer with several services and versions: who decides what, over every protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.builders import tiny_files
from tests.doorkeeper import access_file, key, key_entry
from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome, get, scorer_home, until

from interlock.base.canonical import digest_hex
from interlock.decision import record
from interlock.decision.archive import Archive
from interlock.decision.table import Segments
from interlock.features.definition import FRAUD

RULES = Segments("country", {"FR": "fraud-fr", "DE": "fraud-de"})
TENSOR = {"name": "vectors", "shape": [1, FRAUD.width], "datatype": "FP32", "data": [0.5] * FRAUD.width}


def post(home: ScorerHome, path: str, document: Any) -> tuple[int, Any]:
    connection = home.connection()
    body = document if isinstance(document, bytes) else json.dumps(document)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key().text}"}
    connection.request("POST", path, body, headers)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read() or b"null")


def grant(home: ScorerHome) -> None:
    """A key that may score and operate; anybody else may look."""
    entry = key_entry(roles=["score", "operate", "observe"], services="all")
    looks = {"roles": ["observe"], "services": "all"}
    (home.places.trust / "access.yaml").write_bytes(access_file(keys=[entry], anonymous=looks))
    until(lambda: post(home, "/v2/repository/models/fraud/load", {})[0] != 401, "the grant holds in every worker", 5)
    until(lambda: all(states(home) for _ in range(12)), "it does")


def predictions(home: ScorerHome, *countries: str, prefix: str = "t") -> list[dict[str, Any]]:
    instances = [
        transaction(f"{prefix}{place}", place) | {"country": country} for place, country in enumerate(countries)
    ]
    status, body = post(home, "/v1/models/fraud:predict", {"instances": instances})
    assert status == 200, body
    found: list[dict[str, Any]] = body["predictions"]
    return found


def states(home: ScorerHome) -> dict[str, str]:
    status, listed = post(home, "/v2/repository/index", b"")
    if status != 200:  # a worker that has not read the grant yet
        return {}
    return {each["version"]: each["state"] for each in listed}


def malformed_requests_are_refused(home: ScorerHome) -> None:
    for path in ("/v2/repository/index", "/v2/repository/models/fraud/load"):
        for body in (b"{", b"[]", b'{"ready": 1, "parameters": 1}', b'{"ready": "", "parameters": {"version": 1}}'):
            assert post(home, path, body)[0] == 400
        assert post(home, path, b"")[0] == 200
    assert [each["version"] for each in post(home, "/v2/repository/index", {"ready": True})[1]] == ["1.0.0"]
    ready = [get(home.connection(), f"/v2/models/fraud/versions/{version}/ready")[0] for version in ("9.9.9", "1.0.0")]
    assert ready == [404, 200]


def test_a_segment_goes_to_its_own_service_and_back_when_that_one_is_gone(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        home.settle("1.0.0", segments=RULES)
        grant(home)
        told = predictions(home, "NL", "FR", "DE", prefix="a")
        assert [each["model_version"] for each in told] == ["1.0.0"] * 3
        until(lambda: b"interlock_unrouted_total 2" in get(home.connection(), "/metrics")[1], "both are counted")
        home.settle("9.0.0", "fraud-fr")
        told = predictions(home, "NL", "FR", "DE", prefix="b")
        assert [each["model_version"] for each in told] == ["1.0.0", "9.0.0", "1.0.0"]
        assert [each.get("service") for each in told] == [None, "fraud-fr", None]
        column = {"shape": [1], "datatype": "BYTES"}
        inputs = [
            {**column, "name": name, "data": [value], "datatype": "INT64" if name == "amount" else "BYTES"}
            for name, value in (transaction("v2", 7) | {"country": "FR"}).items()
        ]
        asked = {"inputs": inputs, "outputs": [{"name": "service"}, {"name": "model_version"}]}
        status, body = post(home, "/v2/models/fraud/infer", asked)
        assert (status, [each["data"] for each in body["outputs"]]) == (200, [["fraud-fr"], ["9.0.0"]])
        assert predictions(home, "NL", "NL", prefix="b")[1] == told[1], "a retry gets its first reply"
        kept = Archive(home.places.segments).latest("fraud", "b1")
        assert kept is not None
        assert (kept.record.service, kept.record.asked, kept.record.version) == ("fraud-fr", "fraud", "9.0.0")


def test_an_admitted_version_is_loaded_by_every_worker_and_crashes_none(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        home.settle("1.0.0")
        grant(home)
        home.admitted("2.0.0", seed=2)
        broken = home.admitted("3.0.0", seed=3)
        model = home.places.bundles / digest_hex(broken.bundle) / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(tiny_files(seed=4)["model.onnx"])
        workers = home.workers()
        listed = {"1.0.0": "READY", "2.0.0": "UNAVAILABLE", "3.0.0": "UNAVAILABLE"}
        until(lambda: states(home) == listed, "both are listed")
        named = {"parameters": {"version": "2.0.0"}}
        assert post(home, "/v2/repository/models/fraud/load", named)[0] == 200
        for _ in range(12):  # whichever worker accepts
            assert states(home)["2.0.0"] == "READY"
            status, body = post(home, "/v2/models/fraud/versions/2.0.0/infer", {"inputs": [TENSOR]})
            assert (status, body["model_version"]) == (200, "2.0.0")
        assert post(home, "/v2/models/fraud/versions/3.0.0/infer", {"inputs": [TENSOR]})[0] == 403
        assert home.workers() == workers
        assert post(home, "/v2/repository/models/fraud/unload", named)[0] == 200
        assert all(states(home)["2.0.0"] == "UNAVAILABLE" for _ in range(12))
        assert post(home, "/v2/repository/models/fraud/unload", {"parameters": {"version": "1.0.0"}})[0] == 403
        malformed_requests_are_refused(home)
        home.client.seal()
        apart = [each for each in Archive(home.places.segments).records() if each.version == "2.0.0"]
        assert {(each.arm, each.degraded) for each in apart} == {("on-demand", record.PINNED | record.GIVEN)}
        assert len(apart) == 12
        assert not any(each.version == "2.0.0" for each in (home.state().table or pytest.fail("none")).arms)
