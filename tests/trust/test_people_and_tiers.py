"""The governed files: who people are, and which roles a service needs. Strict, and digests of their bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.canonical import digest_of
from interlock.base.clock import rfc3339
from interlock.base.errors import RefusedError, UsageError
from interlock.trust.folder import folder_digest
from interlock.trust.people import People, instant_ns
from interlock.trust.sshsig import public_line
from interlock.trust.tiers import TierPolicy

KEY, OTHER = (public_line(Ed25519PrivateKey.generate()) for _ in range(2))


def person(who: str = "alice", key: str = KEY, **more: Any) -> dict[str, Any]:
    return {"id": who, "emails": [f"{who}@example.org"], "roles": ["risk"], "keys": [key], **more}


def people(*given: dict[str, Any], schema: int = 1) -> bytes:
    return json.dumps({"schema": schema, "people": list(given)}).encode()


def test_people_are_found_by_id_and_by_the_e_mail_of_their_commits() -> None:
    data = people(person(), person("bob", OTHER, name="Bob B.", revoked="2026-11-01T00:00:00Z"))
    found = People.parse(data)
    assert found.digest == digest_of(data)
    assert found.person("alice").name == "alice"
    assert found.by_email("BOB@example.org").id == "bob"
    for ask in (lambda: found.person("carol"), lambda: found.by_email("carol@example.org")):
        with pytest.raises(RefusedError):
            ask()


def test_a_person_counts_until_the_moment_of_revocation() -> None:
    moment = "2026-11-01T00:00:00Z"
    found = People.parse(people(person(revoked=moment))).person("alice")
    assert found.active(instant_ns(moment) - 1)
    assert not found.active(instant_ns(moment))


MALFORMED: dict[str, bytes] = {
    "no JSON": b"{",
    "deep": b"[" * 100_000,
    "another schema": people(person(), schema=2),
    "no list": b'{"schema": 1, "people": {}}',
    "a duplicate key": b'{"schema": 1, "people": [], "people": []}',
    "an unknown field": people(person(admin=True)),
    "a missing field": people({"id": "alice"}),
    "a strange id": people(person("Alice")),
    "an empty id": people(person("")),
    "roles as text": people(person() | {"roles": "risk"}),
    "a key that is none": people(person(key="ssh-ed25519 AAAA")),
    "a look-alike e-mail": people(person() | {"emails": ["аlice@example.org"]}),
    "a time without zone": people(person(revoked="2026-11-01T00:00:00")),
    "one id twice": people(person(), person("alice", OTHER) | {"emails": []}),
    "one e-mail twice": people(person(), person("bob", OTHER) | {"emails": ["ALICE@example.org"]}),
    "one key twice": people(person(), person("bob", KEY)),
    "one key twice, with another comment": people(person(), person("bob", KEY + " laptop")),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_people_file_is_refused_with(case: str) -> None:
    with pytest.raises(UsageError):
        People.parse(MALFORMED[case])


@given(st.integers(0, 4_000_000_000_000_000))
def test_an_instant_keeps_its_microsecond_through_text(microseconds: int) -> None:
    assert instant_ns(rfc3339(microseconds * 1_000)) == microseconds * 1_000


TIERS = """\
schema: 1
tiers:
  high: {roles: [technical, risk, compliance], advance: [evidence]}
  low: {roles: [technical]}
services:
  fraud: high
  alerts: low
"""


def test_a_services_tier_says_who_must_sign_and_how_it_may_advance() -> None:
    policy = TierPolicy.parse(TIERS.encode())
    assert policy.digest == digest_of(TIERS.encode())
    assert policy.tier("fraud").roles == ("technical", "risk", "compliance")
    assert policy.tier("fraud").advance == ("evidence",)
    assert policy.tier("alerts").advance == ("timeline", "evidence")
    with pytest.raises(RefusedError, match="no risk tier"):
        policy.tier("credit")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("schema: 1", "schema: 2", ""),
        ("roles: [technical]", "roles: []", ":4"),
        ("roles: [technical]", "roles: [technical, technical]", ":4"),
        ("roles: [technical]", "roles: [wizard]", ":4"),
        ("roles: [technical]", "role: [technical]", ":4"),
        ("roles: [technical]", "roles: [{technical: 1}]", ":4"),
        ("advance: [evidence]", "advance: [{evidence: 1}]", ":3"),
        ("alerts: low", "alerts: [low]", ":7"),
        ("advance: [evidence]", "advance: [hope]", ":3"),
        ("alerts: low", "alerts: none", ":7"),
        ("alerts: low", "fraud: low", ":7"),
        ("alerts: low", "alerts: &a low", ":7"),
        ("  fraud", "  fr\u0430ud", ":6"),
    ],
)
def test_a_tier_policy_is_refused_with_its_line(old: str, new: str, line: str) -> None:
    with pytest.raises(UsageError, match=f"policy/tiers.yaml{line}"):
        TierPolicy.parse(TIERS.replace(old, new).encode())


FOLDER = [("release.yaml", "100644", b"a"), ("rollout.yaml", "100644", b"b")]


def test_a_folders_digest_is_what_the_format_says_whatever_the_order() -> None:
    rows = [[path, mode, digest_of(data)[7:]] for path, mode, data in FOLDER]
    assert folder_digest(FOLDER) == digest_of(json.dumps(rows, separators=(",", ":")).encode())
    assert folder_digest(FOLDER[::-1]) == folder_digest(FOLDER)


CHANGES: list[Callable[[], list[tuple[str, str, bytes]]]] = [
    lambda: [("release.yaml", "100644", b"A"), FOLDER[1]],
    lambda: [("release.yaml", "100755", b"a"), FOLDER[1]],
    lambda: [("releases.yaml", "100644", b"a"), FOLDER[1]],
    lambda: FOLDER[:1],
    lambda: [*FOLDER, ("extra.yaml", "100644", b"")],
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_a_folder_changes_its_digest(change: Callable[[], list[tuple[str, str, bytes]]]) -> None:
    assert folder_digest(change()) != folder_digest(FOLDER)


@pytest.mark.parametrize(
    "entry",
    [
        ("link", "120000", b"/etc/passwd"),
        ("module", "160000", b""),
        ("../release.yaml", "100644", b""),
        ("a//b", "100644", b""),
        (".hidden", "100644", b""),
        ("rеlease.yaml", "100644", b""),
        ("release.yaml", "100644", b"twice"),
    ],
)
def test_a_folder_with_anything_but_plain_files_has_no_digest(entry: tuple[str, str, bytes]) -> None:
    with pytest.raises(UsageError):
        folder_digest([*FOLDER, entry])
    with pytest.raises(UsageError):
        folder_digest([])
