"""Reasons over HTTP: a real scorer asks a real explainer, who may be gone while payments go on."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.admitting import admit
from tests.doorkeeper import access_file, key, key_entry
from tests.explaining import trained_bundle
from tests.scoring import PREDICT, SCORING, Scorer, body_of, card, scorer, transaction

from interlock import settings
from interlock.adapters.sql.events import SqlEventStore
from interlock.settings import read_endpoints
from interlock.trust.event import Event
from interlock.wiring.platform import answers

pytestmark = pytest.mark.process

EXPLAIN = "/v1/models/fraud:explain"
SHOP, ANALYST = 1, 2


class Shop:
    """A scorer with a trained model, a shop that may score, an analyst who may ask why, and the explainer."""

    def __init__(self, made: Scorer) -> None:
        self.scorer = made
        analyst = key_entry(ANALYST, name="ana", roles=["explain"])
        (made.home / "trust").mkdir()
        (made.home / "trust" / "access.yaml").write_bytes(access_file(keys=[key_entry(SHOP), analyst]))
        self.bundle = trained_bundle(made.settings.places.bundles)
        admit(made.home, self.bundle, made.office)
        # XGBoost is long in coming on a busy machine, at the explainer's priority.
        settings.write(made.home, {"scoring": SCORING | {"workers": 1}, "explain": {"patience_s": 100.0}})
        made.serve(self.bundle)
        self.explainer: subprocess.Popen[bytes] | None = None

    def start_explainer(self) -> subprocess.Popen[bytes]:
        with (self.scorer.settings.places.run / "explain.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "interlock.apps.job.explain"],
                env={**os.environ, "INTERLOCK_HOME": str(self.scorer.home)},
                stdout=log,
                stderr=log,
            )
        self.explainer = process
        self.scorer.until(lambda: answers(read_endpoints(self.scorer.home).get("explain"), ""), "the explainer listens")
        return process

    def stop_explainer(self) -> None:
        if self.explainer is not None:
            self.explainer.kill()
            self.explainer.wait()
            self.explainer = None

    def post(self, path: str, body: bytes, who: int) -> tuple[int, Any, str | None]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key(who).text}"}
        connection = http.client.HTTPConnection(*self.scorer.address, timeout=110)
        with contextlib.closing(connection):
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read()), reply.headers["retry-after"]

    def decide(self, name: str) -> dict[str, Any]:
        status, body, _ = self.post(PREDICT, body_of(transaction(name, 7, amount=88_000)), SHOP)
        assert status == 200, body
        found: dict[str, Any] = body["predictions"][0]
        return found

    def audit(self) -> list[Event]:
        with contextlib.closing(SqlEventStore.open(self.scorer.settings.places.events)) as store:
            return store.after(0, ["decision.explained", "access.denied"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with scorer(tmp_path_factory.mktemp("explain-door")) as made:
        whole = Shop(made)
        whole.start_explainer()
        yield whole
        whole.stop_explainer()


def test_a_decision_is_explained_by_its_id_and_by_its_transaction_alike(shop: Shop) -> None:
    made, before = shop.decide("why-1"), len(shop.scorer.records())
    asked = json.dumps({"decision_ids": [made["decision_id"]]}).encode()
    status, body, _ = shop.post(EXPLAIN, asked, ANALYST)
    assert status == 200, body
    (found,) = body["explanations"]
    assert (found["decision_id"], found["score"], found["decision"]) == (
        made["decision_id"],
        made["score"],
        made["decision"],
    )
    assert found["reasons"][0]["code"] == "R05"
    total = found["base_value"] + sum(row["contribution"] for row in found["contributions"])
    assert total == pytest.approx(found["margin"], abs=1e-4)
    status, again, _ = shop.post(EXPLAIN, body_of(transaction("why-1", 7, amount=88_000)), ANALYST)
    assert (status, again) == (200, body)
    assert card(7) not in json.dumps(again)
    assert len(shop.scorer.records()) == before  # asking decides and counts nothing
    assert [(event.actor, event.object) for event in shop.audit()][-2:] == [
        ("ana", f"decision/{made['decision_id']}")
    ] * 2


def test_who_may_score_may_not_ask_why(shop: Shop) -> None:
    made, before = shop.decide("why-2"), len(shop.audit())
    asked = json.dumps({"decision_ids": [made["decision_id"]]}).encode()
    assert shop.post(EXPLAIN, asked, SHOP)[0] == 403
    assert shop.post(PREDICT, body_of(transaction("why-3")), ANALYST)[0] == 403
    assert len(shop.audit()) == before


def test_nothing_in_a_worker_explains(shop: Shop) -> None:
    assert shop.post(EXPLAIN, json.dumps({"decision_ids": [shop.decide("why-4")["decision_id"]]}).encode(), ANALYST)
    for worker in shop.scorer.workers():
        mapped = Path(f"/proc/{worker}/maps").read_text()
        assert "onnxruntime" in mapped
        assert "libxgboost" not in mapped


def test_payments_go_on_without_an_explainer_and_reasons_come_back_with_it(shop: Shop) -> None:
    made = shop.decide("why-5")
    asked = json.dumps({"decision_ids": [made["decision_id"]]}).encode()
    shop.stop_explainer()
    status, body, retry = shop.post(EXPLAIN, asked, ANALYST)
    assert (status, retry) == (503, "1")
    assert "error" in body
    assert shop.decide("why-6")["degraded"] is False
    shop.start_explainer()
    status, body, _ = shop.post(EXPLAIN, asked, ANALYST)
    assert (status, body["explanations"][0]["decision_id"]) == (200, made["decision_id"])
