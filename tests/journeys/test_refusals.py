"""What must never reach traffic, tried from a person's side on a running platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.journeys.shop import Shop, until

from interlock.base.canonical import digest_hex
from interlock.base.errors import RefusedError

PAN = "4000000000000002"
TRANSACTION: dict[str, Any] = {
    "transaction_id": "journey-1",
    "pan": PAN,
    "amount": 1_250,
    "currency": "EUR",
    "terminal_id": "T1",
    "device_id": "D1",
    "ip": "198.18.0.1",
    "mcc": "5411",
    "country": "FR",
    "event_time": "2026-11-24T10:00:00Z",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A deployment in which 1.0.0 serves."""
    shop = Shop(tmp_path_factory.mktemp("shop"))
    with shop.running():
        found = shop.release("1.0.0")
        assert found["outcome"] == "settled", found
        yield shop


def refusals(shop: Shop) -> list[dict[str, Any]]:
    with shop.client() as client:
        return [event.body for event in client.events(types=["release.refused"])]


def refused(shop: Shop, commit: str, words: str) -> None:
    """The release of this commit was refused, saying why, and what served still serves."""
    found = shop.ended(commit)
    assert found["outcome"] == "refused"
    assert words in found["reason"]
    assert any(body["commit"] == commit and words in body["reason"] for body in refusals(shop))
    assert serving(shop) == "1.0.0"


def serving(shop: Shop) -> str:
    status, reply = shop.score(TRANSACTION | {"transaction_id": f"serving-{serving.__dict__.setdefault('n', 0)}"})
    serving.__dict__["n"] += 1
    assert status == 200, reply
    return str(reply["predictions"][0]["model_version"])


def test_a_release_that_nobody_approved_is_refused_and_said_why(shop: Shop) -> None:
    shop.register("2.0.0", seed=2)
    shop.propose("2.0.0")
    refused(shop, shop.merge("2.0.0"), "technical")


def test_an_approval_that_has_expired_does_not_count(shop: Shop) -> None:
    shop.register("2.1.0", seed=3)
    shop.propose("2.1.0")
    for signer in shop.cast.approvers[:2]:
        shop.sign(signer)
    shop.sign_unchecked(shop.cast.approvers[2], expires_in_s=-1.0)
    refused(shop, shop.merge("2.1.0"), "expired")


def test_a_release_approved_by_its_author_is_refused(shop: Shop) -> None:
    author = shop.cast.approvers[0]
    shop.register("2.2.0", seed=4)
    shop.propose("2.2.0", author=author)
    with pytest.raises(RefusedError, match="author"):
        shop.sign(author)
    shop.sign_unchecked(author)
    for signer in shop.cast.approvers[1:]:
        shop.sign(signer)
    refused(shop, shop.merge("2.2.0"), "author")


def test_a_malformed_manifest_is_refused_with_its_line_and_a_remedy(shop: Shop) -> None:
    shop.do.git(shop.repo, "checkout", "--quiet", "main")
    shop.do.git(shop.repo, "pull", "--quiet", "--ff-only", "origin", "main")
    path = shop.repo / "environments/production/services/fraud/rollout.yaml"
    good = path.read_text()
    path.write_text(good.replace("  strategy: canary", "  stratergy: canary"))
    shop.commit(shop.cast.engineer, "Misspell a key")
    commit = shop.push()
    found = until(lambda: next((body for body in refusals(shop) if body["commit"] == commit), None))
    assert "rollout.yaml:5" in found["reason"]
    assert "stratergy" in found["reason"]
    assert "known here: strategy" in found["reason"]
    assert serving(shop) == "1.0.0"
    path.write_text(good)
    shop.commit(shop.cast.engineer, "Spell it right")
    shop.push()


def test_a_bundle_that_was_changed_after_it_was_approved_is_refused(shop: Shop) -> None:
    bundle = shop.register("2.3.0", seed=5)
    shop.propose("2.3.0")
    for signer in shop.cast.approvers:
        shop.sign(signer)
    path = shop.settings.places.bundles / digest_hex(bundle.digest) / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))
    refused(shop, shop.merge("2.3.0"), "model.onnx")


def test_a_card_number_outside_pan_is_refused_and_written_nowhere(shop: Shop) -> None:
    number = "5555555555554444"
    status, reply = shop.score(TRANSACTION | {"transaction_id": "journey-2", "device_id": f"dev {number}"})
    assert status == 400
    assert number not in json.dumps(reply)
    status, reply = shop.score(TRANSACTION | {"transaction_id": "journey-3"})
    assert status == 200
    # The declared number became a token; the other one never came in.
    assert shop.files_holding(number) == []
    assert shop.files_holding(PAN) == []


def test_a_verification_value_is_refused_anywhere(shop: Shop) -> None:
    status, reply = shop.score(TRANSACTION | {"transaction_id": "journey-4", "cvv": "737"})
    assert status == 400
    assert "737" not in json.dumps(reply)


def test_a_malformed_request_gets_the_protocols_error(shop: Shop) -> None:
    status, reply = shop.score({"transaction_id": "journey-5"})
    assert status == 400
    assert set(reply) == {"error"}
