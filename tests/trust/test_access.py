"""Who may do what: the table, pair by pair; keys, claims and certificates; and the strict file."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.doorkeeper import (
    AUDIENCE,
    ISSUER,
    LATER,
    NOW_NS,
    NOW_S,
    access_file,
    claims,
    issuer_entry,
    key,
    key_entry,
)

from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError, UsageError
from interlock.trust import tiers
from interlock.trust.access import LEEWAY_S, Access, certificate_names
from interlock.trust.grants import ACTIONS, ROLES, permitted
from interlock.trust.principal import Principal, Rate

PAIRS = [(role, action) for role in ROLES for action in ACTIONS]
ACCESS = Access.parse(access_file())

# The table a second time, by action, as a reviewer would read it: a slip in either place is a difference.
MAY = {
    "predict": {"score"},
    "infer": {"score"},
    "explain": {"explain"},
    "models": {
        "score",
        "explain",
        "observe",
        "operate",
        "train",
        "approve-technical",
        "approve-risk",
        "approve-compliance",
        "audit-read",
    },
    "metrics": {"observe", "operate"},
    "repository.index": {"observe", "operate"},
    "repository.load": {"operate"},
    "repository.unload": {"operate"},
    "audit.read": {"audit-read", "approve-compliance", "admin"},
    "events.read": {"operate", "train", "audit-read", "admin"},
    "events.append": {"train"},
    "rollouts.read": {"operate", "approve-technical", "approve-risk", "approve-compliance", "audit-read"},
    "rollout.abort": {"operate"},
    "rollout.pause": {"operate"},
    "rollout.resume": {"operate"},
    "rollout.rollback": {"operate"},
    "decisions.read": {"read-data", "audit-read"},
    "data.read": {"train", "read-data"},
    "data.ingest": {"ingest"},
    "labels.write": {"write-labels"},
    "training.run": {"train"},
    "approvals.technical": {"approve-technical"},
    "approvals.risk": {"approve-risk"},
    "approvals.compliance": {"approve-compliance"},
    "access.read": {"audit-read", "admin"},
    "access.write": {"admin"},
}


def somebody(*roles: str, services: frozenset[str] | None = None) -> Principal:
    return Principal("somebody", frozenset(roles), "key", services)


@pytest.mark.parametrize(("role", "action"), PAIRS)
def test_a_role_allows_exactly_what_the_table_says(role: str, action: str) -> None:
    assert ACCESS.allows(somebody(role), action) == (role in MAY[action])


def test_every_action_stands_in_the_table_and_somebody_may_do_it() -> None:
    assert set(MAY) == set(ACTIONS)
    assert {action for actions in ROLES.values() for action in actions} == set(ACTIONS)


@given(st.frozensets(st.sampled_from([*ROLES, "boss", ""])), st.sampled_from([*ACTIONS, "anything", "", "*"]))
def test_roles_together_allow_what_one_of_them_allows_and_nothing_else(roles: frozenset[str], action: str) -> None:
    assert ACCESS.allows(somebody(*roles), action) == bool(roles & MAY.get(action, set()))


def test_no_role_can_grant_and_also_approve_score_or_train() -> None:
    granting = [role for role, actions in ROLES.items() if "access.write" in actions]
    assert granting == ["admin"]
    assert not permitted(frozenset(granting)) & {"predict", "infer", "training.run", "repository.load"}
    assert not any(action.startswith("approvals.") for action in permitted(frozenset(granting)))


def test_there_is_a_role_to_approve_as_for_each_that_a_tier_may_ask_for() -> None:
    assert {role.removeprefix("approve-") for role in ROLES if role.startswith("approve-")} == set(tiers.ROLES)


def test_services_bound_what_concerns_one() -> None:
    scoped = somebody("score", services=frozenset({"fraud"}))
    assert ACCESS.allows(scoped, "predict", "fraud")
    assert not ACCESS.allows(scoped, "predict", "credit")
    assert ACCESS.allows(scoped, "models")


def test_nobody_may_do_anything_unless_the_file_says_so() -> None:
    assert not any(ACCESS.allows(ACCESS.anonymous, action) for action in ACTIONS)


def test_without_a_file_anybody_on_this_machine_scores_and_looks_and_does_nothing_else() -> None:
    access = Access.unconfigured()
    allowed = {action for action in ACTIONS if access.allows(access.anonymous, action, "fraud")}
    assert allowed == {"predict", "infer", "models", "metrics", "repository.index"}


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_its_principal() -> None:
    access = Access.parse(access_file(keys=[key_entry(1), key_entry(2, roles=["explain"], services="all")]))
    found = access.by_key(key(1).text, NOW_NS)
    assert (found.name, found.roles, found.kind, found.services) == ("shop1", {"score"}, "key", {"fraud"})
    assert access.by_key(key(2).text, NOW_NS).services is None


def test_the_file_holds_no_secret() -> None:
    assert key(1).secret.encode() not in access_file(keys=[key_entry(1)])
    assert key(1).secret not in repr(key(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ilk_",
        key(1).secret,
        f"ilk_{key(1).id}_{key(2).secret}",
        f"ilk_{key(2).id}_{key(1).secret}",
        key(1).text[:-1],
        key(1).text + "A",
        key(1).text + "\n",
        key(1).text.upper(),
        f"ilk_{key(1).id}_" + "é" * 43,
        "ilk_" + "a" * 200_000,
    ],
)
def test_what_is_not_exactly_a_granted_key_is_refused_without_being_repeated(text: str) -> None:
    access = Access.parse(access_file(keys=[key_entry(1)]))
    with pytest.raises(RefusedError, match="no valid API key") as caught:
        access.by_key(text, NOW_NS)
    assert not text or text.strip() not in str(caught.value)


def test_a_key_ends_with_its_expiry() -> None:
    access = Access.parse(access_file(keys=[key_entry(expires="2026-09-21T14:13:20Z")]))
    end = access.keys[key(1).id].expires_ns
    assert access.by_key(key(1).text, end - 1).expires_ns == end
    with pytest.raises(RefusedError, match="expired"):
        access.by_key(key(1).text, end)


# --- tokens ---------------------------------------------------------------------------------------


def test_claims_are_a_principal_with_the_roles_of_its_groups() -> None:
    access = Access.parse(access_file(oidc=[issuer_entry(services=["fraud"])]))
    found = access.by_claims(claims(groups=["tellers", "ops", "golfers"]), NOW_NS)
    assert found.name == "tess@login.example.org/realms/shop"
    assert found.roles == {"score", "operate", "observe"}
    assert (found.kind, found.services) == ("oidc", {"fraud"})
    assert found.expires_ns == (NOW_S + 300 + LEEWAY_S) * NS_PER_S


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"iss": "https://evil.example.org"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["a"]}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": ["other", "third"]}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": AUDIENCE + "2"}, "audience"),
        ({"exp": NOW_S - LEEWAY_S}, "expired"),
        ({"exp": None}, "no expiry"),
        ({"exp": "tomorrow"}, "no numbers"),
        ({"exp": True}, "no numbers"),
        ({"exp": float("inf")}, "no numbers"),
        ({"exp": float("nan")}, "no numbers"),
        ({"nbf": NOW_S + LEEWAY_S + 1}, "not valid yet"),
        ({"iat": NOW_S + LEEWAY_S + 1}, "not valid yet"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": "a" * 129}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": "4111 1111 1111 1111"}, "card number"),
    ],
)
def test_claims_that_do_not_count(changes: dict[str, Any], why: str) -> None:
    access = Access.parse(access_file(oidc=[issuer_entry()]))
    with pytest.raises(RefusedError, match=why) as caught:
        access.by_claims(claims(**changes), NOW_NS)
    assert "evil" not in str(caught.value)
    assert "4111" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"aud": ["x", AUDIENCE]}, {"exp": NOW_S - LEEWAY_S + 1}, {"nbf": NOW_S + LEEWAY_S}, {"iat": None}],
)
def test_claims_that_just_count(changes: dict[str, Any]) -> None:
    access = Access.parse(access_file(oidc=[issuer_entry()]))
    assert access.by_claims(claims(**changes), NOW_NS).roles == {"score"}


@pytest.mark.parametrize(
    ("claim", "body"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["tellers"]}}),
        ("scope", {"scope": "openid tellers"}),
        ("https://example.org/groups", {"https://example.org/groups": ["tellers", 7, None]}),
    ],
)
def test_groups_stand_where_the_issuer_puts_them(claim: str, body: dict[str, Any]) -> None:
    access = Access.parse(access_file(oidc=[issuer_entry(rolesClaim=claim)]))
    assert access.by_claims(claims(groups=None, **body), NOW_NS).roles == {"score"}


@pytest.mark.parametrize("groups", [None, 7, {"tellers": 1}, [["tellers"]], []])
def test_no_groups_are_no_roles(groups: Any) -> None:
    access = Access.parse(access_file(oidc=[issuer_entry()]))
    assert access.by_claims(claims(groups=groups), NOW_NS).roles == frozenset()


# --- certificates ---------------------------------------------------------------------------------

SPIFFE = "spiffe://example.org/shop"


def certificate(cn: str = "", *alternatives: tuple[str, str]) -> dict[str, Any]:
    return {"subject": ((("organizationName", "x"),), (("commonName", cn),)), "subjectAltName": alternatives}


@pytest.mark.parametrize(
    ("peer", "names"),
    [
        (certificate("shop", ("DNS", "shop.example.org"), ("URI", SPIFFE)), (SPIFFE,)),
        (certificate("shop", ("DNS", "shop.example.org")), ("shop.example.org",)),
        (certificate("shop"), ("shop",)),
        (certificate(SPIFFE), ()),
        (certificate("shop", ("DNS", SPIFFE)), ()),
        ({}, ()),
    ],
)
def test_a_certificate_is_named_by_the_strongest_kind_that_it_has(peer: Any, names: tuple[str, ...]) -> None:
    assert certificate_names(peer) == names


def granted(*subjects: str) -> Access:
    entries = [
        {"subject": subject, "name": f"peer{place}", "roles": ["score"], "services": "all"}
        for place, subject in enumerate(subjects)
    ]
    return Access.parse(access_file(certificates=entries))


def test_a_listed_certificate_is_its_principal_and_another_is_none() -> None:
    access = granted(SPIFFE)
    found = access.by_certificate((SPIFFE,), NOW_NS)
    assert found is not None
    assert (found.name, found.kind, found.expires_ns) == ("peer0", "certificate", NOW_NS)
    assert access.by_certificate((SPIFFE + "/x",)) is None
    assert access.by_certificate((SPIFFE.upper(),)) is None


def test_a_certificate_of_two_principals_is_nobodys() -> None:
    with pytest.raises(RefusedError, match="two principals"):
        granted("a.example.org", "b.example.org").by_certificate(("a.example.org", "b.example.org"))


# --- the file -------------------------------------------------------------------------------------


def test_rates_are_the_principals_own_or_the_default() -> None:
    access = Access.parse(
        access_file(
            rate={"default": {"perSecond": 5, "burst": 9}, "principals": {"shop1": {"perSecond": 7, "burst": 7}}}
        )
    )
    assert access.rates.of("shop1") == Rate(7, 7)
    assert access.rates.of("shop2") == Rate(5, 9)
    assert ACCESS.rates.of("shop1") is None


YAML = """\
apiVersion: interlock.dev/v1alpha1
kind: Access
spec:
  anonymous: {roles: []}
  keys:
    - id: "k2345"
      name: shop
      sha256: "ABAB"
      roles: [score]
      services: [fraud]
      expires: 2099-01-01T00:00:00Z
""".replace("ABAB", "ab" * 32)


def test_people_write_it_in_yaml() -> None:
    assert Access.parse(YAML.encode()).keys["k2345"].name == "shop"


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("kind: Access", "kind: Excess", 1, "another kind"),
        ("  anonymous", "  anyone", 4, "unknown field in spec"),
        ("roles: []", "roles: [], role: x", 4, "unknown field in anonymous"),
        ("roles: []", "roles: [boss]", 4, "unknown role"),
        ("roles: []", "roles: score", 4, "no list"),
        ('"k2345"', "12345", 6, "another form"),
        ('"k2345"', '"K-1"', 6, "another form"),
        ("name: shop", "name: anonymous", 7, "reserved"),
        ("name: shop", "name: Shop", 7, "another form"),
        ("name: shop", 'name: "4111111111111111"', 7, "card number"),
        ("ab" * 32, "ab" * 31, 8, "another form"),
        ("[score]", "[score, root]", 9, "unknown role"),
        ("services: [fraud]", "services: []", 10, "no list of names"),
        ("services: [fraud]", "services: fraud", 10, "no list of names"),
        ("      services: [fraud]\n", "", 6, "lacks services"),
        ("expires: 2099-01-01T00:00:00Z", "expires: never", 11, "no time"),
        ("expires: 2099-01-01T00:00:00Z", "expires: 2099-01-01T00:00:00", 11, "no time"),
        ("expires: 2099-01-01T00:00:00Z", "expires: 2099-01-01T00:00:00Z\n      secret: x", 12, "unknown field"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(old: str, new: str, line: int, why: str) -> None:
    assert old in YAML
    with pytest.raises(UsageError, match=why) as caught:
        Access.parse(YAML.replace(old, new, 1).encode())
    assert str(caught.value).startswith(f"trust/access.yaml:{line}:")
    assert caught.value.remedy


@pytest.mark.parametrize(
    "sections",
    [
        {"keys": {}},
        {"keys": ["ilk_x"]},
        {"keys": [key_entry(1), key_entry(1, name="other")]},
        {"oidc": [issuer_entry(issuer="http://login.example.org")]},
        {"oidc": [issuer_entry(issuer="https://login.example.org/?a=b")]},
        {"oidc": [issuer_entry(issuer="https://you@login.example.org")]},
        {"oidc": [issuer_entry(issuer="https://")]},
        {"oidc": [issuer_entry(issuer=7)]},
        {"oidc": [issuer_entry(), issuer_entry(audience="other")]},
        {"oidc": [issuer_entry(audience="")]},
        {"oidc": [issuer_entry(map=[])]},
        {"oidc": [issuer_entry(map={"ops": ["root"]})]},
        {"oidc": [issuer_entry(jwksFile="../keys.json")]},
        {"oidc": [issuer_entry(rolesClaim=1)]},
        {"certificates": [{"subject": "", "name": "a", "roles": [], "services": "all"}]},
        {"rate": {"default": {"perSecond": 0, "burst": 1}}},
        {"rate": {"default": {"perSecond": 1.5, "burst": 1}}},
        {"rate": {"default": {"perSecond": True, "burst": 1}}},
        {"rate": {"principals": []}},
        [],
    ],
)
def test_what_means_nothing_certain_is_refused(sections: Any) -> None:
    data = access_file(**sections) if isinstance(sections, dict) else b"[]\n"
    with pytest.raises(UsageError) as caught:
        Access.parse(data)
    assert caught.value.message.startswith("trust/access.yaml:")


@given(st.binary(max_size=300))
def test_any_bytes_are_grants_or_refused(data: bytes) -> None:
    with contextlib.suppress(UsageError):
        Access.parse(data)


def test_a_file_beyond_its_bound_is_not_even_read() -> None:
    with pytest.raises(UsageError, match="beyond"):
        Access.parse(b"#" * 2_000_000)


def test_the_digest_is_of_the_bytes() -> None:
    assert Access.parse(access_file()).digest != Access.parse(access_file(keys=[])).digest
    assert LATER in access_file(keys=[key_entry()]).decode()
