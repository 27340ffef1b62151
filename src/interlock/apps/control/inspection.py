"""What `interlock release check` tells of a working copy: everything the gate checks that needs no home.

The files are judged by the functions that the controller uses, read from disk with their modes (so
that links, submodules and executable bits are seen), and with them the commits since a base, when
one is named. What a proposal cannot have yet is told and refuses nothing: signatures of approvers, a
freeze that may be over when it is merged, a bundle that is not on this machine.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from interlock.apps.control.gate import statements
from interlock.apps.control.subject import echoed
from interlock.apps.control.wishes import ENVIRONMENTS, FREEZE, PEOPLE, TIERS, Wish, read
from interlock.base.clock import rfc3339
from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.registry.lineage import lineage_of
from interlock.rollout import environments, freeze
from interlock.rollout.manifest import Manifests, Release, parse, refuse_second_hops
from interlock.rollout.policy import advancing
from interlock.rollout.ports import SourceFile
from interlock.trust.commits import SIGNED, Commit, writers
from interlock.trust.folder import MODES
from interlock.trust.people import People
from interlock.trust.quorum import Approval, Signed, check_one
from interlock.trust.statement import parse as parse_statement
from interlock.trust.tiers import TierPolicy

PARTS = ("approvals", "environments", "policy")
"""Folders of a release repository that the controller reads, beside people.json."""
Wrote = Callable[[str], tuple[Commit, ...]]
"""The commits since the base that wrote a folder of the tree."""
_ABSENT = "not on this machine"
_T = TypeVar("_T")


@dataclass
class Report:
    """What was found about one service.

    Attributes:
        environment, service, folder, version: which release; the version is None when nobody can tell.
        problems: why the controller would refuse it.
        bundle: whether what the manifests echo was compared with the bundle.
        commits: whether authors and signatures of the commits were judged.
        frozen: why no release may start now.
        approved: who has approved, by role.
        missing: roles that nobody has approved as.
        notes: why statements do not count.
        freezes: what is frozen in the next fourteen days.
    """

    environment: str
    service: str
    folder: str
    version: str | None = None
    problems: list[str] = field(default_factory=list)
    bundle: str = _ABSENT
    commits: str = "not judged: no --base"
    frozen: str | None = None
    approved: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    freezes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "ok": not self.problems}


def inspect(
    repo: Path, bundles_folder: Path, now_ns: int, wrote: Wrote | None = None
) -> tuple[list[str], list[Report]]:
    """Problems of the repository as a whole, and a report per environment and service.

    Args:
        repo: a working copy.
        bundles_folder: where the bundles of this machine lie; it may be missing.
        now_ns: the moment of judgement.
        wrote: commits since a base; None: they are not judged.

    Raises:
        UsageError: this is no release repository.
    """
    environments = sorted(path.parent.name for path in (repo / "environments").glob("*/services") if path.is_dir())
    if not environments:
        raise UsageError("no folder environments/*/services", "name a working copy of a release repository")
    law, problems = _law(repo, now_ns)
    judge = _Judge(law, bundles_folder, wrote)
    return problems, [report for name in environments for report in judge.environment(name, read(Disk(repo), "", name))]


class Disk:
    """The tree of a working copy as it lies on disk, in the controller's eyes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        """Every file that a controller reads, sorted by path; `commit` names nothing here."""
        found = [path for part in PARTS for path in _files(self._folder / part)]
        found += [path for path in [self._folder / PEOPLE] if path.is_symlink() or path.is_file()]
        named = sorted((path.relative_to(self._folder).as_posix(), path) for path in found)
        prefix = f"{folder}/" if folder else ""
        return tuple(
            SourceFile(name.removeprefix(prefix), *_content(path)) for name, path in named if name.startswith(prefix)
        )

    def introduced(self, commit: str, folder: str) -> str:
        """What is not committed was brought in by nothing."""
        return ""


def _files(folder: Path) -> Iterator[Path]:
    """Everything below that Git would know: files, links, and repositories inside as one thing."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_dir() or (path / ".git").exists():
            yield path
        else:
            yield from _files(path)


def _content(path: Path) -> tuple[str, bytes]:
    """Git's mode, and the content."""
    if path.is_symlink():
        return "120000", str(path.readlink()).encode()
    if path.is_dir():
        return "160000", b""
    return "100755" if path.stat().st_mode & stat.S_IXUSR else "100644", path.read_bytes()


@dataclass(frozen=True)
class _Law:
    """The governed files, as far as they can be understood."""

    people: People | None
    tiers: TierPolicy | None
    windows: tuple[freeze.Window, ...]
    now_ns: int


def _law(repo: Path, now_ns: int) -> tuple[_Law, list[str]]:
    files = {file.path: file.data for file in Disk(repo).read("", "") if file.mode in MODES}
    problems: list[str] = []
    people = _try(problems, lambda: People.parse(_needed(files, PEOPLE)))
    tiers = _try(problems, lambda: TierPolicy.parse(_needed(files, TIERS)))
    calendar = files.get(FREEZE, b"").decode("utf-8", "replace")
    windows = _try(problems, lambda: freeze.parse(calendar, FREEZE)) if calendar else None
    if order := files.get(ENVIRONMENTS, b"").decode("utf-8", "replace"):
        _try(problems, lambda: environments.parse(order, ENVIRONMENTS))
    return _Law(people, tiers, windows or (), now_ns), problems


def _needed(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise UsageError(f"{name} is missing, or no plain file", "run `interlock release init`")
    return files[name]


class _Judge:
    """Judges services under one law."""

    def __init__(self, law: _Law, bundles_folder: Path, wrote: Wrote | None) -> None:
        self._law = law
        self._bundles = bundles_folder
        self._wrote = wrote

    def environment(self, name: str, wishes: Mapping[str, Wish]) -> Iterator[Report]:
        """One report per service."""
        understood = {service: _understood(wish) for service, wish in wishes.items()}
        releases = {service: found.release if found else None for service, found in understood.items()}
        for service, wish in sorted(wishes.items()):
            frozen = freeze.frozen(self._law.windows, name, service, self._law.now_ns)
            report = Report(name, service, wish.folder, frozen=frozen or None)
            ahead = freeze.upcoming(self._law.windows, name, service, self._law.now_ns)
            report.freezes = [f"{rfc3339(span.start_ns)} to {rfc3339(span.end_ns)}: {span.reason}" for span in ahead]
            others = {other: release for other, release in releases.items() if other != service}
            manifests = _try(report.problems, lambda wish=wish: _manifests(wish))  # type: ignore[misc]
            if manifests is not None:
                report.version = manifests.release.version
                self._service(report, wish, manifests, others)
            yield report

    def _service(self, report: Report, wish: Wish, manifests: Manifests, others: Mapping[str, Release | None]) -> None:
        release, tiers = manifests.release, self._law.tiers
        _try(report.problems, lambda: refuse_second_hops(release, others))
        if tiers is not None:
            _try(report.problems, lambda: advancing(manifests.plan, tiers.tier(report.service)))
        bundle = self._bundle(report, release)
        authors = self._authors(report, wish)
        self._approvals(report, wish, release, _known(report, release, bundle, authors))

    def _bundle(self, report: Report, release: Release) -> Bundle | None:
        if not (self._bundles / release.bundle.partition(":")[2]).is_dir():
            return None
        report.bundle = "compared"

        def compared() -> Bundle:
            bundle = bundles.read(self._bundles, release.bundle)
            echoed(release, bundle)
            return bundle

        return _try(report.problems, compared)

    def _authors(self, report: Report, wish: Wish) -> set[str] | None:
        """Ids of whoever wrote the folder since the base."""
        people, tiers, wrote = self._law.people, self._law.tiers, self._wrote
        if people is None or tiers is None or wrote is None:
            return None

        def judged() -> set[str]:
            rule, found = tiers.tier(report.service).commits, wrote(wish.path)
            emails = writers(found, people, rule, self._law.now_ns)
            report.commits = f"{len(found)} {'signed' if rule == SIGNED else 'by listed authors'}"
            return {people.by_email(email).id for email in emails}

        return _try(report.problems, judged)

    def _approvals(self, report: Report, wish: Wish, release: Release, known: Mapping[str, Any]) -> None:
        """Who has approved: told, and refusing nothing, since a proposal is checked before it is approved."""
        if self._law.people is None or self._law.tiers is None:
            return
        for signed in statements(wish):
            try:
                approval = _counts(
                    signed, {**known, "policy": self._law.tiers.digest}, self._law.people, self._law.now_ns
                )
            except InterlockError as error:
                report.notes.append(f"{signed.name}: {error.message}")
            else:
                report.approved.setdefault(approval.role, approval.person)
        named = self._law.tiers.services.get(report.service)
        roles = self._law.tiers.tiers[named].roles if named is not None else ()
        report.missing = [role for role in roles if role not in report.approved]


def _known(report: Report, release: Release, bundle: Bundle | None, authors: set[str] | None) -> dict[str, Any]:
    """What a statement must say, as far as this machine can tell."""
    known: dict[str, Any] = {
        "environment": report.environment,
        "service": report.service,
        "version": release.version,
        "folder": report.folder,
        "bundle": release.bundle,
        "feature_set": release.feature_set,
        "threshold_set": release.threshold_set,
    }
    if bundle is not None:
        origin = lineage_of(bundle)
        known |= {"dataset": origin.dataset, "card": bundle.card_digest}
        if authors is not None:
            known["authors"] = tuple(sorted(authors | {origin.trained_by}))
    return known


def _counts(signed: Signed, known: Mapping[str, Any], people: People, now_ns: int) -> Approval:
    statement = parse_statement(signed.statement)
    approval = check_one(signed, people, replace(statement.subject, **known), now_ns)
    if statement.decision != "approve":
        raise RefusedError(f"{approval.person} refuses: {statement.reason}", "talk to them")
    return approval


def _manifests(wish: Wish) -> Manifests:
    if wish.problem:
        raise UsageError(wish.problem, wish.remedy)
    return parse(wish.files, wish.service)


def _understood(wish: Wish) -> Manifests | None:
    return _try([], lambda: _manifests(wish))


def _try(problems: list[str], work: Callable[[], _T]) -> _T | None:
    """What the work finds; what it refuses is a problem."""
    try:
        return work()
    except InterlockError as error:
        problems.append(str(error))
        return None
