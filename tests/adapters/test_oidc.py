"""Tokens of real issuers: keys by discovery or from a file, kept while the issuer is away; forgeries refused."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey
from tests import doorkeeper
from tests.doorkeeper import ISSUER, Idp, claims

from interlock.adapters.oidc.verifier import MAX_TOKEN, Verifier
from interlock.base.errors import RefusedError
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


def test_what_no_library_made_is_verified_all_the_same(tmp_path: Path) -> None:
    # The control of the forgeries below: such a signature holds when nothing else is wrong.
    idp = Idp("RS256")
    token = idp.sign_bytes({"alg": "RS256", "kid": "k1", "x5t": "AAAA", "more": 1}, json.dumps(claims()).encode())
    assert verifier(tmp_path, idp).verify(token, accept) == "tess"


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
    return doorkeeper.b64(value if isinstance(value, bytes) else json.dumps(value).encode())


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
    return idp.sign_bytes({"alg": "RS256", "kid": ["k1"]}, json.dumps(claims()).encode())


def with_a_changed_body(idp: Idp) -> str:
    head, _, signature = idp.sign().split(".")
    return f"{head}.{b64(claims(sub='boss'))}.{signature}"


def with_a_claim_twice(idp: Idp) -> str:
    body = json.dumps(claims())[:-1] + ', "sub": "boss"}'
    return idp.sign_bytes({"alg": "RS256", "kid": "k1"}, body.encode())


def with_a_critical_extension(idp: Idp) -> str:
    return idp.sign_bytes({"alg": "RS256", "kid": "k1", "crit": ["kid"]}, json.dumps(claims()).encode())


def whose_body_is_no_object(idp: Idp) -> str:
    return idp.sign_bytes({"alg": "RS256", "kid": "k1"}, b'["sub"]')


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
    whose_body_is_no_object,
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
