"""What the branch asks for: one wish per service folder at the accepted commit.

A wish's key digests everything that checking judges: the folder, the commit that brought it in, the
approvals of exactly that folder, the people and the policies. A refused wish is tried again when, and
only when, its key changes: the same folder brought in once more is a new wish, an unrelated commit
starts nothing. Links and submodules are read as what they are, and refused where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from interlock.base.canonical import canonical, digest_hex, digest_of, sha256_hex
from interlock.base.errors import UsageError
from interlock.rollout.manifest import FILES
from interlock.rollout.ports import SourceFile
from interlock.trust.folder import MODES, folder_digest

PEOPLE = "people.json"
TIERS = "policy/tiers.yaml"
FREEZE = "policy/freeze.yaml"
ENVIRONMENTS = "policy/environments.yaml"


class Tree(Protocol):
    """What a wish is read from: a `Source`, or a working copy."""

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        """As `Source.read`."""
        ...

    def introduced(self, commit: str, folder: str) -> str:
        """As `Source.introduced`."""
        ...


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
    """Why the folder cannot be released at all; `folder` may then be a digest of its own kind."""
    remedy: str = "correct the folder"

    @property
    def signed(self) -> tuple[str, ...]:
        """Digests of the statements that have a signature, sorted.

        Not of the signatures: one signature can be written in many ways, by anybody.
        """
        names = {name.removesuffix(".sig") for name in self.approvals if name.endswith(".sig")}
        found = {sha256_hex(self.approvals[f"{name}.json"]) for name in names if f"{name}.json" in self.approvals}
        return tuple(sorted(found))


def services_root(environment: str) -> str:
    """The folder of an environment's services."""
    return f"environments/{environment}/services"


def read(source: Tree, commit: str, environment: str) -> dict[str, Wish]:
    """All wishes of an environment at `commit`, by service."""
    root = services_root(environment)
    tree = source.read(commit, "")
    plain = {file.path: file.data for file in tree if file.mode in MODES}
    governed = {path: data for path, data in plain.items() if path in (PEOPLE, TIERS, FREEZE, ENVIRONMENTS)}
    folders: dict[str, list[SourceFile]] = {}
    for file in tree:
        if file.path.startswith(f"{root}/"):
            service, slash, inner = file.path.removeprefix(f"{root}/").partition("/")
            if slash or file.mode not in MODES:
                folders.setdefault(service, []).append(SourceFile(inner or service, file.mode, file.data))
    return {
        service: _wish(service, source, commit, f"{root}/{service}", tuple(files), governed, plain)
        for service, files in folders.items()
    }


def gone(source: Tree, commit: str, environment: str, service: str) -> Wish:
    """A service that is known, and that the branch no longer has: refused, since Git only ever adds and changes."""
    path = f"{services_root(environment)}/{service}"
    brought = source.introduced(commit, path)
    key = digest_of(canonical({"gone": path, "brought": brought}))
    problem = f"the folder of {service} was removed: nothing that serves is changed by that"
    return Wish(service, commit, path, (), key, key, {}, {}, problem, "bring it back")


def strangers(files: tuple[SourceFile, ...]) -> str:
    """What does not belong into a service's folder; empty: nothing."""
    for file in files:
        if file.path not in FILES:
            return f"{file.path} does not belong into a service's folder: there are {', '.join(FILES)}"
        if file.mode != "100644":
            return f"{file.path} is executable: a manifest is a plain file (git update-index --chmod=-x)"
    return ""


def _wish(  # long: what is read once for all services
    service: str,
    source: Tree,
    commit: str,
    path: str,
    files: tuple[SourceFile, ...],
    governed: dict[str, bytes],
    plain: dict[str, bytes],
) -> Wish:
    try:
        folder = folder_digest([(file.path, file.mode, file.data) for file in files])
        problem = strangers(files)
    except UsageError as error:
        # One malformed folder must not keep the others from being read.
        problem = str(error)
        folder = digest_of(canonical([[file.path, file.mode, sha256_hex(file.data)] for file in files]))
    place = f"approvals/{digest_hex(folder)}/"
    approvals = {name.removeprefix(place): data for name, data in plain.items() if name.startswith(place)}
    judged = {**{name: sha256_hex(data) for name, data in governed.items()}}
    judged |= {f"{place}{name}": sha256_hex(data) for name, data in approvals.items()}
    brought = source.introduced(commit, path)
    key = digest_of(canonical({"folder": folder, "brought": brought, "judged": judged}))
    return Wish(service, commit, path, files, folder, key, governed, approvals, problem)
