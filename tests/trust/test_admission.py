"""Admissions: a scorer judges everything again, whatever the controller logged and signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.admitting import NOW_NS, ROLES, Office
from tests.trust.desk import Desk, digest, subject

from interlock.base.canonical import canonical, digest_of
from interlock.base.clock import NS_PER_S
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UsageError
from interlock.trust import admission
from interlock.trust.admission import TrustRoot, verify
from interlock.trust.note import Signer
from interlock.trust.sshsig import Key

WHAT = subject()


@pytest.fixture(scope="module")
def office() -> Office:
    return Office()


@pytest.fixture
def desk(tmp_path: Path, office: Office) -> Desk:
    return Desk(tmp_path / "log", office)


def judged(desk: Desk, data: bytes, root: TrustRoot | None = None) -> admission.Admission:
    return verify(data, WHAT.service, WHAT.bundle, WHAT.folder, root or desk.root())


def test_a_logged_quorum_stands_before_the_scorer(desk: Desk) -> None:
    desk.file({}, digest("something else"), kind="release.refused")  # the log is not empty
    found = judged(desk, desk.admit(WHAT, desk.quorum(WHAT)))
    assert found.subject == WHAT
    assert {each.role for each in found.approvals} == set(ROLES)
    assert (found.admitted_ns, found.log_index, found.commit) == (NOW_NS, 1, "0" * 40)


def test_it_still_stands_years_after_its_statements_expired(desk: Desk) -> None:
    # Judged at the logged moment: restarts and rollbacks need no approver.
    signed = [desk.office.sign(WHAT, role, expires_ns=NOW_NS + NS_PER_S) for role in ROLES]
    judged(desk, desk.admit(WHAT, signed))


def unapproved(desk: Desk) -> bytes:
    return desk.admit(WHAT, [])


def one_role_missing(desk: Desk) -> bytes:
    return desk.admit(WHAT, desk.quorum(WHAT)[:2])


def expired(desk: Desk) -> bytes:
    return desk.admit(WHAT, [desk.office.sign(WHAT, role, expires_ns=NOW_NS) for role in ROLES])


def statements_of_another_release(desk: Desk) -> bytes:
    return desk.admit(WHAT, desk.quorum(subject(bundle=digest("reviewed, harmless"))))


def another_service(desk: Desk) -> bytes:
    other = subject(service="credit")
    return desk.admit(other, desk.quorum(other))


def another_environment(desk: Desk) -> bytes:
    other = subject(environment="staging")
    return desk.admit(other, desk.quorum(other))


def another_folder(desk: Desk) -> bytes:
    other = subject(folder=digest("another folder"))
    return desk.admit(other, desk.quorum(other))


def people_of_the_controllers_own(desk: Desk) -> bytes:
    puppets = Office()
    return desk.admit(WHAT, [puppets.sign(WHAT, role) for role in ROLES], people=puppets.people)


def another_policy(desk: Desk) -> bytes:
    other = subject(policy=digest("nobody need sign"))
    return desk.admit(other, desk.quorum(other))


@pytest.mark.parametrize(
    "make",
    [
        unapproved,
        one_role_missing,
        expired,
        statements_of_another_release,
        another_service,
        another_environment,
        another_folder,
        people_of_the_controllers_own,
        another_policy,
    ],
)
def test_a_controller_that_logs_it_cannot_make_a_scorer_accept(make: Callable[[Desk], bytes], desk: Desk) -> None:
    with pytest.raises(RefusedError):
        judged(desk, make(desk))


def test_a_log_entry_about_something_else_proves_nothing(desk: Desk) -> None:
    core = admission.core(WHAT, "0" * 40, NOW_NS, desk.quorum(WHAT), (desk.office.people, b""))
    for data in (
        desk.file(core, digest("another admission")),
        desk.file(core, admission.core_digest(core), kind="release.proposed"),
        desk.file(core, admission.core_digest(core), now_ns=NOW_NS + 1),
    ):
        with pytest.raises(IntegrityError, match="not about this admission"):
            judged(desk, data)


def test_a_log_of_another_key_proves_nothing(desk: Desk) -> None:
    data = desk.admit(WHAT, desk.quorum(WHAT))
    stranger = Signer(desk.signer.name, Key.generate()).verifier
    with pytest.raises(IntegrityError):
        judged(desk, data, desk.root(log=stranger))


def test_a_root_that_asks_for_witnesses_accepts_nothing_unwitnessed(desk: Desk) -> None:
    data = desk.admit(WHAT, desk.quorum(WHAT))
    with pytest.raises(RefusedError, match="witnesses"):
        judged(desk, data, desk.root(witnesses=(Signer("witness", Key.generate()).verifier,)))


def changes(document: dict[str, Any]) -> dict[str, Callable[[], object]]:
    log, core = document["log"], document["core"]
    return {
        "schema": lambda: document.update(schema=2),
        "cosignatures": lambda: document.update(cosignatures=["trust me"]),
        "index": lambda: log.update(index=log["index"] + 1),
        "index as text": lambda: log.update(index=str(log["index"])),
        "negative index": lambda: log.update(index=-1),
        "empty hash": lambda: log.update(proof=["", *log["proof"][1:]]),
        "short hash": lambda: log.update(proof=[base64.b64encode(b"x").decode(), *log["proof"][1:]]),
        "no proof": lambda: log.update(proof=[]),
        "longer proof": lambda: log.update(proof=log["proof"] * 2),
        "entry": lambda: log.update(entry=base64.b64encode(b"{}").decode()),
        "checkpoint": lambda: log.update(checkpoint=log["checkpoint"].replace("\n2\n", "\n9223372036854775807\n")),
        "commit": lambda: core.update(commit="1" * 40),
        "moment": lambda: core.update(admitted_ns="1"),
        "authors": lambda: core["subject"].update(authors=["nobody"]),
        "statement": lambda: core["statements"][0].update(signature=core["statements"][1]["signature"]),
        "no subject": lambda: core.pop("subject"),
        "unknown field": lambda: core["subject"].update(approved=True),
        "people": lambda: core.update(people="!"),
    }


NAMES = list(changes({"log": {}, "core": {}}))


@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_an_admission_file_can_be_changed(name: str, desk: Desk) -> None:
    desk.file({}, digest("something else"), kind="release.refused")
    document = json.loads(desk.admit(WHAT, desk.quorum(WHAT)))
    changes(document)[name]()
    with pytest.raises(InterlockError):
        judged(desk, canonical(document))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[" * 100_000])
def test_what_is_no_admission_is_malformed(data: bytes, desk: Desk) -> None:
    with pytest.raises(IntegrityError, match="malformed"):
        judged(desk, data)


def test_an_admission_has_one_form(desk: Desk) -> None:
    data = desk.admit(WHAT, desk.quorum(WHAT))
    for other in (data + b"\n", json.dumps(json.loads(data)).encode()):
        with pytest.raises(IntegrityError, match="malformed"):
            judged(desk, other)


def test_a_trust_root_comes_back_as_it_was_written(desk: Desk) -> None:
    root = desk.root(witnesses=(Signer("witness", Key.generate()).verifier,), environment="staging")
    assert TrustRoot.parse(root.to_bytes()) == root


@pytest.mark.parametrize("name", ["schema", "log", "witnesses", "people", "tiers", "environment"])
def test_a_trust_root_without_one_of_its_parts_is_refused(name: str, desk: Desk) -> None:
    document = json.loads(desk.root().to_bytes())
    for broken in ({key: value for key, value in document.items() if key != name}, document | {name: [1]}):
        with pytest.raises(UsageError):
            TrustRoot.parse(canonical(broken))


def test_two_policies_may_be_accepted_at_once(desk: Desk) -> None:
    data = desk.admit(WHAT, desk.quorum(WHAT))
    more = frozenset({digest_of(desk.office.people), digest("people of next week")})
    judged(desk, data, desk.root(people=more))


def test_a_policy_that_this_scorer_does_not_accept_counts_for_nothing(desk: Desk) -> None:
    data = desk.admit(WHAT, desk.quorum(WHAT))
    with pytest.raises(RefusedError, match="tier policy"):
        judged(desk, data, desk.root(tiers=frozenset({digest("another policy")})))
