"""Reads `trust/access.yaml` strictly: an unknown field, role or form is refused with its line.

```
apiVersion: interlock.dev/v1alpha1
kind: Access
spec:
  anonymous: {roles: []}
  keys:
    - {id: k3f2a, name: shop, sha256: <64 hex digits>, roles: [score], services: [fraud], expires: 2027-01-31T00:00:00Z}
  oidc:
    - {issuer: https://login.example.org, audience: interlock, rolesClaim: groups, map: {ops: [operate]}, services: all}
  certificates:
    - {subject: spiffe://example.org/shop, name: shop, roles: [score], services: all}
  rate: {default: {perSecond: 500, burst: 1000}, principals: {shop: {perSecond: 5000, burst: 5000}}}
```
Every section may be absent. `services` is `all` or a list, and is asked for wherever somebody is
granted something: nobody gets every service by an omission. A rate holds for a scorer, whatever its workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from interlock.base import strict_yaml
from interlock.base.errors import UsageError
from interlock.privacy import pan
from interlock.trust.grants import ROLES, unknown_roles
from interlock.trust.principal import CertificateGrant, Issuer, KeyGrant, Rate, Rates, Services

SOURCE = "trust/access.yaml"
API_VERSION = "interlock.dev/v1alpha1"
KIND = "Access"
ANONYMOUS = "anonymous"
UNKNOWN = "unknown"
"""How denials name a caller whose credential did not hold."""
MAX_BYTES = 1_048_576
MAX_RATE = 1_000_000

_SECTIONS = ("anonymous", "keys", "oidc", "certificates", "rate")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile(r"[a-z0-9]{4,32}")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Each = TypeVar("Each")


@dataclass(frozen=True)
class Written:
    """What the file says."""

    anonymous: frozenset[str]
    anonymous_services: Services
    keys: tuple[KeyGrant, ...]
    issuers: tuple[Issuer, ...]
    certificates: tuple[CertificateGrant, ...]
    rates: Rates


@dataclass(frozen=True)
class _Entry:
    """A mapping of the file whose fields have been checked by name."""

    fields: strict_yaml.Mapping
    what: str

    def line(self, field: str) -> int:
        return self.fields.lines.get(field, self.fields.line)

    def fail(self, field: str, problem: str, remedy: str) -> NoReturn:
        raise UsageError(f"{SOURCE}:{self.line(field)}: {problem}", remedy)

    def text(self, field: str, form: re.Pattern[str], remedy: str) -> str:
        found = self.fields[field]
        if not isinstance(found, str) or not form.fullmatch(found):
            self.fail(field, f"{field} of {self.what} has another form", remedy)
        return found

    def roles(self, field: str = "roles") -> frozenset[str]:
        return _roles(self.fields[field], self.line(field))

    def services(self) -> Services:
        found = self.fields["services"]
        if found == "all":
            return None
        if not isinstance(found, list) or not found or not all(_matches(each, _SERVICE) for each in found):
            self.fail("services", f"services of {self.what} are no list of names", "write `all`, or [fraud]")
        return frozenset(found)

    def name(self) -> str:
        found = self.text("name", _NAME, "use up to 64 of a-z, 0-9, '.', '_' and '-'")
        if found in (ANONYMOUS, UNKNOWN) or pan.find(found):
            self.fail("name", f"the name of {self.what} is reserved, or looks like a card number", "choose another")
        return found


def read(data: bytes) -> Written:
    """What an access file says.

    Raises:
        UsageError: with line and remedy.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{SOURCE}: beyond {MAX_BYTES} bytes", "give services roles by OIDC groups instead of keys")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{SOURCE}: not UTF-8", "save it as UTF-8") from error
    top = _entry(strict_yaml.load(text, SOURCE), "the file", 1, ("apiVersion", "kind", "spec"))
    if top.fields["apiVersion"] != API_VERSION or top.fields["kind"] != KIND:
        top.fail("apiVersion", "another kind of file", f"write apiVersion: {API_VERSION} and kind: {KIND}")
    spec = _entry(top.fields["spec"], "spec", top.line("spec"), (), _SECTIONS)
    anonymous = _anonymous(spec)
    return Written(
        anonymous[0],
        anonymous[1],
        _list(spec, "keys", _key, lambda key: key.id),
        _list(spec, "oidc", _issuer, lambda issuer: issuer.issuer),
        _list(spec, "certificates", _certificate, lambda certificate: certificate.subject),
        _rates(spec),
    )


def timestamp(text: Any) -> int | None:
    """RFC 3339 text with its offset as ns since the epoch; None: it is not that."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None or moment < _EPOCH:
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _entry(value: Any, what: str, line: int, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> _Entry:
    known = ", ".join((*needed, *optional))
    if not isinstance(value, strict_yaml.Mapping):
        raise UsageError(f"{SOURCE}:{line}: {what} is no mapping", f"write its fields: {known}")
    for field in value:
        if field not in needed and field not in optional:
            raise UsageError(f"{SOURCE}:{value.lines[field]}: unknown field in {what}", f"known: {known}")
    missing = [field for field in needed if field not in value]
    if missing:
        raise UsageError(f"{SOURCE}:{value.line}: {what} lacks {', '.join(missing)}", f"its fields: {known}")
    return _Entry(value, what)


def _list(spec: _Entry, section: str, one: Callable[[Any, int], Each], name: Callable[[Each], str]) -> tuple[Each, ...]:
    given = spec.fields.get(section, [])
    if not isinstance(given, list):
        spec.fail(section, f"{section} is no list", f"write `{section}: []`, or one entry per line with a dash")
    found = []
    seen: set[str] = set()
    for each in given:
        line = each.line if isinstance(each, strict_yaml.Mapping) else spec.line(section)
        entry = one(each, line)
        if name(entry) in seen:
            raise UsageError(f"{SOURCE}:{line}: an entry of {section} stands twice", "keep one of the two")
        seen.add(name(entry))
        found.append(entry)
    return tuple(found)


def _anonymous(spec: _Entry) -> tuple[frozenset[str], Services]:
    if "anonymous" not in spec.fields:
        return frozenset(), None
    entry = _entry(spec.fields["anonymous"], "anonymous", spec.line("anonymous"), ("roles",), ("services",))
    return entry.roles(), entry.services() if "services" in entry.fields else None


def _key(value: Any, line: int) -> KeyGrant:
    entry = _entry(value, "a key", line, ("id", "name", "sha256", "roles", "services", "expires"))
    expires = timestamp(entry.fields["expires"])
    if expires is None:
        entry.fail("expires", "a key's expiry is no time", "write it in UTC, such as 2027-01-31T00:00:00Z")
    return KeyGrant(
        entry.text("id", _ID, "4 to 32 of a-z and 0-9, in quotes when it is a number"),
        entry.name(),
        bytes.fromhex(
            entry.text("sha256", _SHA256, "64 lower-case hex digits: make keys by `interlock access key new`")
        ),
        entry.roles(),
        entry.services(),
        expires,
    )


def _issuer(value: Any, line: int) -> Issuer:
    needed = ("issuer", "audience", "map", "services")
    entry = _entry(value, "an issuer", line, needed, ("rolesClaim", "jwksFile"))
    issuer = entry.fields["issuer"]
    if not _is_issuer(issuer):
        entry.fail("issuer", "an issuer is an https URL without query", "write it exactly as its tokens' iss")
    audience, claim = entry.fields["audience"], entry.fields.get("rolesClaim", "groups")
    if not _is_line(audience):
        entry.fail("audience", "an issuer's audience is a text", "write the client id or audience of its tokens")
    if not _is_line(claim):
        entry.fail("rolesClaim", "rolesClaim names a claim", "write groups, or a path such as realm_access.roles")
    groups = entry.fields["map"]
    if not isinstance(groups, strict_yaml.Mapping):
        entry.fail("map", "map is no mapping", "write group: [roles]")
    mapped = {group: _roles(roles, groups.lines[group]) for group, roles in groups.items()}
    kept = entry.text("jwksFile", _FILE, "name a file in trust/") if "jwksFile" in entry.fields else None
    return Issuer(issuer, audience, claim, mapped, entry.services(), kept)


def _certificate(value: Any, line: int) -> CertificateGrant:
    entry = _entry(value, "a certificate", line, ("subject", "name", "roles", "services"))
    subject = entry.fields["subject"]
    if not _is_line(subject):
        entry.fail("subject", "a certificate's subject is a text", "write its SAN URI, its SAN DNS name, or its CN")
    return CertificateGrant(subject, entry.name(), entry.roles(), entry.services())


def _rates(spec: _Entry) -> Rates:
    if "rate" not in spec.fields:
        return Rates(None, {})
    entry = _entry(spec.fields["rate"], "rate", spec.line("rate"), (), ("default", "principals"))
    default = _rate(entry.fields["default"], entry.line("default")) if "default" in entry.fields else None
    named = entry.fields.get("principals", strict_yaml.Mapping())
    if not isinstance(named, strict_yaml.Mapping):
        entry.fail("principals", "principals is no mapping", "write name: {perSecond: 100, burst: 200}")
    return Rates(default, {name: _rate(value, named.lines[name]) for name, value in named.items()})


def _rate(value: Any, line: int) -> Rate:
    entry = _entry(value, "a rate", line, ("perSecond", "burst"))
    for field in ("perSecond", "burst"):
        found = entry.fields[field]
        if type(found) is not int or not 0 < found <= MAX_RATE:
            entry.fail(field, f"{field} is no number of requests", f"write a whole number from 1 to {MAX_RATE}")
    return Rate(entry.fields["perSecond"], entry.fields["burst"])


def _roles(value: Any, line: int) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UsageError(f"{SOURCE}:{line}: roles are no list of names", "write [score]")
    if unknown_roles(value):
        raise UsageError(f"{SOURCE}:{line}: an unknown role", f"known: {', '.join(ROLES)}")
    return frozenset(value)


def _matches(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()


def _is_issuer(value: Any) -> bool:
    """OpenID Connect Discovery 1.0 section 2: https, no query, no fragment; plain http on this machine alone."""
    if not _is_line(value) or any(character in value for character in "?#@ "):
        return False
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return False
    if not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
