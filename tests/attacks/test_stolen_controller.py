"""Attacks by whoever owns the controller and the log's key: they can log, sign and write what they like.

What they cannot do is make a scorer take it, or make it unseen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.company import Company

from interlock.apps.control.wishes import Wish
from interlock.base.canonical import canonical, digest_hex
from interlock.base.errors import InterlockError
from interlock.trust import admission, merkle
from interlock.trust.event import NewEvent, entry_bytes
from interlock.trust.log import read_note
from interlock.trust.quorum import Signed

pytestmark = pytest.mark.process  # each on a company of its own, with a real log


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


class Thief:
    """In possession of the control process; wants version 6.6.6 in memory."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self.bundle = company.bundle("6.6.6")
        self.wish: Wish = company.propose(self.bundle)

    def admission(self, signed: list[Signed], **changes: Any) -> dict[str, Any]:
        """A forged admission, with a true proof that it was logged."""
        company, now = self.company, self.company.clock.now_ns()
        files = self.wish.governed["people.json"], self.wish.governed["policy/tiers.yaml"]
        core = admission.core(company.subject(self.wish), self.wish.commit, now, signed, files) | changes
        logged = company.store.append(
            NewEvent(
                time_ns=now,
                type="release.admitted",
                actor="controller",
                origin="controller",
                object="service/fraud",
                outcome="success",
                body={"admission": admission.core_digest(core), "version": "6.6.6"},
            )
        )
        index = company.sequencer.integrate_until(logged.id)
        path = company.sequencer.log.reader().inclusion(index)
        note = read_note(company.settings.places.log)
        found: dict[str, Any] = json.loads(admission.admission_bytes(core, entry_bytes(logged), index, note, path))
        return found

    def load(self, document: dict[str, Any]) -> str:
        """Put the file before the scorer and ask it to load; why it refused."""
        company = self.company
        name = f"{digest_hex(self.wish.folder)}.json"
        path = company.settings.places.admissions / digest_hex(self.bundle.digest) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(canonical(document))
        with pytest.raises(InterlockError) as caught:
            company.scorers.load("fraud", self.bundle.digest, self.wish.folder)
        assert company.scorers.loaded == {company.champion.digest}
        return str(caught.value)


def test_attack_22_it_admits_without_signatures(company: Company) -> None:
    thief = Thief(company)
    assert "quorum is not met" in thief.load(thief.admission([]))
    # What was done is in the log, for everybody to see: an admission that no scorer takes.
    assert [event.body["version"] for event in company.logged("release.admitted")] == ["1.0.0", "6.6.6"]


def test_attack_22_it_brings_people_of_its_own(company: Company) -> None:
    thief = Thief(company)
    people = base64.b64encode(company.people(ada={"roles": ["technical", "risk", "compliance"]})).decode()
    assert "people file is not accepted" in thief.load(thief.admission([], people=people))


def test_attack_22_it_brings_a_policy_of_its_own(company: Company) -> None:
    thief = Thief(company)
    tiers = base64.b64encode(b"schema: 1\ntiers:\n  low: {roles: [risk]}\nservices:\n  fraud: low\n").decode()
    assert "tier policy is not accepted" in thief.load(thief.admission([], tiers=tiers))


def test_attack_07_it_replays_the_champions_signatures(company: Company) -> None:
    thief = Thief(company)
    old = next((company.settings.places.admissions / digest_hex(company.champion.digest)).iterdir())
    statements = json.loads(old.read_bytes())["core"]["statements"]
    assert "about another version" in thief.load(thief.admission([], statements=statements))
    assert "another release" in thief.load(json.loads(old.read_bytes()))


def test_attack_07_it_replays_signatures_made_for_staging(company: Company) -> None:
    thief = Thief(company)
    signed = company.sign(thief.wish, environment="staging")
    statements = [
        {
            "name": name,
            "statement": base64.b64encode(data).decode(),
            "signature": signed.approvals[f"{name}.sig"].decode(),
        }
        for name, data in ((Path(path).stem, data) for path, data in signed.approvals.items() if path.endswith(".json"))
    ]
    subject = company.subject(thief.wish).to_json() | {"environment": "staging"}
    assert "another environment" in thief.load(thief.admission([], statements=statements, subject=subject))


def test_attack_30_it_turns_its_clock_back_for_an_approval_that_expired(company: Company) -> None:
    # Not refused, since the log's time is the only clock that a scorer has, but told: the log's order is
    # not the order of its times.
    thief = Thief(company)
    now = company.clock.now_ns()
    company.clock.wall_ns -= 86_400 * 1_000_000_000
    thief.admission([])
    company.clock.wall_ns = now
    times = [event.time_ns for event in company.logged("release.admitted")]
    assert times != sorted(times)


FORGERIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "an empty proof": lambda log: log.update(proof=[]),
    "an empty hash": lambda log: log.update(proof=["", *log["proof"][1:]]),
    "a short hash": lambda log: log.update(proof=["AAAA", *log["proof"][1:]]),
    "a wrong index": lambda log: log.update(index=0),
    "a negative index": lambda log: log.update(index=-1),
    "an index beyond": lambda log: log.update(index=1 << 52),
    "a proof of another leaf": lambda log: log["proof"].reverse(),
    "a longer proof": lambda log: log["proof"].append(log["proof"][-1]),
    "another entry": lambda log: log.update(entry=base64.b64encode(b'{"type":"release.admitted"}').decode()),
    "a node as a leaf": lambda log: log.update(entry=base64.b64encode(merkle.node_hash(b"a", b"b")).decode()),
    "a huge size": lambda log: log.update(checkpoint=log["checkpoint"].replace("\n", "\n9", 1)),
    "no signature": lambda log: log.update(checkpoint=log["checkpoint"].split("—")[0]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_attack_24_it_forges_a_proof(company: Company, name: str) -> None:
    old = next((company.settings.places.admissions / digest_hex(company.champion.digest)).iterdir())
    document = json.loads(old.read_bytes())
    assert len(document["log"]["proof"]) > 1
    folder = company.controller._known.settled["fraud"][-1].folder
    company.scorers.load("fraud", company.champion.digest, folder)
    FORGERIES[name](document["log"])
    old.write_bytes(canonical(document))
    with pytest.raises(InterlockError):
        company.scorers.load("fraud", company.champion.digest, folder)
