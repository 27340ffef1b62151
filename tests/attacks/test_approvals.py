"""Attacks on who may release what: each ends in a refusal that the verified log tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.attacks.company import APPROVERS, ROOT, Company

from interlock.apps.control import founding
from interlock.base.canonical import digest_hex
from interlock.base.errors import UsageError
from interlock.trust.sshsig import Key, public_line, sign

pytestmark = pytest.mark.process  # each on a company of its own, with real models and a real log


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path)


def test_the_company_itself_releases_what_its_people_signed(company: Company) -> None:
    # The control of the experiment: everything below is refused for its own reason.
    company.sign(company.propose(company.bundle("2.0.0")))
    company.run()
    assert company.serving() == "2.0.0"
    assert [event.body["version"] for event in company.logged("release.admitted")] == ["1.0.0", "2.0.0"]


def test_attack_01_a_manifest_pushed_straight_to_main(company: Company) -> None:
    company.propose(company.bundle("2.0.0"))
    company.refused("nobody approved as technical", "nobody approved as risk", "nobody approved as compliance")


def test_attack_01_two_of_three_roles(company: Company) -> None:
    company.sign(company.propose(company.bundle("2.0.0")), {"tess": "technical", "rik": "risk"})
    assert "technical" not in company.refused("nobody approved as compliance")


def test_attack_01_by_somebody_unknown(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish)
    company.push({f"{ROOT}/release.yaml": company.manifests(company.bundle("2.1.0"))["release.yaml"]}, "mallory")
    company.refused("author who is not in people.json")


def test_attack_03_the_author_of_the_commit_approves(company: Company) -> None:
    company.sign(
        company.propose(company.bundle("2.0.0"), "dora"),
        {"dora": "technical", "rik": "risk", "cleo": "compliance"},
    )
    company.refused("dora is an author of this release")


def test_attack_03_the_author_of_the_training_approves(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0", trained_by="dora"), "ada")
    company.sign(wish, {"dora": "technical", "rik": "risk", "cleo": "compliance"})
    company.refused("dora is an author of this release")


def test_attack_03_the_author_hides_behind_the_last_commit_of_somebody_else(company: Company) -> None:
    bundle = company.bundle("2.0.0")
    files = company.manifests(bundle)
    company.push({f"{ROOT}/release.yaml": files["release.yaml"]}, "dora")
    wish = company.push({f"{ROOT}/rollout.yaml": files["rollout.yaml"] + b"\n"}, "ada")
    company.sign(wish, {"dora": "technical", "rik": "risk", "cleo": "compliance"})
    company.refused("dora is an author of this release")


def _alias(company: Company) -> dict[str, object]:
    return {"emails": ["DORA@example.org"], "keys": [public_line(Key.generate())]}


def _same_key(company: Company) -> dict[str, object]:
    return {"emails": ["d@example.org"], "keys": [public_line(company.keys["dora"]) + " my other laptop"]}


@pytest.mark.parametrize("second", [_alias, _same_key])
def test_attack_04_a_second_account_of_the_same_person(
    company: Company, second: Callable[[Company], dict[str, object]]
) -> None:
    company.sign(company.propose(company.bundle("2.0.0")))
    document = json.loads(company.people())
    document["people"].append({"id": "dora2", "roles": ["risk"], **second(company)})
    people = json.dumps(document).encode()
    with pytest.raises(UsageError, match="two people share"):
        founding.check(people, founding.default_tiers())
    company.git.push({"people.json": people}, "ada@example.org")
    company.refused("two people share")


def test_attack_05_one_person_in_two_roles(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish, {"dora": "technical", "cleo": "compliance"})
    data = company.statement(wish, "dora", "risk")
    company.push(company.approval(wish, "dora.risk", data, sign(data, company.keys["dora"])))
    company.refused("dora signed in a second role", "nobody approved as technical")


def test_attack_06_approved_one_thing_and_merged_another(company: Company) -> None:
    bundle = company.bundle("2.0.0")
    wish = company.propose(bundle)
    company.sign(wish)
    company.propose(company.bundle("2.1.0"))
    company.refused("nobody approved as technical")


def test_attack_06_approvals_copied_to_the_changed_folder(company: Company) -> None:
    good = company.sign(company.propose(company.bundle("2.0.0")))
    changed = company.propose(company.bundle("2.1.0"))
    place = f"approvals/{digest_hex(changed.folder)}"
    company.push({f"{place}/{name}": data for name, data in good.approvals.items()})
    company.refused("the statement is about another version, folder, bundle")


def test_attack_06_a_rewritten_branch(company: Company) -> None:
    company.git.rewritten = True
    company.refused("was rewritten")


@pytest.mark.parametrize(
    "changes",
    [{"environment": "staging"}, {"service": "credit"}, {"version": "1.9.9"}, {"policy": "sha256:" + "0" * 64}],
    ids=lambda changes: next(iter(changes)),
)
def test_attack_07_an_approval_from_elsewhere(company: Company, changes: dict[str, str]) -> None:
    company.sign(company.propose(company.bundle("2.0.0")), **changes)
    company.refused(f"about another {next(iter(changes))}")


def test_attack_07_an_approval_that_has_expired(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish, days=1)
    company.clock.advance(2 * 86_400)
    company.refused("expired", "nobody approved as risk")


def test_attack_07_an_expiry_written_further_out_after_signing(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    files: dict[str, bytes] = {}
    for who, role in APPROVERS.items():
        short = company.statement(wish, who, role, days=1)
        longer = company.statement(wish, who, role, days=90)
        files |= company.approval(wish, f"{who}.{role}", longer, sign(short, company.keys[who]))
    company.clock.advance(2 * 86_400)
    company.push(files)
    company.refused("not over these bytes")


def test_attack_08_somebody_revoked_before_the_quorum_was_complete(company: Company) -> None:
    company.govern(company.people(rik={"revoked": "2026-01-01T00:00:00Z"}))
    company.sign(company.propose(company.bundle("2.0.0")))
    company.refused("rik has been revoked", "nobody approved as risk")


def test_attack_08_a_leavers_key_is_no_longer_listed(company: Company) -> None:
    company.govern(company.people(rik={"keys": []}))
    company.sign(company.propose(company.bundle("2.0.0")))
    company.refused("by a key that is not trusted")


def test_attack_27_a_people_file_that_names_its_writer_to_every_role(company: Company) -> None:
    company.git.push({"people.json": company.people(ada={"roles": list(APPROVERS.values())})}, "ada@example.org")
    company.sign(company.propose(company.bundle("2.0.0")))
    company.refused("not what this installation accepts")


def test_attack_27_a_tier_policy_that_asks_for_nobody_else(company: Company) -> None:
    policy = founding.default_tiers().replace(b"[technical, risk, compliance]", b"[technical]")
    company.git.push({"policy/tiers.yaml": policy}, "ada@example.org")
    company.sign(company.propose(company.bundle("2.0.0")), {"tess": "technical"})
    company.refused("not what this installation accepts")


def test_attack_27_a_signature_by_somebody_elses_key(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish, {"tess": "technical", "cleo": "compliance"})
    data = company.statement(wish, "rik", "risk")
    company.push(company.approval(wish, "rik.risk", data, sign(data, company.keys["ada"])))
    company.refused("not trusted")


def test_attack_27_a_signature_made_for_another_purpose(company: Company) -> None:
    wish = company.propose(company.bundle("2.0.0"))
    company.sign(wish, {"tess": "technical", "cleo": "compliance"})
    data = company.statement(wish, "rik", "risk")
    company.push(company.approval(wish, "rik.risk", data, sign(data, company.keys["rik"], "git")))
    company.refused("for another purpose")


def test_attack_30_a_refusal_is_not_outvoted(company: Company) -> None:
    wish = company.sign(company.propose(company.bundle("2.0.0")))
    name = "rik.risk"
    data = wish.approvals[f"{name}.json"].replace(b'"decision":"approve"', b'"decision":"refuse"')
    company.push(company.approval(wish, f"{name}.again", data, sign(data, company.keys["rik"])))
    company.refused("rik refused as risk")


def test_attack_30_an_approval_replayed_after_a_rollback_does_not_bring_it_back(company: Company) -> None:
    bad = company.bundle("2.0.0")
    wish = company.sign(company.propose(bad))
    company.scorers.behaviours[bad.digest] = replace(company.scorers.behaviours[company.champion.digest], flag_rate=0.9)
    company.controller.turn()
    company.controller.turn()
    company.scorers.retreat("fraud", "person-1", "complaints", "sam", company.clock.now_ns())
    company.run()
    assert company.serving() == "1.0.0"
    again = company.push({f"{ROOT}/{name}": data for name, data in company.manifests(bad).items()})
    company.run()
    assert company.serving() == "1.0.0"
    assert "quarantine" in company.logged("release.refused")[-1].body["reason"]
    # One new signature beside the old ones is no new quorum: those that had let it in are spent.
    data = wish.approvals["rik.risk.json"]
    company.push(company.approval(again, "rik.risk.again", data, sign(data, company.keys["rik"])))
    company.run()
    assert company.serving() == "1.0.0"
    assert [event.body["folder"] for event in company.logged("release.quarantined")] == [wish.folder]
    assert "quarantine" in company.logged("release.refused")[-1].body["reason"]
