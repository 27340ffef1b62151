"""Keys of issuers: what is taken of a key set, how long it counts, and how it is fetched."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey, RSAKey
from tests.adapters.test_oidc import accept, listed, verifier
from tests.doorkeeper import ISSUER, Idp, Website, claims, website

from interlock.adapters.oidc import fetch, jwks
from interlock.adapters.oidc.jwks import FRESH_S, RETRY_S, STALE_S, Jwks
from interlock.adapters.oidc.verifier import Verifier
from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError, UnreachableError

pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # of a key made weak here
SMALL = 1_024

# --- key sets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"kid": 7},
        {"n": "AQAB"},
        {"n": "!"},
        {"n": None},
        {"crv": "P-256"},
        {"d": "AQAB"},
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC"},
    ],
)
def test_a_key_that_is_not_meant_for_this_is_not_taken(changes: dict[str, Any]) -> None:
    with pytest.raises(UnreachableError, match="no usable key"):
        jwks.parse(json.dumps({"keys": [{**Idp("RS256").public, **changes}]}).encode())


def test_a_short_rsa_key_is_not_taken() -> None:
    short = Idp("RS256", "k1", RSAKey.generate_key(SMALL))
    with pytest.raises(UnreachableError, match="no usable key"):
        jwks.parse(short.key_set())


def test_other_keys_of_a_set_do_not_matter() -> None:
    odd = [
        {"kty": "oct", "k": "AAAA", "kid": "k1"},
        {"kty": "AKP"},
        "x",
        OKPKey.generate_key("X25519").as_dict(private=False),
    ]
    data = json.dumps({"keys": [*odd, Idp("ES256").public]}).encode()
    assert list(jwks.parse(data)) == [("k1", "P-256")]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 7}', b'{"keys": []}', b"[" * 100_000])
def test_what_is_no_key_set_is_no_keys(data: bytes) -> None:
    with pytest.raises(UnreachableError):
        jwks.parse(data)


# --- keys over time ----------------------------------------------------------------------------------------


class Source:
    """An issuer whose answers are set, and whose questions are counted."""

    def __init__(self, *idps: Idp) -> None:
        self.idps: tuple[Idp, ...] = idps
        self.asked = 0

    def __call__(self) -> bytes:
        self.asked += 1
        if not self.idps:
            raise UnreachableError("away", "wait")
        return self.idps[0].key_set(*self.idps[1:])


def at(keys: Jwks, seconds: float) -> bool:
    return asyncio.run(keys.refresh(int(seconds * NS_PER_S)))


def test_keys_are_fetched_once_and_again_when_they_are_old() -> None:
    source = Source(Idp("ES256"))
    keys = Jwks(ISSUER, source)
    assert at(keys, 0)
    assert [at(keys, second) for second in range(1, FRESH_S)] == [False] * (FRESH_S - 1)
    assert source.asked == 1
    assert not at(keys, FRESH_S)
    assert source.asked == 2


def test_a_token_of_a_new_key_waits_for_one_fetch_and_not_for_its_turn() -> None:
    source = Source(Idp("ES256", "old"))
    keys = Jwks(ISSUER, source)
    at(keys, 0)
    at(keys, RETRY_S)
    source.idps = (Idp("ES256", "new"),)
    with pytest.raises(UnreachableError):
        keys.find("new", "ES256")
    assert at(keys, RETRY_S + 1)
    keys.find("new", "ES256")


def test_unknown_keys_make_nobody_ask_more_often_than_allowed() -> None:
    source = Source(Idp("ES256"))
    keys = Jwks(ISSUER, source)
    for second in range(100):
        at(keys, second)
        with pytest.raises((RefusedError, UnreachableError)):
            keys.find(f"random{second}", "ES256")
    assert source.asked <= 100 // RETRY_S
    at(keys, 100)
    with pytest.raises(RefusedError, match="does not list"):
        keys.find("random", "ES256")


def test_an_issuer_that_is_away_leaves_its_keys_in_force() -> None:
    source = Source(Idp("ES256"))
    keys = Jwks(ISSUER, source)
    at(keys, 0)
    source.idps = ()
    for second in range(0, STALE_S, FRESH_S):
        assert not at(keys, second)
        keys.find("k1", "ES256")
    at(keys, STALE_S)
    with pytest.raises(UnreachableError):
        keys.find("k1", "ES256")
    source.idps = (Idp("ES256"),)
    assert at(keys, STALE_S + RETRY_S)
    keys.find("k1", "ES256")


def test_tokens_that_come_before_the_keys_are_asked_to_come_again(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError):
        Verifier([listed()], tmp_path).verify(Idp().sign(), accept)


def test_a_withdrawn_key_verifies_nothing_any_more() -> None:
    source = Source(Idp("ES256"), Idp("RS256", "k2"))
    keys = Jwks(ISSUER, source)
    at(keys, 0)
    source.idps = (Idp("RS256", "k2"),)
    assert at(keys, FRESH_S)
    with pytest.raises(RefusedError):
        keys.find("k1", "ES256")


def test_a_changed_file_of_grants_keeps_the_keys_of_issuers_that_stay(tmp_path: Path) -> None:
    idp = Idp("ES256")
    made = verifier(tmp_path, idp)
    (tmp_path / "keys.json").unlink()
    assert Verifier([listed(), listed("https://b.example.org")], tmp_path, made).verify(idp.sign(), accept) == "tess"
    with pytest.raises(RefusedError):
        Verifier([listed("https://b.example.org")], tmp_path, made).verify(idp.sign(), accept)


# --- the network --------------------------------------------------------------------------------------------


@pytest.mark.process
def test_keys_come_by_discovery(tmp_path: Path) -> None:
    idp = Idp("RS256")
    with website() as site:
        site.publish(idp.key_set())
        made = Verifier([listed(site.url, None)], tmp_path)
        assert asyncio.run(made.refresh(0))
        assert made.verify(idp.sign(claims(iss=site.url)), accept) == "tess"
        assert site.asked == ["/.well-known/openid-configuration", "/keys"]


def swapped_issuer(site: Website) -> None:
    site.publish(Idp().key_set(), issuer="https://evil.example.org")


def keys_elsewhere_in_plain(site: Website) -> None:
    site.publish(Idp().key_set())
    document = {"issuer": site.url, "jwks_uri": "http://evil.example.org/keys"}
    site.pages["/.well-known/openid-configuration"] = json.dumps(document).encode()


def keys_in_a_local_file(site: Website) -> None:
    site.publish(Idp().key_set())
    document = {"issuer": site.url, "jwks_uri": "file:///etc/passwd"}
    site.pages["/.well-known/openid-configuration"] = json.dumps(document).encode()


def redirected(site: Website) -> None:
    site.publish(Idp().key_set())
    site.pages["/elsewhere"] = site.pages["/keys"]
    site.pages["/keys"] = "/elsewhere"


def endless(site: Website) -> None:
    site.publish(b" " * (fetch.MAX_BYTES + 1))


def down(site: Website) -> None:
    site.publish(Idp().key_set())
    site.pages["/keys"] = 500


def no_document(site: Website) -> None:
    site.pages["/.well-known/openid-configuration"] = b"<html>"


@pytest.mark.process
@pytest.mark.parametrize(
    "prepare",
    [swapped_issuer, keys_elsewhere_in_plain, keys_in_a_local_file, redirected, endless, down, no_document],
)
def test_an_issuer_that_does_not_answer_as_one_gives_no_keys(prepare: Callable[[Website], None]) -> None:
    with website() as site:
        prepare(site)
        with pytest.raises(UnreachableError):
            fetch.key_set(site.url)


@pytest.mark.process
def test_an_issuer_that_nobody_answers_for_is_not_waited_for() -> None:
    with website() as site:
        url = site.url
    with pytest.raises(UnreachableError):
        fetch.key_set(url)


@pytest.mark.process
def test_the_loop_goes_on_while_an_issuer_is_slow() -> None:
    def slow() -> bytes:
        time.sleep(0.2)
        return Idp("ES256").key_set()

    async def both() -> int:
        turns = 0
        fetching = asyncio.create_task(Jwks(ISSUER, slow).refresh(0))
        while not fetching.done():
            turns += 1
            await asyncio.sleep(0.001)
        return turns

    assert asyncio.run(both()) > 1
