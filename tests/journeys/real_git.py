"""A real bare repository, with people who clone it, sign with their own SSH keys, and push."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from interlock.adapters.git.identity import controller, private_bytes
from interlock.adapters.git.source import GitSource
from interlock.rollout.ports import Inverse, Reverted, SourceFile
from interlock.trust.commits import Commit
from interlock.trust.sshsig import Key


class RealGit:
    """`Source` of a controller, and the hands of everybody else; `keys` is who can sign."""

    def __init__(self, folder: Path, keys: Mapping[str, Key]) -> None:
        self.keys = dict(keys)
        self.remote, self.work, self._secrets = folder / "remote.git", folder / "work", folder / "secrets"
        self._secrets.mkdir(parents=True)
        for who, key in keys.items():
            path = self._secrets / who
            path.touch(0o600)
            path.write_bytes(private_bytes(key))
        self._run("init", "--quiet", "--bare", "-b", "main", str(self.remote))
        self._run("init", "--quiet", "-b", "main", str(self.work))
        self.git("ada", "remote", "add", "origin", str(self.remote))
        self.source = GitSource(folder / "clone.git", str(self.remote), "main", controller(folder / "controller.key"))

    # --- people ---

    def git(self, who: str, *arguments: str, sign: bool = True, email: str = "") -> str:
        """Run git in the working copy as somebody."""
        identity = [f"user.name={who}", f"user.email={email or f'{who}@example.org'}"]
        signing = [f"commit.gpgsign={'true' if sign else 'false'}", "gpg.format=ssh"]
        signing += [f"user.signingkey={self._secrets / who}"]
        options = [word for setting in (*identity, *signing) for word in ("-c", setting)]
        return self._run("-C", str(self.work), *options, *arguments)

    def _run(self, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_EDITOR": "true"}
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def commit(self, changes: Mapping[str, bytes | None], who: str, sign: bool = True, email: str = "") -> str:
        """Commit changes on what is checked out."""
        for name, data in changes.items():
            path = self.work / name
            if data is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        self.git(who, "add", "--all")
        self.git(who, "commit", "--quiet", "--allow-empty", "-m", "Change", sign=sign, email=email)
        return self.git(who, "rev-parse", "HEAD")

    def start(self, who: str, branch: str) -> None:
        """A branch of one's own at the newest main."""
        self.update(who)
        self.git(who, "checkout", "--quiet", "-B", branch)

    def update(self, who: str = "ada") -> None:
        """Check out the newest main."""
        self.git(who, "fetch", "--quiet", "origin")
        known = self.git(who, "branch", "--remotes", "--list", "origin/main")
        if known:
            self.git(who, "checkout", "--quiet", "-B", "main", "origin/main")

    def publish(self, who: str = "ada", *options: str) -> str:
        """Push what is checked out to main; the commit."""
        self.git(who, "push", "--quiet", *options, "origin", "HEAD:main")
        return self.git(who, "rev-parse", "HEAD")

    def push(self, changes: Mapping[str, bytes | None], email: str = "ada@example.org") -> str:
        """A commit straight on main, signed by whoever has a key."""
        who = email.partition("@")[0]
        self.update(who)
        self.commit(changes, who, sign=who in self.keys, email=email)
        commit = self.publish(who)
        self.source.head()
        return commit

    @property
    def down(self) -> bool:
        """Whether the remote is away."""
        return not self.remote.exists()

    @down.setter
    def down(self, value: bool) -> None:
        here, away = self.remote, self.remote.with_suffix(".away")
        if value != self.down:
            (here if value else away).rename(away if value else here)

    def log(self, form: str, commit: str = "main") -> str:
        """What the remote's newest commit says, in a format of `git log`."""
        return self._run("--git-dir", str(self.remote), "log", "-1", f"--format={form}", commit)

    # --- the controller's port ---

    def head(self) -> str:
        return self.source.head()

    def read(self, commit: str, folder: str) -> tuple[SourceFile, ...]:
        return self.source.read(commit, folder)

    def wrote(self, commit: str, folder: str, since: str | None) -> tuple[Commit, ...]:
        return self.source.wrote(commit, folder, since)

    def introduced(self, commit: str, folder: str) -> str:
        return self.source.introduced(commit, folder)

    def revert(self, inverse: Inverse) -> Reverted:
        return self.source.revert(inverse)

    def authors(self, commit: str, folder: str, since: str | None) -> tuple[str, ...]:
        """E-mails of whoever wrote the folder."""
        return tuple(sorted({each.author for each in self.wrote(commit, folder, since)}))
