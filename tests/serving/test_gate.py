"""The gate of the scoring doors: who is let in, what is remembered, what a changed file does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.doorkeeper import AUDIENCE, NOW_S, Idp, access_file, claims, issuer_entry, key, key_entry, website
from tests.serving.one_gate import LISTED, PEER, Door, bearer

from interlock import settings
from interlock.apps.scorer.gate import (
    CHALLENGE,
    DENIALS,
    REMEMBERED,
    TELL_S,
    Gate,
    begin_limits,
    is_loopback,
    prepare,
    read_access,
)
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import RefusedError, UsageError
from interlock.decision.admin import Denial
from interlock.serving.call import Unanswered
from interlock.trust.access import Access

Make = Callable[..., Door]


@pytest.fixture
def door(tmp_path: Path) -> Make:
    return lambda host="127.0.0.1", **sections: Door(tmp_path, access_file(**sections), host)


# --- who ----------------------------------------------------------------------------------------------


def test_a_key_comes_in_either_header(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    assert made.who(bearer()) == made.who(api_key=key(1).text) == "shop1"
    assert made.who(f"bEARER   {key(1).text} ") == "shop1"


def test_nobody_in_particular_is_anonymous(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    assert made.who() == made.who(peer={}) == "anonymous"


@pytest.mark.parametrize(
    "authorization",
    [
        bearer(2),
        bearer()[:-1],
        "Bearer",
        "Bearer ",
        key(1).text,
        "Basic c2hvcDpzaG9w",
        "Bearer " + "x" * 10_000,
        "Bearer é" + key(1).text,
        f"Bearer {key(1).text} {key(1).text}",
        f"Bearer {Idp('ES256').sign()}",
    ],
)
def test_a_credential_that_does_not_hold_is_401_and_never_anonymous(door: Make, authorization: str) -> None:
    made = door(anonymous={"roles": ["score"]}, keys=[key_entry(1)])
    found = made.refused(authorization)
    assert found.status == 401
    assert authorization[8:30] not in found.message or len(authorization) < 10


def test_two_credentials_of_one_principal_are_fine_and_of_two_are_not(door: Make) -> None:
    made = door(keys=[key_entry(1), key_entry(2)], certificates=[LISTED])
    assert made.who(bearer(), api_key=key(1).text) == "shop1"
    assert made.who(bearer(), peer=PEER) == "shop1"
    for found in (
        made.refused(bearer(1), api_key=key(2).text),
        made.refused(bearer(2), peer=PEER),
        made.refused(bearer(1), api_key="ilk_x"),
    ):
        assert found.status == 401


def test_a_listed_certificate_is_a_principal_and_another_only_the_wire(door: Make) -> None:
    made = door(keys=[key_entry(2)], certificates=[LISTED])
    assert made.who(peer=PEER) == "shop1"
    stranger = {**PEER, "subjectAltName": (("URI", "spiffe://example.org/gateway"),)}
    assert made.who(peer=stranger) == "anonymous"
    assert made.who(bearer(2), peer=stranger) == "shop2"


def test_a_certificate_that_expires_on_a_connection_that_stays_no_longer_counts(door: Make) -> None:
    made = door(certificates=[LISTED])
    assert made.who(peer=PEER) == "shop1"
    made.clock.wall_ns = 1_893_456_000 * NS_PER_S
    assert made.refused(peer=PEER).status == 401


def test_a_remembered_key_ends_with_its_expiry(door: Make) -> None:
    made = door(keys=[key_entry(1, expires="2026-09-21T15:00:00Z")])
    assert made.who(bearer()) == "shop1"
    made.clock.advance(3_600)
    assert "expired" in made.refused(bearer()).message


def test_the_same_text_in_the_other_header_is_judged_anew(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    assert made.who(bearer()) == "shop1"
    assert made.refused(api_key=bearer()).status == 401


def test_the_memory_is_bounded_and_holds_no_credential(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    for spaces in range(REMEMBERED + 9):
        made.who("Bearer " + " " * (spaces % 300) + "\t" * (spaces // 300) + key(1).text)
    assert len(made.gate._known) == REMEMBERED
    assert not any(key(1).secret.encode() in name for name in made.gate._known)


# --- tokens ---------------------------------------------------------------------------------------------


@pytest.mark.process
def test_a_token_is_verified_once_and_counts_until_it_ends(tmp_path: Path) -> None:
    idp = Idp("ES256")
    with website() as site:
        site.publish(idp.key_set())
        made = Door(tmp_path, access_file(oidc=[issuer_entry(issuer=site.url)]))
        token = "Bearer " + idp.sign(claims(iss=site.url))
        assert made.refused(token).status == 503  # its issuer's keys come with the first turn
        made.turn()
        name = made.who(token)
        assert name == "tess@" + site.url.removeprefix("http://")
        site.pages.clear()
        assert made.who(token) == name
        made.clock.advance(300 + 31)
        assert made.refused(token).status == 401


def test_a_withdrawn_key_ends_the_tokens_that_it_signed(tmp_path: Path) -> None:
    idp = Idp("ES256")
    made = Door(tmp_path, access_file(oidc=[issuer_entry(jwksFile="keys.json")]))
    keys = made.path.parent / "keys.json"
    keys.write_bytes(idp.key_set())
    made.turn()
    token = "Bearer " + idp.sign(claims(exp=NOW_S + 9_000))
    made.who(token)
    keys.write_bytes(Idp("RS256", "k2").key_set())
    made.clock.advance(301)
    made.turn()
    assert made.refused(token).status == 401


def test_roles_of_a_token_are_those_of_its_groups(tmp_path: Path) -> None:
    idp = Idp("ES256")
    made = Door(tmp_path, access_file(oidc=[issuer_entry(jwksFile="keys.json")]))
    (made.path.parent / "keys.json").write_bytes(idp.key_set())
    made.turn()
    teller = "Bearer " + idp.sign()
    made.gate.check(made.gate.identify({b"authorization": teller.encode()}), "predict", "fraud")
    assert made.stopped("metrics", authorization=teller).status == 403
    assert AUDIENCE == "interlock"


# --- whether ----------------------------------------------------------------------------------------------


def test_what_the_table_allows_passes_and_the_rest_is_403(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    made.gate.check(made.gate.identify({b"x-api-key": key(1).text.encode()}), "predict", "fraud")
    assert made.stopped("predict", "credit", bearer()).status == 403
    assert made.stopped("repository.unload", "fraud", bearer()).status == 403
    assert made.stopped("no.such.action", "fraud", bearer()).status == 403


def test_somebody_without_a_credential_is_asked_for_one(door: Make) -> None:
    assert door().stopped("predict", "fraud").status == 401
    assert CHALLENGE.endswith(b"\r\n")


def test_too_often_is_429_with_the_time_to_wait(door: Make) -> None:
    made = door(keys=[key_entry(1)], rate={"principals": {"shop1": {"perSecond": 1, "burst": 3}}})
    shop = made.gate.identify({b"x-api-key": key(1).text.encode()})
    for _ in range(3):
        made.gate.check(shop, "predict", "fraud")
    found = made.stopped("predict", "fraud", bearer())
    assert (found.status, found.retry_s) == (429, 1)
    made.turn()
    assert (made.gate.denials, made.told) == (1, [])
    made.clock.advance(1)
    made.gate.check(shop, "predict", "fraud")


def test_more_than_a_bucket_holds_is_not_to_be_tried_again(door: Make) -> None:
    made = door(anonymous={"roles": ["score"]}, rate={"default": {"perSecond": 1, "burst": 3}})
    with pytest.raises(Unanswered) as caught:
        made.gate.check(made.gate.identify({}), "predict", "fraud", 4)
    assert (caught.value.status, caught.value.retry_s) == (429, 0)


def test_what_is_refused_takes_nothing_from_the_rate(door: Make) -> None:
    made = door(keys=[key_entry(1)], rate={"default": {"perSecond": 1, "burst": 1}})
    for _ in range(5):
        assert made.stopped("predict", "credit", bearer()).status == 403
    made.gate.check(made.gate.identify({b"x-api-key": key(1).text.encode()}), "predict", "fraud")


# --- what is told ------------------------------------------------------------------------------------------


def test_denials_are_counted_and_told_together_once(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    for _ in range(3):
        made.stopped("predict", "credit", bearer())
    made.refused(bearer(2))
    made.stopped("metrics")
    made.turn()
    assert made.told == [
        Denial("shop1", "predict", "credit", "not granted", 3),
        Denial("unknown", "authenticate", "", "no valid API key", 1),
        Denial("anonymous", "metrics", "", "no credential", 1),
    ]
    assert made.gate.denials == 5
    made.turn()
    assert len(made.told) == 3


def test_denials_that_go_on_are_told_ever_more_seldom_and_none_is_lost(door: Make) -> None:
    made = door()
    for _ in range(600):
        made.stopped("predict", "fraud")
        made.turn()
        made.clock.advance(1)
    assert len(made.told) < 20
    made.clock.advance(TELL_S[1])
    made.turn()
    assert sum(each.count for each in made.told) == 600
    reports = len(made.told)
    for _ in range(3):
        made.clock.advance(TELL_S[1])
        made.turn()
    made.stopped("predict", "fraud")
    made.turn()
    assert len(made.told) == reports + 1


def test_what_is_told_is_bounded_and_shows_no_card_number(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    for odd in ("4111111111111111", "a\nb", "x" * 5_000):
        made.stopped("predict", odd, bearer())
    for number in range(2 * DENIALS):
        made.stopped("predict", f"s{number}", bearer())
    made.turn()
    assert len(made.told) <= DENIALS + 1
    assert sum(each.count for each in made.told) == 2 * DENIALS + 3
    assert made.told[0] == Denial("shop1", "predict", "?", "not granted", 3)


# --- the file -----------------------------------------------------------------------------------------------


def test_a_changed_file_holds_from_the_next_turn(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    assert made.who(bearer(1)) == "shop1"
    made.change(access_file(keys=[key_entry(2)], rate={"default": {"perSecond": 1, "burst": 1}}))
    assert made.refused(bearer(1)).status == 401
    assert made.who(bearer(2)) == "shop2"
    assert made.gate.generation == 1
    made.gate.check(made.gate.identify({b"x-api-key": key(2).text.encode()}), "predict", "fraud")
    assert made.stopped("predict", "fraud", bearer(2)).status == 429


@pytest.mark.parametrize("data", [b"", b"kind: Access\n", b"\xff", access_file(keys=[{"id": "x"}])])
def test_a_broken_file_leaves_the_grants_of_before(door: Make, data: bytes) -> None:
    made = door(keys=[key_entry(1)])
    made.change(data)
    assert made.who(bearer()) == "shop1"
    made.change(access_file())
    assert made.refused(bearer()).status == 401


def test_removing_the_file_opens_nothing(door: Make) -> None:
    made = door(keys=[key_entry(1)])
    made.path.unlink()
    made.turn()
    assert made.who(bearer()) == "shop1"
    assert made.stopped("predict", "fraud").status == 401


def test_a_first_file_closes_what_was_open_to_this_machine(tmp_path: Path) -> None:
    made = Door(tmp_path, None)
    made.gate.check(made.gate.identify({}), "predict", "fraud")
    made.gate.check(made.gate.identify({}), "metrics")
    assert made.stopped("repository.unload", "fraud").status == 401
    made.change(access_file())
    assert made.stopped("predict", "fraud").status == 401


def test_a_watching_gate_takes_a_change_over_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_bytes(access_file())

    async def go() -> frozenset[str]:
        changed = asyncio.Event()
        gate = Gate(Access.parse(access_file()), ManualClock(), make_tokens=lambda *_: changed.set(), path=path)
        changed.clear()
        watching = asyncio.create_task(gate.watch(0.001))
        path.write_bytes(access_file(anonymous={"roles": ["score"]}))
        await changed.wait()
        watching.cancel()
        return gate.identify({}).roles

    assert asyncio.run(go()) == {"score"}


# --- the start ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "scorer.example.org", ""])  # noqa: S104
def test_a_door_open_to_others_needs_a_file(tmp_path: Path, host: str) -> None:
    with pytest.raises(RefusedError, match="beyond this machine") as caught:
        Door(tmp_path, None, host)
    assert "interlock access key new" in caught.value.remedy
    assert Door(tmp_path, access_file(), host).gate.access.anonymous.roles == frozenset()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


def test_a_broken_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trust/access\.yaml"):
        Door(tmp_path, b"kind: Access\n")


def test_a_supervisor_starts_only_a_door_that_somebody_decided_on(tmp_path: Path) -> None:
    home = settings.load(tmp_path)
    prepare(home)
    assert read_access(home) == Access.unconfigured()
    with pytest.raises(RefusedError, match="beyond this machine"):
        prepare(replace(home, scoring=replace(home.scoring, host="10.0.0.1")))
    with pytest.raises(UsageError, match="cannot be used"):
        prepare(replace(home, scoring=replace(home.scoring, tls_cert="nowhere.pem")))


def test_rates_begin_anew_with_the_supervisor_and_are_shared_by_its_workers(tmp_path: Path) -> None:
    data = access_file(anonymous={"roles": ["score"]}, rate={"default": {"perSecond": 1, "burst": 2}})
    one, other = Door(tmp_path, data), Door(tmp_path, data)
    for door in (one, other):
        door.gate.check(door.gate.identify({}), "predict", "fraud")
    assert one.stopped("predict", "fraud").status == other.stopped("predict", "fraud").status == 429
    begin_limits(one.settings)
    Door(tmp_path, data).gate.check(one.gate.identify({}), "predict", "fraud")


def test_a_gate_of_fixed_grants_needs_no_file() -> None:
    told: list[Sequence[Denial]] = []
    gate = Gate(Access.parse(access_file()), ManualClock(), told.append)
    asyncio.run(gate.refresh())
    assert told == []
    assert gate.identify({}).roles == frozenset()
