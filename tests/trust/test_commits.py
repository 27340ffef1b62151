"""Who wrote a release, as far as the commits prove it."""

from __future__ import annotations

import json

import pytest

from interlock.base.errors import RefusedError, UsageError
from interlock.trust.commits import Commit, writers
from interlock.trust.people import People
from interlock.trust.sshsig import Key, public_line, sign
from interlock.trust.tiers import TierPolicy

NOW = 1_800_000_000 * 10**9
KEYS = {who: Key.generate() for who in ("ada", "ben", "rik", "eve")}


def people(**changes: dict[str, object]) -> People:
    entries = [
        {"id": who, "emails": [f"{who}@example.org"], "roles": [], "keys": [public_line(KEYS[who])]}
        | changes.get(who, {})
        for who in ("ada", "ben", "rik")
    ]
    return People.parse(json.dumps({"schema": 1, "people": entries}).encode())


def commit(author: str, by: str | None, committer: str | None = None, namespace: str = "git") -> Commit:
    payload = f"author {author}".encode()
    signature = "" if by is None else sign(payload, KEYS[by], namespace)
    return Commit("c" * 40, f"{author}@example.org", f"{committer or author}@example.org", payload, signature)


def test_a_commit_signed_by_its_author_proves_it() -> None:
    assert writers([commit("ada", "ada"), commit("ben", "ben")], people(), "signed", NOW) == (
        "ada@example.org",
        "ben@example.org",
    )


def test_listed_takes_the_author_at_their_word() -> None:
    assert writers([commit("ada", None)], people(), "listed", NOW) == ("ada@example.org",)


@pytest.mark.parametrize("rule", ["listed", "signed"])
def test_attack_01_an_author_who_is_in_no_file(rule: str) -> None:
    with pytest.raises(RefusedError, match=r"not in people\.json"):
        writers([commit("eve", "eve")], people(), rule, NOW)
    look_alike = Commit("c" * 40, "ri\u212a@example.org")  # a Kelvin sign, whose lower case is k
    with pytest.raises(RefusedError, match=r"not in people\.json"):
        writers([look_alike], people(), rule, NOW)


def test_attack_03_an_unsigned_commit_under_anothers_name() -> None:
    with pytest.raises(RefusedError, match="is not signed"):
        writers([commit("ada", None)], people(), "signed", NOW)


def test_attack_03_a_commit_under_anothers_name_signed_with_ones_own_key() -> None:
    with pytest.raises(RefusedError, match="by ada is signed by rik"):
        writers([commit("ada", "rik")], people(), "signed", NOW)


def test_attack_03_whoever_commits_for_another_counts_as_an_author_too() -> None:
    found = writers([commit("ada", "rik", committer="rik")], people(), "signed", NOW)
    assert found == ("ada@example.org", "rik@example.org")


def test_attack_27_a_key_that_nobody_has_listed() -> None:
    with pytest.raises(RefusedError, match="not trusted"):
        writers([commit("ada", "eve")], people(), "signed", NOW)


def test_attack_27_an_approvals_signature_is_none_for_a_commit() -> None:
    with pytest.raises(RefusedError, match="another purpose"):
        writers([commit("ada", "ada", namespace="interlock-approval")], people(), "signed", NOW)


def test_attack_27_a_signature_taken_from_another_commit() -> None:
    taken = commit("ada", "ada").signature
    with pytest.raises(RefusedError, match="not over these bytes"):
        writers([Commit("d" * 40, "ada@example.org", "ada@example.org", b"other", taken)], people(), "signed", NOW)


@pytest.mark.parametrize("rule", ["listed", "signed"])
def test_attack_08_a_key_used_after_its_person_was_revoked(rule: str) -> None:
    known = people(ada={"revoked": "2026-11-24T00:00:00Z"})
    with pytest.raises(RefusedError, match="ada, who has been revoked"):
        writers([commit("ada", "ada")], known, rule, NOW)


def test_attack_08_a_revoked_committer() -> None:
    with pytest.raises(RefusedError, match="rik, who has been revoked"):
        writers([commit("ada", "rik", committer="rik")], people(rik={"revoked": "2026-11-24T00:00:00Z"}), "signed", NOW)


def test_a_tier_says_what_commits_must_prove() -> None:
    tiers = "tiers:\n  high: {roles: [risk], commits: signed}\n  low: {roles: [risk]}\n"
    text = f"schema: 1\n{tiers}services: {{a: high, b: low}}\n"
    policy = TierPolicy.parse(text.encode())
    assert (policy.tier("a").commits, policy.tier("b").commits) == ("signed", "listed")
    with pytest.raises(UsageError, match=r"tiers\.yaml:3: unknown rule for commits"):
        TierPolicy.parse(text.replace("signed", "maybe").encode())
