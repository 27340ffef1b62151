"""Attacks on who may score: each is refused at the gate, and the verified log tells who tried what and why not."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from tests import doorkeeper
from tests.doorkeeper import ISSUER, NOW_S, Idp, access_file, claims, issuer_entry, key, key_entry
from tests.serving.one_gate import LISTED, PEER, Door, bearer
from tests.world import MemoryScorers

from interlock.apps.control.fleet import Fleet
from interlock.apps.control.memory import Memory
from interlock.apps.control.sequencer import Sequencer
from interlock.apps.scorer.denials import Denials
from interlock.apps.views import audit
from interlock.base.clock import ManualClock
from interlock.decision.admin import Observed
from interlock.serving.call import Unanswered
from interlock.trust.fsck import verify_folder
from interlock.trust.log import LogWriter
from interlock.trust.memory import MemoryEventStore
from interlock.trust.note import Signer
from interlock.trust.sshsig import Key

pytestmark = pytest.mark.process  # each with a log of its own
SIGNER = Signer("interlock/test", Key.generate())


class Bank:
    """A scoring door with a shop, an issuer and a peer; behind it supervisor, controller, sequencer and log."""

    def __init__(self, folder: Path) -> None:
        self.idp = Idp("RS256")
        self.folder = folder
        data = access_file(
            keys=[key_entry(1), key_entry(3, name="operator", roles=["operate"], services="all")],
            oidc=[issuer_entry(jwksFile="keys.json")],
            certificates=[LISTED],
        )
        self.door = Door(folder, data)
        self.publish(self.idp)
        self.denials, self.store, self.clock = Denials(), MemoryEventStore(), ManualClock()
        self.fleet = Fleet(MemoryScorers(self.clock, 1), self.store, self.clock, "controller")
        self.memory = Memory()

    def publish(self, idp: Idp) -> None:
        (self.door.path.parent / "keys.json").write_bytes(idp.key_set())
        self.door.clock.advance(301)
        self.door.turn()

    def ask(self, action: str, service: str, headers: Mapping[bytes, bytes], peer: Any = None) -> str:
        """Who was let in."""
        found = self.door.gate.identify(headers, peer)
        self.door.gate.check(found, action, service)
        return found.name

    def token(self, token: str, action: str = "predict") -> str:
        return self.ask(action, "fraud", {b"authorization": f"Bearer {token}".encode()})

    def refused(self, status: int, why: str, action: str, headers: Mapping[bytes, bytes], peer: Any = None) -> None:
        """It was not let in, and the log says so."""
        with pytest.raises(Unanswered) as caught:
            self.ask(action, "fraud", headers, peer)
        assert caught.value.status == status
        (entry,) = self.logged()
        assert why in entry["body"]["reason"]
        assert entry["body"]["action"] in (action, "authenticate")

    def refused_token(self, token: str, why: str, status: int = 401, action: str = "predict") -> None:
        self.refused(status, why, action, {b"authorization": f"Bearer {token}".encode()})

    def logged(self) -> list[dict[str, Any]]:
        self.door.turn()
        self.denials.add(self.door.told, self.clock.now_ns())
        for _ in range(3):  # the controller sees the newest at every look, and records each once
            self.fleet.record_denials(Observed(1, {}, denials=self.denials.newest()), self.memory)
        Sequencer(self.store, LogWriter(self.folder / "log", SIGNER), self.clock, "one").run_once()
        vkey = SIGNER.verifier.to_text()
        assert verify_folder(self.folder / "log", vkey, wait=lambda seconds: None).verified
        return list(audit.entries(self.folder / "log", vkey, None, frozenset({"access.denied"})))


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path)


def b64(value: Any) -> str:
    return doorkeeper.b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def test_the_bank_lets_in_whom_it_lists(bank: Bank) -> None:
    # The control of the experiment: everything below is refused for its own reason.
    assert bank.ask("predict", "fraud", {b"authorization": bearer().encode()}) == "shop1"
    assert bank.token(bank.idp.sign()) == "tess@" + ISSUER.removeprefix("https://")
    assert bank.ask("metrics", "", {}, PEER) == "shop1"
    assert bank.logged() == []


def test_attack_27_a_token_that_says_it_needs_no_signature(bank: Bank) -> None:
    token = f"{b64({'alg': 'none', 'kid': 'k1'})}.{b64(claims())}.AAAA"
    bank.refused_token(token, "algorithm is not accepted")


def test_attack_27_a_token_signed_with_the_public_key(bank: Bank) -> None:
    signed = f"{b64({'alg': 'HS256', 'kid': 'k1'})}.{b64(claims())}"
    mac = hmac.digest(bank.idp.key.as_pem(private=False), signed.encode(), "sha256")
    bank.refused_token(f"{signed}.{b64(mac)}", "algorithm is not accepted")


def test_attack_27_a_token_that_brings_its_own_key(bank: Bank) -> None:
    thief = Idp("RS256", "k1", RSAKey.generate_key(2048))
    bank.refused_token(thief.sign(None, jwk=thief.public, jku="https://evil.example.org"), "signature does not hold")


def test_attack_27_a_kid_that_points_elsewhere(bank: Bank) -> None:
    bank.refused_token(Idp("RS256", "../../etc/passwd").sign(), "key that its issuer does not list")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"aud": "billing"}, "another audience"),
        ({"iss": "https://login.example.com/realms/shop"}, "issuer is not accepted"),
        ({"exp": NOW_S}, "expired"),
        ({"nbf": NOW_S + 9_000}, "not valid yet"),
    ],
)
def test_attack_27_a_token_made_for_somebody_or_some_time_else(bank: Bank, changes: dict[str, Any], why: str) -> None:
    bank.refused_token(bank.idp.sign(claims(**changes)), why)


def test_attack_27_a_token_of_a_withdrawn_key(bank: Bank) -> None:
    token = bank.idp.sign(claims(exp=NOW_S + 90_000))
    bank.token(token)
    bank.publish(Idp("ES256", "k2"))
    bank.refused_token(token, "key that its issuer does not list")


def test_attack_27_a_token_that_names_its_own_roles(bank: Bank) -> None:
    body = claims(groups=["score", "admin"], roles=["operate"], realm_access={"roles": ["operate"]})
    bank.refused_token(bank.idp.sign(body), "not granted", 403)


def test_attack_27_an_oversized_token(bank: Bank) -> None:
    bank.refused_token(bank.idp.sign(claims(padding="x" * 60_000)), "too long")


@pytest.mark.parametrize("action", ["repository.load", "repository.unload", "explain", "access.write", "metrics"])
def test_attack_27_a_key_used_for_what_it_was_not_granted(bank: Bank, action: str) -> None:
    bank.refused(403, "not granted", action, {b"x-api-key": key(1).text.encode()})


def test_attack_27_an_operator_who_scores(bank: Bank) -> None:
    bank.refused(403, "not granted", "predict", {b"x-api-key": key(3).text.encode()})


def test_attack_27_a_key_of_one_service_used_for_another(bank: Bank) -> None:
    with pytest.raises(Unanswered) as caught:
        bank.ask("predict", "credit", {b"x-api-key": key(1).text.encode()})
    assert caught.value.status == 403
    (entry,) = bank.logged()
    assert (entry["actor"], entry["object"]) == ("shop1", "service/credit")


def test_attack_27_a_proxys_headers_sent_by_the_caller(bank: Bank) -> None:
    spoofed = {
        b"x-forwarded-client-cert": b'URI=spiffe://example.org/shop;Subject="CN=shop"',
        b"x-forwarded-user": b"shop1",
        b"x-remote-user": b"shop1",
        b"x-forwarded-for": b"127.0.0.1",
        b"ssl-client-verify": b"SUCCESS",
        b"forwarded": b"for=127.0.0.1",
    }
    bank.refused(401, "no credential", "predict", spoofed)


def test_attack_27_a_certificate_whose_common_name_is_somebody_elses_uri(bank: Bank) -> None:
    peer = {"subject": ((("commonName", "spiffe://example.org/shop"),),)}
    bank.refused(401, "no credential", "predict", {}, peer)


def test_attack_27_a_key_beside_somebody_elses_certificate(bank: Bank) -> None:
    bank.refused(401, "different principals", "predict", {b"x-api-key": key(3).text.encode()}, PEER)


def test_attack_27_a_key_that_was_revoked_fails_at_the_next_look(bank: Bank) -> None:
    bank.ask("predict", "fraud", {b"authorization": bearer().encode()})
    bank.door.change(access_file(keys=[key_entry(3, name="operator", roles=["operate"], services="all")]))
    bank.refused(401, "no valid API key", "predict", {b"authorization": bearer().encode()})


def test_attack_27_a_grant_edited_into_a_file_that_breaks_a_rule(bank: Bank) -> None:
    edited = json.loads(bank.door.path.read_bytes())
    edited["spec"]["keys"][0]["roles"] = ["score", "operate", "root"]
    bank.door.change(json.dumps(edited).encode())
    bank.refused(403, "not granted", "repository.unload", {b"x-api-key": key(1).text.encode()})


def test_attack_27_guessing_keys_is_told_once_with_its_number(bank: Bank) -> None:
    for number in range(200):
        with pytest.raises(Unanswered):
            bank.door.gate.identify({b"x-api-key": f"ilk_{key(1).id}_{number:043d}".encode()})
    (entry,) = bank.logged()
    assert entry["body"]["count"] == 200
    assert (entry["actor"], entry["outcome"]) == ("unknown", "refused")
    assert not any(f"{number:043d}" in json.dumps(entry) for number in range(200))
