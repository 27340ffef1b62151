"""The quorum: which signatures count, and what is said about those that do not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.admitting import NAMES, NOW_NS, ROLES, TIERS, Office
from tests.trust.desk import digest, subject

from interlock.base.canonical import canonical
from interlock.base.clock import NS_PER_S
from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.base.verdict import Verdict
from interlock.trust.people import People
from interlock.trust.quorum import Quorum, Signed, check_one, judge
from interlock.trust.sshsig import sign
from interlock.trust.statement import Statement, Subject, parse, statement_bytes
from interlock.trust.tiers import TierPolicy

OFFICE = Office()
WHAT = subject()
SIGNED = [OFFICE.sign(WHAT, role) for role in ROLES]


def with_roles(person: str, roles: Iterable[str]) -> People:
    """The same people, one of them with other roles."""
    document = json.loads(OFFICE.people)
    for each in document["people"]:
        if each["id"] == person:
            each["roles"] = list(roles)
    return People.parse(canonical(document))


def revoked(person: str, at: str) -> People:
    document = json.loads(OFFICE.people)
    for each in document["people"]:
        if each["id"] == person:
            each["revoked"] = at
    return People.parse(canonical(document))


def judged(
    signed: Iterable[Signed], people: People | None = None, now_ns: int = NOW_NS, what: Subject = WHAT
) -> Quorum:
    return judge(signed, people or People.parse(OFFICE.people), TierPolicy.parse(TIERS), what, now_ns)


def test_three_people_in_three_roles_are_a_quorum() -> None:
    found = judged(SIGNED)
    assert found.verdict is Verdict.PASS
    assert {each.role: each.person for each in found.approvals} == NAMES
    assert (found.missing, found.reasons) == ((), ())
    found.require()


@given(st.permutations(SIGNED), st.sampled_from(ROLES))
def test_the_order_of_signatures_does_not_matter_and_each_role_does(signed: list[Signed], role: str) -> None:
    assert judged(signed) == judged(SIGNED)
    found = judged([each for each in signed if not each.name.endswith(role)])
    assert (found.verdict, found.missing) == (Verdict.INCONCLUSIVE, (role,))
    with pytest.raises(RefusedError, match=f"nobody approved as {role}"):
        found.require()


def test_nobody_is_no_quorum() -> None:
    assert judged([]).missing == ROLES


@pytest.mark.parametrize("field", [name for name in Subject.__dataclass_fields__ if name != "authors"])
def test_a_statement_about_anything_else_does_not_count(field: str) -> None:
    other = digest("other") if field in ("folder", "bundle", "card", "policy", "feature_set", "threshold_set") else "x"
    found = judged([OFFICE.sign(replace(WHAT, **{field: other}), "risk"), SIGNED[0], SIGNED[2]])
    assert found.missing == ("risk",)
    assert f"about another {field}" in found.reasons[0]


def expired() -> tuple[list[Signed], People | None, str]:
    return [OFFICE.sign(WHAT, "risk", expires_ns=NOW_NS)], None, "expired"


def by_another_key() -> tuple[list[Signed], People | None, str]:
    data = SIGNED[1].statement
    return [Signed("rik.risk", data, sign(data, OFFICE.keys["tess"]))], None, "not trusted"


def tampered() -> tuple[list[Signed], People | None, str]:
    data = SIGNED[1].statement.replace(b"looked at it", b"looked away!")
    return [replace(SIGNED[1], statement=data)], None, "not over these bytes"


def reformatted() -> tuple[list[Signed], People | None, str]:
    data = json.dumps(json.loads(SIGNED[1].statement), indent=1).encode()
    return [Signed("rik.risk", data, sign(data, OFFICE.keys["rik"]))], None, "canonical"


def without_the_role() -> tuple[list[Signed], People | None, str]:
    return [OFFICE.sign(WHAT, "risk", "cleo")], None, "does not hold the role"


def by_a_stranger() -> tuple[list[Signed], People | None, str]:
    data = statement_bytes(Statement(WHAT, "mallory", "risk", "approve", "T", "r", NOW_NS + NS_PER_S))
    return [Signed("mallory.risk", data, sign(data, OFFICE.keys["rik"]))], None, "not in people.json"


def by_the_author() -> tuple[list[Signed], People | None, str]:
    return [OFFICE.sign(WHAT, "risk", "ada")], with_roles("ada", ["risk"]), "author"


def by_somebody_revoked() -> tuple[list[Signed], People | None, str]:
    return [SIGNED[1]], revoked("rik", "2026-09-21T00:00:00Z"), "revoked"


def by_one_person_twice() -> tuple[list[Signed], People | None, str]:
    return [OFFICE.sign(WHAT, "risk", "cleo")], with_roles("cleo", ["risk", "compliance"]), "second role"


@pytest.mark.parametrize(
    "make",
    [
        expired,
        by_another_key,
        tampered,
        reformatted,
        without_the_role,
        by_a_stranger,
        by_the_author,
        by_somebody_revoked,
        by_one_person_twice,
    ],
)
def test_a_signature_does_not_count_when_it_is(make: Callable[[], tuple[list[Signed], People | None, str]]) -> None:
    signed, people, words = make()
    found = judged([*signed, SIGNED[0], SIGNED[2]], people)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.missing == ("risk",)
    assert any(words in reason for reason in found.reasons)


def test_a_revocation_later_than_the_judgement_changes_nothing() -> None:
    assert judged(SIGNED, revoked("rik", "2026-12-01T00:00:00Z")).verdict is Verdict.PASS


def test_one_refusal_by_somebody_entitled_stops_the_release() -> None:
    refusal = OFFICE.sign(WHAT, "risk", decision="refuse")
    found = judged([refusal, SIGNED[0], SIGNED[2]])
    assert found.verdict is Verdict.FAIL
    both = judged([*SIGNED, replace(refusal, name="rik.risk.later")])
    assert both.verdict is Verdict.FAIL, "an approval of the same person does not undo it"
    second = OFFICE.sign(WHAT, "risk", "cleo", decision="refuse")
    found = judged([*SIGNED, second], with_roles("cleo", ["risk", "compliance"]))
    assert found.verdict is Verdict.FAIL, "nor does it count less in a second role"


def test_a_refusal_by_somebody_not_entitled_stops_nothing() -> None:
    assert judged([*SIGNED, OFFICE.sign(WHAT, "risk", "cleo", decision="refuse")]).verdict is Verdict.PASS


def test_a_second_statement_of_the_same_person_in_the_same_role_does_no_harm() -> None:
    again = replace(OFFICE.sign(WHAT, "risk", expires_ns=NOW_NS + 5 * NS_PER_S), name="rik.risk.again")
    assert judged([*SIGNED, again]).verdict is Verdict.PASS


def test_a_service_without_tier_and_a_release_without_author_have_no_quorum() -> None:
    for what in (subject(service="credit"), subject(authors=())):
        with pytest.raises(RefusedError):
            judged([OFFICE.sign(what, role) for role in ROLES], what=what)


def test_one_statement_can_be_checked_before_it_is_handed_in() -> None:
    people = People.parse(OFFICE.people)
    assert check_one(SIGNED[1], people, WHAT, NOW_NS).person == "rik"
    with pytest.raises(InterlockError):
        check_one(expired()[0][0], people, WHAT, NOW_NS)


def test_a_statement_is_an_in_toto_statement_about_folder_and_bundle() -> None:
    document = json.loads(SIGNED[0].statement)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert [each["digest"]["sha256"] for each in document["subject"]] == [WHAT.folder[7:], WHAT.bundle[7:]]
    again = parse(SIGNED[0].statement)
    assert (again.subject, again.person, again.role, again.decision) == (WHAT, "tess", "technical", "approve")
    assert statement_bytes(again) == SIGNED[0].statement


@pytest.mark.parametrize(
    "change",
    [
        (b"approval/v1", b"approval/v2"),
        (b'"decision":"approve"', b'"decision":"perhaps"'),
        (b'"authors":["ada"]', b'"authors":"ada"'),
        (b'"ticket":', b'"tickets":'),
        (b'"service":"fraud"', b'"service":"credit"'),
        (b"{", b"{ "),
        (b"sha256:", b"sha257:"),
        (b"looked at it", b"looked\\nat it"),
        (b'"authors":["ada"]', b'"authors":["\\ud800"]'),
    ],
)
def test_a_statement_in_any_other_form_is_refused(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(UsageError):
        parse(SIGNED[0].statement.replace(*change, 1))


@pytest.mark.parametrize("moment", [b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"never"])
def test_an_expiry_outside_of_the_calendar_is_refused(moment: bytes) -> None:
    with pytest.raises(UsageError):
        parse(re.sub(rb'(?<="expires":")[^"]*', moment, SIGNED[0].statement))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"[" * 100_000, b'{"predicate": 1, "predicateType": 1}'])
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse(data)


def test_a_number_where_a_digest_belongs_is_malformed() -> None:
    document = json.loads(SIGNED[0].statement)
    document["predicate"]["card"] = 1
    with pytest.raises(UsageError):
        parse(canonical(document))
