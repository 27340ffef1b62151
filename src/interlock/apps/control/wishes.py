"""What the branch asks for: one wish per service folder at the accepted commit.

A wish's key digests everything that checking judges: the folder, the approvals of exactly that
folder, the people and the policies. A refused wish is tried again when, and only when, its key
changes; an unrelated commit starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock.base.canonical import canonical, digest_hex, digest_of, sha256_hex
from interlock.base.errors import UsageError
from interlock.rollout.ports import Source, SourceFile
from interlock.trust.folder import folder_digest

PEOPLE = "people.json"
TIERS = "policy/tiers.yaml"
FREEZE = "policy/freeze.yaml"


@dataclass(frozen=True)
class Wish:
    """One service as the branch wants it."""

    service: str
    commit: str
    path: str
    """Of the service folder in the tree."""
    files: tuple[SourceFile, ...]
    folder: str
    """Digest of the service folder."""
    key: str
    governed: dict[str, bytes]
    """people.json and the policies, by path."""
    approvals: dict[str, bytes]
    """Statements and signatures for exactly this folder, by file name."""
    problem: str = ""
    """Why the folder cannot be released at all; `folder` is then a digest of its own kind."""

    @property
    def signed(self) -> tuple[str, ...]:
        """Digests of the approvals' signatures, sorted."""
        return tuple(sorted(sha256_hex(data) for name, data in self.approvals.items() if name.endswith(".sig")))


def services_root(environment: str) -> str:
    """The folder of an environment's services."""
    return f"environments/{environment}/services"


def read(source: Source, commit: str, environment: str) -> dict[str, Wish]:
    """All wishes of an environment at `commit`, by service."""
    root = services_root(environment)
    tree = source.read(commit, "")
    governed = {file.path: file.data for file in tree if file.path in (PEOPLE, TIERS, FREEZE)}
    folders: dict[str, list[SourceFile]] = {}
    for file in tree:
        if file.path.startswith(f"{root}/"):
            service, _, inner = file.path.removeprefix(f"{root}/").partition("/")
            if inner:
                folders.setdefault(service, []).append(SourceFile(inner, file.mode, file.data))
    return {
        service: _wish(service, commit, f"{root}/{service}", tuple(files), governed, tree)
        for service, files in folders.items()
    }


def _wish(
    service: str,
    commit: str,
    path: str,
    files: tuple[SourceFile, ...],
    governed: dict[str, bytes],
    tree: tuple[SourceFile, ...],
) -> Wish:
    problem = ""
    try:
        folder = folder_digest([(file.path, file.mode, file.data) for file in files])
    except UsageError as error:
        # One malformed folder must not keep the others from being read.
        problem = str(error)
        folder = digest_of(canonical([[file.path, file.mode, sha256_hex(file.data)] for file in files]))
    place = f"approvals/{digest_hex(folder)}/"
    approvals = {file.path.removeprefix(place): file.data for file in tree if file.path.startswith(place)}
    judged = {**{name: sha256_hex(data) for name, data in governed.items()}}
    judged |= {f"{place}{name}": sha256_hex(data) for name, data in approvals.items()}
    key = digest_of(canonical({"folder": folder, "judged": judged}))
    return Wish(service, commit, path, files, folder, key, governed, approvals, problem)
