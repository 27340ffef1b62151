"""A person's working copy of the release repository: what `interlock release` writes and commits in.

Unlike `GitSource` this uses the person's own Git configuration (name, e-mail, SSH signing), unless
an author or a key is given. It never rewrites what was there, forces or deletes; a working copy with
uncommitted changes is refused, so that nothing unseen slips into a proposal.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from interlock.adapters.git import objects
from interlock.adapters.git.identity import Identity, load
from interlock.adapters.git.source import GitSource
from interlock.base.errors import RefusedError, UnreachableError, UsageError
from interlock.trust.sshsig import Key


class Workspace:
    """A clone with a work tree at `folder`."""

    def __init__(
        self,
        folder: Path,
        author: tuple[str, str] | None = None,
        sign: Path | Key | None = None,
        controller: Identity | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.folder = folder
        self._author = author
        self._sign = sign
        self._key = _in_memory(sign)
        self._controller = controller
        self._timeout_s = timeout_s

    @classmethod
    def create(cls, folder: Path, branch: str = "main", author: tuple[str, str] | None = None) -> Workspace:
        """An empty repository with a work tree.

        Raises:
            RefusedError: the folder holds something already.
        """
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError(f"{folder.name} is not empty", "name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, author)
        made.git("init", "--quiet", "-b", branch)
        # The controller pushes inverse commits here when the folder itself is what it follows.
        made.git("config", "receive.denyCurrentBranch", "updateInstead")
        return made

    def add_remote(self, url: str) -> None:
        """Name `url` as origin; a path that does not exist becomes a bare repository."""
        if url.startswith("-"):
            raise UsageError("a remote that starts with a dash", "name a URL or path")
        path = Path(url)
        if "://" not in url and ":" not in url and not path.exists():
            path.mkdir(parents=True)
            self.git("init", "--quiet", "--bare", "-b", self.branch(), str(path.absolute()), inside=False)
        self.git("remote", "add", "origin", str(path.absolute()) if path.exists() else url)

    def branch(self) -> str:
        """The branch that is checked out."""
        return self.git("symbolic-ref", "--short", "HEAD").strip()

    def has_remote(self) -> bool:
        """Whether there is an origin."""
        return "origin" in self.git("remote").split()

    def start_branch(self, name: str, base: str) -> None:
        """Check out a new branch at the newest `base` (origin's, when there is an origin).

        Raises:
            RefusedError: uncommitted changes, or the branch exists.
        """
        if self.git("status", "--porcelain"):
            raise RefusedError("the working copy has uncommitted changes", "commit them, or use a fresh clone")
        if self.git("branch", "--list", name).strip():
            raise RefusedError(f"branch {name} exists", "delete it, or propose another version")
        start = base
        if self.has_remote():
            self.git("fetch", "--quiet", "origin", base)
            start = f"origin/{base}"
        self.git("checkout", "--quiet", "--no-track", "-b", name, start)

    def commit(self, files: Mapping[str, bytes], message: str) -> str:
        """Write the files and commit exactly them; returns the commit.

        Raises:
            RefusedError: nothing would change.
        """
        for name, data in files.items():
            path = self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise UsageError("a path outside the repository", "use plain relative paths")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.git("add", "--", *files)
        if not self.git("status", "--porcelain", "--untracked-files=no"):
            raise RefusedError("nothing would change: the repository asks for this already", "propose another version")
        identity: list[str] = []
        if self._author is not None:
            name, email = self._author
            identity = ["-c", f"user.name={name}", "-c", f"user.email={email}"]
        self.git(*identity, *self._commit(), "--quiet", "-m", message, "--", *files)
        self.sign_head()
        return self.git("rev-parse", "HEAD").strip()

    def signed(self, commit: str) -> bool:
        """Whether a commit carries an SSH signature, by whomever."""
        return "SSH" in objects.read(commit, self._object(commit)).signature

    def _commit(self) -> list[str]:
        """`git commit`, with the signature that Git makes itself: by an agent, a hardware key or one under a phrase."""
        if self._key is not None:
            return ["commit", "--no-gpg-sign"]
        if isinstance(self._sign, Path):
            key = str(self._sign.absolute())
            return ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key}", "commit", "--gpg-sign"]
        own = self._author is None or self._author[1].lower() == self._setting("user.email").lower()
        signs = own and self._setting("gpg.format") == "ssh" and self._setting("user.signingkey")
        return ["commit", "--gpg-sign"] if signs else ["commit"]

    def sign_head(self) -> None:
        """Sign the newest commit, which nobody has seen yet, with the key in memory."""
        key = self._key
        if key is None:
            return
        made = self.git("rev-parse", "HEAD").strip()
        data = objects.signed(self._object(made), key)
        name = self.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=data).strip()
        self.git("update-ref", "-m", "sign", "HEAD", name, made)

    def _object(self, commit: str) -> bytes:
        return self._run(["-C", str(self.folder), "cat-file", "commit", commit])

    def _setting(self, name: str) -> str:
        """Git's own setting; empty: none."""
        return self.git("config", "--default", "", "--get", name).strip()

    def push(self, branch: str | None = None) -> bool:
        """Push a branch to origin; False when there is none."""
        if not self.has_remote():
            return False
        name = branch or self.branch()
        self.git("push", "--quiet", "-u", "origin", f"{name}:{name}")
        return True

    def uncommitted(self) -> bool:
        """Whether anything tracked differs from the checked-out commit."""
        return bool(self.git("status", "--porcelain", "--untracked-files=no"))

    def resolve(self, name: str) -> str:
        """The commit that a name stands for."""
        return self.git("rev-parse", "--verify", f"{name}^{{commit}}").strip()

    def protected(self, branch: str = "main") -> str:
        """The newest known commit of the protected branch: origin's, when there is an origin."""
        if self.has_remote():
            self.git("fetch", "--quiet", "origin", branch)
            return self.resolve(f"refs/remotes/origin/{branch}")
        return self.resolve(f"refs/heads/{branch}")

    @property
    def source(self) -> GitSource:
        """The committed trees of this working copy, read as the controller reads them."""
        folder = Path(self.git("rev-parse", "--absolute-git-dir").strip())
        return GitSource(folder, str(self.folder), "HEAD", self._controller)

    def git(self, *arguments: str, inside: bool = True, stdin: bytes = b"") -> str:
        """Run git here and return what it printed.

        Raises:
            UnreachableError: git failed; with its last line.
        """
        where = ["-C", str(self.folder)] if inside else []
        return self._run([*where, *arguments], stdin).decode()

    def _run(self, arguments: list[str], stdin: bytes = b"") -> bytes:
        try:
            done = subprocess.run(
                ["git", *arguments],
                capture_output=True,
                timeout=self._timeout_s,
                check=False,
                input=stdin,
                env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise UnreachableError("git is not installed", "install git 2.34 or newer") from error
        except subprocess.TimeoutExpired as error:
            raise UnreachableError("git did not answer in time", "check the remote of the repository") from error
        if done.returncode != 0:
            raise _failed(arguments, done.stderr)
        return done.stdout


def _in_memory(sign: Path | Key | None) -> Key | None:
    """The key that signs here; None: Git signs, with an agent, a hardware key or one under a phrase, or nobody."""
    if not isinstance(sign, Path):
        return sign
    try:
        return load(sign.read_bytes())
    except OSError as error:
        raise UsageError(f"the key {sign.name} cannot be read", "name a private-key file") from error


def _failed(arguments: list[str], stderr: bytes) -> UnreachableError:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    words = iter(arguments)
    verb = next((word for word in words if not (word in ("-C", "-c") and next(words, None))), "git")
    return UnreachableError(f"git {verb} failed: {lines[-1][:200] if lines else 'no message'}", "correct it")
