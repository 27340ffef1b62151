"""Who may do what: identities from keys, tokens and certificates, judged by one table.

Contract. Denied by default: no file, section, entry, role or action means no. A credential that
does not hold raises; it never falls back to being anonymous. Nothing here reads a clock, a file or
a socket: `now_ns` is wall time since the epoch, and a token's claims are handed in after its
signature was verified (`adapters/oidc`). Messages never repeat what a caller sent.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.base.canonical import digest_of
from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError
from interlock.privacy import pan
from interlock.trust import access_file, apikey
from interlock.trust.grants import permitted
from interlock.trust.principal import CertificateGrant, Issuer, KeyGrant, Principal, Rates

LEEWAY_S = 30
"""How far an issuer's clock may differ from ours (RFC 7519 section 4.1.4 allows a few minutes)."""

_NOBODY = bytes(32)
_MAX_SUBJECT = 128
_KEY_REMEDY = "ask for a key: `interlock access key new`"
_SIGN_IN = "sign in again, with the audience and groups of trust/access.yaml"


@dataclass(frozen=True)
class Access:
    """All grants of one installation.

    Attributes:
        digest: of the file they come from, `sha256:<hex>`; empty without one.
        anonymous: who presented nothing; roles may be empty.
        keys: API keys by id.
        issuers: by identifier.
        certificates: by subject.
        rates: token buckets by principal.
    """

    digest: str
    anonymous: Principal
    keys: Mapping[str, KeyGrant]
    issuers: Mapping[str, Issuer]
    certificates: Mapping[str, CertificateGrant]
    rates: Rates

    @classmethod
    def parse(cls, data: bytes) -> Access:
        """The grants of `trust/access.yaml`.

        Raises:
            UsageError: with line and remedy.
        """
        written = access_file.read(data)
        return cls(
            digest_of(data),
            Principal(access_file.ANONYMOUS, written.anonymous, "anonymous", written.anonymous_services),
            {key.id: key for key in written.keys},
            {issuer.issuer: issuer for issuer in written.issuers},
            {certificate.subject: certificate for certificate in written.certificates},
            written.rates,
        )

    @classmethod
    def unconfigured(cls) -> Access:
        """What holds on a loopback listener without a file: anybody on this machine may score and look."""
        anybody = Principal(access_file.ANONYMOUS, frozenset({"score", "observe"}), "anonymous")
        return cls("", anybody, {}, {}, {}, Rates(None, {}))

    def by_key(self, text: str, now_ns: int) -> Principal:
        """Whose API key that is.

        Raises:
            RefusedError: unknown, wrong or expired.
        """
        given = apikey.parse(text)
        grant = self.keys.get(given.id)
        # Compared also for an unknown id, so that both take the same time.
        same = hmac.compare_digest(given.digest, _NOBODY if grant is None else grant.sha256)
        if grant is None or not same:
            raise RefusedError("no valid API key", _KEY_REMEDY)
        if now_ns >= grant.expires_ns:
            raise RefusedError("the API key has expired", _KEY_REMEDY)
        return Principal(grant.name, grant.roles, "key", grant.services, grant.expires_ns)

    def by_claims(self, claims: Mapping[str, Any], now_ns: int) -> Principal:
        """Whose token that is; its signature has been verified under the key of its `iss`.

        Checks issuer, audience, exp, nbf and iat (RFC 7519 section 4.1) with `LEEWAY_S`.

        Raises:
            RefusedError: it does not count here, or not now.
        """
        issuer = self.issuer_of(claims)
        until_s = _check_times(claims, now_ns)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
            raise RefusedError("the token names no usable subject", _SIGN_IN)
        if pan.find(subject):
            raise RefusedError("the token's subject looks like a card number", _SIGN_IN)
        groups = _groups(claims, issuer.roles_claim)
        roles = frozenset(role for group in groups for role in issuer.groups.get(group, ()))
        # A subject is unique within its issuer only (OpenID Connect Core section 2); no key's name has an '@'.
        name = f"{subject}@{issuer.issuer.partition('://')[2]}"
        return Principal(name, roles, "oidc", issuer.services, (until_s + LEEWAY_S) * NS_PER_S)

    def issuer_of(self, claims: Mapping[str, Any]) -> Issuer:
        """The listed issuer that the claims name, if they are meant for us.

        Raises:
            RefusedError: another issuer or audience.
        """
        named = claims.get("iss")
        issuer = self.issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise RefusedError("the token's issuer is not accepted here", _SIGN_IN)
        audience = claims.get("aud")
        meant = audience if isinstance(audience, list) else [audience]
        if issuer.audience not in meant:
            raise RefusedError("the token is meant for another audience", _SIGN_IN)
        return issuer

    def by_certificate(self, names: Sequence[str], expires_ns: int = 0) -> Principal | None:
        """Whose certificate that is, by the names of `certificate_names`; None: it is not listed.

        Raises:
            RefusedError: several of its names are listed.
        """
        found = [self.certificates[name] for name in dict.fromkeys(names) if name in self.certificates]
        if not found:
            return None
        if len(found) > 1:
            raise RefusedError("the certificate names two principals", "list one of its subjects only")
        grant = found[0]
        return Principal(grant.name, grant.roles, "certificate", grant.services, expires_ns)

    def allows(self, principal: Principal, action: str, service: str = "") -> bool:
        """Whether somebody may do that, and (when one is named) for that service."""
        if action not in permitted(principal.roles):
            return False
        return not service or principal.services is None or service in principal.services


def certificate_names(peer: Mapping[str, Any]) -> tuple[str, ...]:
    """The names that identify a verified client certificate, of the strongest kind that it has.

    URIs of its subjectAltName (a SPIFFE id), else DNS names, else common names: a certificate that
    has the first is never taken by the others, since whoever asked for it chose them freely.

    Args:
        peer: as `ssl.SSLObject.getpeercert()` gives it.
    """
    alternatives: Iterable[tuple[str, str]] = peer.get("subjectAltName", ())
    for kind in ("URI", "DNS"):
        names = tuple(value for key, value in alternatives if key == kind)
        if names:
            # "https://…" in a DNS name or a CN must not pass for a URI, nor the other way round.
            return tuple(name for name in names if ("://" in name) == (kind == "URI"))
    subject: Iterable[Iterable[tuple[str, str]]] = peer.get("subject", ())
    return tuple(value for part in subject for key, value in part if key == "commonName" and "://" not in value)


def _check_times(claims: Mapping[str, Any], now_ns: int) -> int:
    """The instant, in s, at which the token ends; raises when it has not begun or has ended."""
    now_s = now_ns // NS_PER_S
    until = _seconds(claims, "exp")
    if until is None:
        raise RefusedError("the token has no expiry", _SIGN_IN)
    if now_s >= until + LEEWAY_S:
        raise RefusedError("the token has expired", _SIGN_IN)
    for name in ("nbf", "iat"):
        since = _seconds(claims, name)
        if since is not None and since > now_s + LEEWAY_S:
            raise RefusedError("the token is not valid yet", "compare the clocks of this host and of the issuer")
    return until


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        raise RefusedError("the token's times are no numbers", _SIGN_IN)
    return int(value)


def _groups(claims: Mapping[str, Any], claim: str) -> list[str]:
    found: Any = claims.get(claim)
    if found is None:
        found = claims
        for step in claim.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split()  # as `scope` is written (RFC 8693 section 4.2)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
