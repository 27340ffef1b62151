"""Who asks, and what `trust/access.yaml` grants to whom: plain values, no judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["anonymous", "key", "oidc", "certificate"]
Services = frozenset[str] | None
"""Names of services; None: all of them."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who presented a credential that holds, or nobody in particular.

    Attributes:
        name: decisions, limits and events carry it; checked to be printable, short and no card number.
        roles: of `trust.grants.ROLES`.
        kind: how it was established.
        services: those it may ask for; None: all.
        expires_ns: wall clock from which the credential no longer counts; 0: never by itself.
    """

    name: str
    roles: frozenset[str]
    kind: Kind
    services: Services = None
    expires_ns: int = 0


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """An API key as it is stored: `sha256` are the 32 bytes of its secret's digest."""

    id: str
    name: str
    sha256: bytes
    roles: frozenset[str]
    services: Services
    expires_ns: int


@dataclass(frozen=True, slots=True)
class Issuer:
    """An OpenID Connect issuer whose tokens count.

    Attributes:
        issuer: its identifier; a token's `iss` is exactly this.
        audience: what must stand in a token's `aud`.
        roles_claim: the claim that lists groups; a dotted path when no claim has that very name.
        groups: group to roles.
        services: those that its people may ask for; None: all.
        jwks_file: a file beside access.yaml with its keys; None: they are fetched from the issuer.
    """

    issuer: str
    audience: str
    roles_claim: str
    groups: Mapping[str, frozenset[str]]
    services: Services
    jwks_file: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateGrant:
    """A client certificate's identity: a URI (such as a SPIFFE id), a DNS name, or a common name."""

    subject: str
    name: str
    roles: frozenset[str]
    services: Services


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` at once, refilled with `per_second`."""

    per_second: int
    burst: int


@dataclass(frozen=True, slots=True)
class Rates:
    """The bucket of each principal that has one of its own, and everybody else's (None: no limit)."""

    default: Rate | None
    principals: Mapping[str, Rate]

    def of(self, name: str) -> Rate | None:
        """The bucket that holds for a principal."""
        return self.principals.get(name, self.default)
