"""The release repository through the git command line.

A bare clone of our own under the home; the remote is the truth. `refs/interlock/accepted` is the
newest commit this controller has accepted: it only ever moves forward. A remote branch that is
not a descendant of it (a force-push) is refused and nothing moves. Inverse commits are made with
plumbing in a private index (no work tree), and pushed without force: a lost race is fetched,
judged again by the folder's tree, and retried. The controller signs them, and knows them again by
that signature alone. Arguments are lists, never a shell; prompts and the user's own configuration
are switched off.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from interlock.adapters.git import history, objects
from interlock.adapters.git.identity import Identity
from interlock.base.errors import InterlockError, RefusedError, UnreachableError, UsageError
from interlock.rollout.ports import Inverse, Reverted, SourceFile
from interlock.trust.commits import Commit, made_by

_ACCEPTED = "refs/interlock/accepted"
_FETCHED = "refs/interlock/fetched"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PUSH_ATTEMPTS = 5
_SUBMODULE = "160000"


class GitSource:
    """Implements `rollout.ports.Source` on a bare clone at `folder`."""

    def __init__(
        self, folder: Path, url: str, branch: str, identity: Identity | None = None, timeout_s: float = 20.0
    ) -> None:
        if url.startswith("-") or branch.startswith("-"):
            raise UsageError("a repository or branch that starts with a dash", "name a URL or path, and a branch")
        self._folder = folder
        self._url = url
        self._branch = branch
        self._identity = identity or Identity()
        self._timeout_s = timeout_s

    def head(self) -> str:
        """Fetch, accept a fast-forward, and return the accepted commit."""
        self._clone()
        self._git("fetch", "--quiet", "--no-tags", self._url, f"+refs/heads/{self._branch}:{_FETCHED}")
        fetched = self._text("rev-parse", "--verify", f"{_FETCHED}^{{commit}}")
        accepted = self._accepted()
        if accepted == fetched:
            return fetched
        if accepted is not None and not self._ancestor(accepted, fetched):
            raise RefusedError(
                f"branch {self._branch} was rewritten: {fetched[:12]} does not descend from {accepted[:12]}",
                "push a fast-forward of the accepted commit; history of the protected branch is not rewritten",
            )
        self._git("update-ref", _ACCEPTED, fetched, accepted or "")
        return fetched

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        """Files under `folder` at `commit`, with their modes: who understands them refuses what is no plain file."""
        entries = self._tree(commit, folder)
        prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
        held = [blob for mode, blob, _ in entries if mode != _SUBMODULE]
        blobs = dict(zip(held, self._objects(held), strict=True))
        return tuple(
            SourceFile(path.removeprefix(prefix), mode, blobs.get(blob, b"") if mode != _SUBMODULE else b"")
            for mode, blob, path in entries
        )

    def wrote(self, commit: str, folder: str, since: str | None) -> tuple[Commit, ...]:
        """The commits that made the folder what it is, since it last was what it was at `since` (None: absent).

        The range begins at the nearest first-parent ancestor that has that folder, so that a
        release which was tried and undone in between leaves no authors behind. Side branches count.
        Left out is what carries the controller's own signature: its name alone could be anybody's.
        """
        before = self._folder_tree(since, folder)
        start = self._last_with(before, commit, folder)
        span = _checked(commit) if start is None else f"{start}..{_checked(commit)}"
        rows = (row.split() for row in self._text("rev-list", "--parents", span).splitlines())
        graph = {row[0]: tuple(row[1:]) for row in rows}
        trees = self._folder_trees([*graph, *(parent for parents in graph.values() for parent in parents)], folder)
        wrote = {each.id: each for each in self._commits(history.writers(graph, trees)) if not self._own(each)}
        chose = self._commits(history.choosers(graph, trees, before, wrote))
        return (*wrote.values(), *chose)

    def introduced(self, commit: str, folder: str) -> str:
        """The newest commit of the branch itself that changed the folder."""
        return self._text("rev-list", "-1", "--first-parent", _checked(commit), "--", folder)

    def _last_with(self, tree: str | None, commit: str, folder: str) -> str | None:
        line = self._text("rev-list", "--first-parent", _checked(commit)).split()
        trees = self._folder_trees(line, folder)
        return next((ancestor for ancestor in line if trees[ancestor] == tree), None)

    def _own(self, commit: Commit) -> bool:
        return bool(self._identity.line) and made_by(commit, self._identity.line)

    def revert(self, inverse: Inverse) -> Reverted:
        """Put the folder back on top of the newest head."""
        for _ in range(_PUSH_ATTEMPTS):
            head = self.head()
            wanted = self._folder_tree(inverse.base_commit, inverse.folder)
            bad = self._folder_tree(inverse.bad_commit, inverse.folder)
            now = self._folder_tree(head, inverse.folder)
            if now == wanted:
                return Reverted("already", head)
            if now != bad:
                return Reverted("superseded", head)
            commit = self._commit_with(head, inverse, wanted)
            pushed = self._run("push", "--quiet", self._url, f"{commit}:refs/heads/{self._branch}")
            if pushed.returncode == 0:
                self._git("update-ref", _ACCEPTED, commit, head)
                return Reverted("pushed", commit)
            if not _lost_race(pushed.stderr):
                raise _unreachable("push", pushed.stderr)
        raise UnreachableError("the branch moves faster than the inverse commit", "it is tried again")

    def _commit_with(self, head: str, inverse: Inverse, wanted: str | None) -> str:
        with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            index["GIT_WORK_TREE"] = scratch
            self._git("read-tree", head, env=index)
            self._git("rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", inverse.folder, env=index)
            if wanted is not None:
                self._git("read-tree", f"--prefix={inverse.folder.strip('/')}/", wanted, env=index)
            tree = self._text("write-tree", env=index)
        return self._commit(tree, (head,), inverse.message)

    def _commit(self, tree: str, parents: tuple[str, ...], message: str) -> str:
        who = self._identity
        environment = {
            "GIT_AUTHOR_NAME": who.name,
            "GIT_AUTHOR_EMAIL": who.email,
            "GIT_COMMITTER_NAME": who.name,
            "GIT_COMMITTER_EMAIL": who.email,
        }
        ancestry = [argument for parent in parents for argument in ("-p", parent)]
        made = self._text("commit-tree", tree, *ancestry, "-m", message, env=environment)
        if who.key is None:
            return made
        data = objects.signed(self._git("cat-file", "commit", made), who.key)
        return self._git("hash-object", "-t", "commit", "-w", "--stdin", stdin=data).decode().strip()

    def _clone(self) -> None:
        if not (self._folder / "HEAD").exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._git("init", "--quiet", "--bare")

    def _accepted(self) -> str | None:
        found = self._run("rev-parse", "--verify", "--quiet", f"{_ACCEPTED}^{{commit}}")
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def _ancestor(self, older: str, newer: str) -> bool:
        return self._run("merge-base", "--is-ancestor", older, newer).returncode == 0

    def _folder_tree(self, commit: str | None, folder: str) -> str | None:
        if commit is None:
            return None
        found = self._run("rev-parse", "--verify", "--quiet", f"{_checked(commit)}:{folder.strip('/')}")
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def _tree(self, commit: str, folder: str) -> list[tuple[str, str, str]]:
        where = ["--", f"{folder.strip('/')}/"] if folder.strip("/") else []
        listing = self._git("ls-tree", "-r", "-z", "--full-tree", _checked(commit), *where).decode()
        entries = []
        for row in filter(None, listing.split("\0")):
            meta, path = row.split("\t", 1)
            mode, _, blob = meta.split(" ")
            entries.append((mode, blob, path))
        return sorted(entries, key=lambda entry: entry[2])

    def _folder_trees(self, commits: Iterable[str], folder: str) -> dict[str, str | None]:
        """The folder's tree at each commit."""
        if "\n" in folder:
            raise UsageError("a folder's name with a line break", "use plain names")
        names = list(dict.fromkeys(commits))
        asked = "".join(f"{name}:{folder.strip('/')}\n" for name in names).encode()
        rows = self._git("cat-file", "--batch-check=%(objectname)", stdin=asked).decode().splitlines()
        return {name: row if _COMMIT.fullmatch(row) else None for name, row in zip(names, rows, strict=True)}

    def _commits(self, names: list[str]) -> list[Commit]:
        return [objects.read(name, raw) for name, raw in zip(names, self._objects(names), strict=True)]

    def _objects(self, names: list[str]) -> list[bytes]:
        if not names:
            return []
        output = self._git("cat-file", "--batch", stdin="".join(f"{name}\n" for name in names).encode())
        found, at = [], 0
        for _ in names:
            end = output.index(b"\n", at)
            size = int(output[at:end].split(b" ")[2])
            found.append(output[end + 1 : end + 1 + size])
            at = end + 1 + size + 1
        return found

    def _text(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        return self._git(*arguments, env=env).decode().strip()

    def _git(self, *arguments: str, env: dict[str, str] | None = None, stdin: bytes | None = None) -> bytes:
        done = self._run(*arguments, env=env, stdin=stdin)
        if done.returncode != 0:
            raise _unreachable(next(a for a in arguments if not a.startswith("-")), done.stderr)
        return done.stdout

    def _run(
        self, *arguments: str, env: dict[str, str] | None = None, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", "--git-dir", str(self._folder), *arguments],
                input=stdin if stdin is not None else b"",
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
                env=_environment(env),
            )
        except subprocess.TimeoutExpired as error:
            raise UnreachableError("git did not answer in time", "check the remote of the repository") from error
        except FileNotFoundError as error:
            raise UnreachableError("git is not installed", "install git 2.34 or newer") from error


def _environment(extra: dict[str, str] | None) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("PATH", "HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND") if name in os.environ
    }
    return {
        **kept,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",  # a commit is what its hash says
        "GIT_LITERAL_PATHSPECS": "1",  # a folder's name is a name, whatever is in it
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
        **(extra or {}),
    }


def _checked(commit: str) -> str:
    if not _COMMIT.fullmatch(commit):
        raise UsageError("not a full commit hash", "give the 40 hexadecimal digits")
    return commit


def _lost_race(stderr: bytes) -> bool:
    text = stderr.decode("utf-8", "replace")
    return any(sign in text for sign in ("non-fast-forward", "fetch first", "[rejected]", "cannot lock ref"))


def _unreachable(verb: str, stderr: bytes) -> InterlockError:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    reason = lines[-1][:200] if lines else "no message"
    return UnreachableError(f"git {verb} failed: {reason}", "check the remote of the repository and its permissions")
