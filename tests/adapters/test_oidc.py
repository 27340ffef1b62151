"""Tokens of real issuers: keys by discovery or from a file, kept while the issuer is away; forgeries refused."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey
from tests.doorkeeper import ISSUER, Idp, Website, claims, website

from interlock.adapters.oidc import fetch, jwks
from interlock.adapters.oidc.jwks import FRESH_S, RETRY_S, STALE_S, Jwks
from interlock.adapters.oidc.verifier import MAX_TOKEN, Verifier
from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError, UnreachableError
from interlock.trust.principal import Issuer

pytestmark = pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # of keys and names made weak here
SMALL = 1_024


def accept(given: Mapping[str, Any]) -> str:
    return str(given["sub"])


def listed(issuer: str = ISSUER, jwks_file: str | None = "keys.json") -> Issuer:
    return Issuer(issuer, "interlock", "groups", {}, None, jwks_file)


def verifier(folder: Path, *idps: Idp, issuer: str = ISSUER) -> Verifier:
    (folder / "keys.json").write_bytes(idps[0].key_set(*idps[1:]))
    made = Verifier([listed(issuer)], folder)
    asyncio.run(made.refresh(0))
    return made


# --- what is accepted -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_a_listed_issuer_is_verified(tmp_path: Path, algorithm: str) -> None:
    idp = Idp(algorithm)
    assert verifier(tmp_path, idp).verify(idp.sign(), accept) == "tess"


def test_the_kid_chooses_among_keys_and_a_lone_key_needs_none(tmp_path: Path) -> None:
    old, new = Idp("ES256", "old"), Idp("ES256", "new", ECKey.generate_key("P-256"))
    both = verifier(tmp_path, old, new)
    assert both.verify(old.sign(), accept) == both.verify(new.sign(), accept) == "tess"
    with pytest.raises(RefusedError, match="which key"):
        both.verify(Idp("ES256", "").sign(), accept)
    assert verifier(tmp_path, old).verify(Idp("ES256", "").sign(), accept) == "tess"


def test_what_the_judge_refuses_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    idp = Idp("ES256")
    made = verifier(tmp_path, idp)

    def refuse(given: Mapping[str, Any]) -> str:
        raise RefusedError("judged", "none")

    with pytest.raises(RefusedError, match="judged"):
        made.verify(idp.sign()[:-4] + "AAAA", refuse)


# --- what is not --------------------------------------------------------------------------------------


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unsigned(idp: Idp) -> str:
    return f"{b64({'alg': 'none', 'kid': 'k1'})}.{b64(claims())}."


def unsigned_with_something(idp: Idp) -> str:
    return f"{b64({'alg': 'none', 'kid': 'k1'})}.{b64(claims())}.AAAA"


def none_in_other_letters(idp: Idp) -> str:
    return f"{b64({'alg': 'nOnE', 'kid': 'k1'})}.{b64(claims())}.AAAA"


def hmac_under_the_public_key(idp: Idp) -> str:
    """The classic confusion of keys: the public key is public, so anybody can use it as an HMAC secret."""
    signed = f"{b64({'alg': 'HS256', 'kid': 'k1'})}.{b64(claims())}"
    return f"{signed}.{b64(hmac.digest(idp.key.as_pem(private=False), signed.encode(), 'sha256'))}"


def of_a_key_of_its_own(idp: Idp) -> str:
    thief = Idp("RS256", "k1", RSAKey.generate_key(2048))
    return thief.sign(None, jwk=thief.public)


def of_a_key_set_of_its_own(idp: Idp) -> str:
    return Idp("RS256", "k1", RSAKey.generate_key(2048)).sign(None, jku="https://evil.example.org/keys")


def with_another_algorithm_of_the_same_key(idp: Idp) -> str:
    _, body, signature = idp.sign().split(".")
    return f"{b64({'alg': 'RS512', 'kid': 'k1'})}.{body}.{signature}"


def with_an_algorithm_of_another_kind_of_key(idp: Idp) -> str:
    _, body, signature = idp.sign().split(".")
    return f"{b64({'alg': 'ES256', 'kid': 'k1'})}.{body}.{signature}"


def with_a_kid_that_is_a_path(idp: Idp) -> str:
    return Idp("RS256", "../../../../dev/null").sign()


def with_a_kid_that_is_a_statement(idp: Idp) -> str:
    return Idp("RS256", "k1' UNION SELECT 'key").sign()


def with_a_kid_that_is_no_text(idp: Idp) -> str:
    _, body, signature = idp.sign().split(".")
    return f"{b64({'alg': 'RS256', 'kid': ['k1']})}.{body}.{signature}"


def with_a_long_kid(idp: Idp) -> str:
    return Idp("RS256", "k" * 300).sign()


def with_a_changed_body(idp: Idp) -> str:
    head, _, signature = idp.sign().split(".")
    return f"{head}.{b64(claims(sub='boss'))}.{signature}"


def with_a_claim_twice(idp: Idp) -> str:
    body = json.dumps(claims())[:-1] + ', "sub": "boss"}'
    return f"{idp.sign().split('.')[0]}.{b64(body.encode())}.AAAA"


def with_a_critical_extension(idp: Idp) -> str:
    _, body, signature = idp.sign().split(".")
    return f"{b64({'alg': 'RS256', 'kid': 'k1', 'crit': ['b64'], 'b64': False})}.{body}.{signature}"


def of_another_issuer(idp: Idp) -> str:
    return idp.sign(claims(iss="https://evil.example.org"))


def encrypted(idp: Idp) -> str:
    return ".".join([b64({"alg": "RSA-OAEP", "enc": "A256GCM"}), "AAAA", "AAAA", "AAAA", "AAAA"])


def oversized(idp: Idp) -> str:
    return idp.sign(claims(padding="x" * MAX_TOKEN))


def deeply_nested(idp: Idp) -> str:
    return f"{b64(b'[' * 4_000)}.{b64(claims())}.AAAA"


def a_bomb_of_digits(idp: Idp) -> str:
    body = b64(b'{"exp": ' + b"9" * 5_000 + b"}")
    return f"{idp.sign().split('.')[0]}.{body}.AAAA"


FORGERIES = [
    unsigned,
    unsigned_with_something,
    none_in_other_letters,
    hmac_under_the_public_key,
    of_a_key_of_its_own,
    of_a_key_set_of_its_own,
    with_another_algorithm_of_the_same_key,
    with_an_algorithm_of_another_kind_of_key,
    with_a_kid_that_is_a_path,
    with_a_kid_that_is_a_statement,
    with_a_kid_that_is_no_text,
    with_a_long_kid,
    with_a_changed_body,
    with_a_claim_twice,
    with_a_critical_extension,
    of_another_issuer,
    encrypted,
    oversized,
    deeply_nested,
    a_bomb_of_digits,
    lambda idp: "",
    lambda idp: "a.b.c",
    lambda idp: idp.sign() + ".AAAA",
    lambda idp: idp.sign().rpartition(".")[0] + ".",
    lambda idp: " " + idp.sign(),
    lambda idp: idp.sign() + "\n",
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forgery_is_refused(tmp_path: Path, forge: Callable[[Idp], str]) -> None:
    idp = Idp("RS256")
    made = verifier(tmp_path, idp)
    token = forge(idp)
    with pytest.raises(RefusedError) as caught:
        made.verify(token, accept)
    assert not token or token[:20] not in str(caught.value)


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
