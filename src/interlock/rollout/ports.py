"""The two things a rollout needs from outside: scorers to route, and a source of wishes.

Every effect on them MUST be idempotent: after a crash the controller performs again what it
cannot prove to have finished. Implementations raise only the four errors of `base.errors`;
`UnreachableError` means *unknown*, never *not done*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from interlock.decision.admin import Installed, Loaded, Observed
from interlock.decision.table import RouteTable
from interlock.trust.commits import Commit


class Scorers(Protocol):
    """The scorers of one deployment, seen through their admin sockets."""

    def load(self, service: str, bundle: str, folder: str) -> Loaded:
        """Try, verify, load and warm a bundle in every worker; loading what is loaded is done at once.

        Raises:
            RefusedError: the scorer's own checks said no (admission, trial, golden vectors).
            IntegrityError: bytes are not what their digests say.
            UnreachableError: no answer.
        """
        ...

    def install(self, table: RouteTable) -> Installed:
        """Make all live workers route by `table`; returns when they do.

        Raises:
            RefusedError: an older epoch or generation, or an arm that is not loaded.
            UnreachableError: not all workers are known to have installed it.
        """
        ...

    def unload(self, bundle: str) -> None:
        """Forget a bundle that no table names; forgetting what is not loaded is fine.

        Raises:
            RefusedError: a table in use still names it.
        """
        ...

    def retreat(self, service: str, latch: str, reason: str, actor: str, at_ns: int) -> None:
        """Put all traffic of `service` on its champion, durably, whatever else is broken."""
        ...

    def observe(self, service: str | None, seals_after: int) -> Observed:
        """States, counters and segment seals after a number, of one instant."""
        ...

    def renew(self, service: str, epoch: int, generation: int) -> None:
        """Extend the lease of an unsettled table.

        Raises:
            RefusedError: another epoch or generation rules.
        """
        ...


@dataclass(frozen=True)
class SourceFile:
    """One file of a commit's tree."""

    path: str
    """Relative to the folder that was read, with forward slashes."""
    mode: str
    """Git's mode: 100644, 100755; 120000 (a link) and 160000 (a submodule) are there to be refused."""
    data: bytes
    """Content; of a link where it points to, of a submodule nothing."""


@dataclass(frozen=True)
class Inverse:
    """A wish to put one folder back to what it was before."""

    folder: str
    bad_commit: str
    """The commit whose folder is to be undone."""
    base_commit: str | None
    """The commit whose folder is wanted again; None: there was none, remove the folder."""
    message: str


@dataclass(frozen=True)
class Reverted:
    """What became of an inverse commit."""

    outcome: str
    """`pushed`, `already` (the folder is as before) or `superseded` (somebody changed it since)."""
    commit: str


class Source(Protocol):
    """The protected branch of the release repository."""

    def head(self) -> str:
        """The newest accepted commit.

        Raises:
            UnreachableError: the remote does not answer.
            RefusedError: the remote's branch is not a fast-forward of what was accepted.
        """
        ...

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        """Every file under `folder` (empty: the whole tree) at `commit`, sorted by path; none: an empty tuple."""
        ...

    def wrote(self, commit: str, folder: str, since: str | None) -> tuple[Commit, ...]:
        """The commits that made `folder` what it is at `commit`, with their signatures.

        Counted from when it last was as at `since` (None: absent). A merge is among them when it
        took what none of its sides wrote. Commits are left out that this controller signed; that
        one bears its name is no proof.
        """
        ...

    def introduced(self, commit: str, folder: str) -> str:
        """The commit by which the branch came to ask for `folder` as it is at `commit`; or for none: empty if never."""
        ...

    def revert(self, inverse: Inverse) -> Reverted:
        """Push the inverse commit; doing it again finds it done.

        Raises:
            UnreachableError: the remote did not take it; try again later.
        """
        ...
