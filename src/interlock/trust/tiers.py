"""The tier policy: which roles must sign for a service.

`policy/tiers.yaml`:
```
schema: 1
tiers:
  high: {roles: [technical, risk, compliance], commits: signed}
services:
  fraud: high
```
An unlisted service has no tier and cannot be released. An empty quorum is an error. `commits: signed`
asks that whoever wrote the release proves it by an SSH signature; `listed`, which holds where nothing is
said, takes the e-mails of the commits at their word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.base import strict_yaml
from interlock.base.canonical import digest_of
from interlock.base.errors import RefusedError, UsageError
from interlock.trust.commits import LISTED, RULES

ROLES = ("technical", "risk", "compliance")
SOURCE = "policy/tiers.yaml"


@dataclass(frozen=True)
class Tier:
    """What a tier asks for.

    Attributes:
        name: such as `high`.
        roles: who must sign, each a person of their own.
        advance: ways of advancing that a rollout policy may name.
        commits: what the commits of a release must prove (`trust.commits.RULES`).
    """

    name: str
    roles: tuple[str, ...]
    advance: tuple[str, ...] = ("timeline", "evidence")
    commits: str = LISTED


@dataclass(frozen=True)
class TierPolicy:
    """All tiers, which service has which, and the digest of the file that says so."""

    digest: str
    tiers: Mapping[str, Tier]
    services: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes) -> TierPolicy:
        """The policy of a file.

        Raises:
            UsageError: with line and remedy.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{SOURCE}: not UTF-8", "save it as UTF-8") from error
        found = strict_yaml.load(text, SOURCE)
        if (
            not isinstance(found, strict_yaml.Mapping)
            or set(found) != {"schema", "tiers", "services"}
            or found["schema"] != 1
        ):
            raise UsageError(f"{SOURCE}: not schema, tiers and services", "write schema: 1, tiers: and services:")
        tiers, services = found["tiers"], found["services"]
        if not isinstance(tiers, strict_yaml.Mapping) or not isinstance(services, strict_yaml.Mapping):
            raise UsageError(f"{SOURCE}: tiers and services are mappings", "see the module's example")
        parsed = {name: _tier(name, body, tiers.lines[name]) for name, body in tiers.items()}
        for service, tier in services.items():
            if not isinstance(tier, str) or tier not in parsed:
                raise UsageError(f"{SOURCE}:{services.lines[service]}: unknown tier", f"known: {', '.join(parsed)}")
        return cls(digest_of(data), parsed, dict(services))

    def tier(self, service: str) -> Tier:
        """The tier of a service.

        Raises:
            RefusedError: it has none.
        """
        name = self.services.get(service)
        if name is None:
            raise RefusedError(f"service {service} has no risk tier", f"list it in {SOURCE}, in a reviewed change")
        return self.tiers[name]


def _tier(name: str, body: Any, line: int) -> Tier:
    where = f"{SOURCE}:{line}"
    if not isinstance(body, dict) or not {"roles"} <= set(body) <= {"roles", "advance", "commits"}:
        raise UsageError(
            f"{where}: a tier has roles, and maybe advance and commits",
            "write {roles: [technical, risk, compliance], commits: signed}",
        )
    roles, advance = body["roles"], body.get("advance", ["timeline", "evidence"])
    if not _some_of(roles, ROLES):
        raise UsageError(f"{where}: roles are empty, repeated or unknown", f"known: {', '.join(ROLES)}")
    if not _some_of(advance, ("timeline", "evidence")):
        raise UsageError(f"{where}: unknown way of advancing", "known: timeline, evidence")
    commits = body.get("commits", LISTED)
    if not _some_of([commits], RULES):
        raise UsageError(f"{where}: unknown rule for commits", f"known: {', '.join(RULES)}")
    return Tier(name, tuple(roles), tuple(advance), commits)


def _some_of(found: Any, known: tuple[str, ...]) -> bool:
    """A list of known words, at least one, none twice."""
    if not isinstance(found, list) or not found:
        return False
    return all(isinstance(each, str) and each in known for each in found) and len(set(found)) == len(found)
