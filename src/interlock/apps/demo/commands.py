"""The demo's hands: the commands a user has, run as a user would, in the demo's own home.

Every command is a child process `interlock … --output json`; what it refuses, the demo reports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.base.errors import RefusedError

_CLI = (sys.executable, "-m", "interlock.apps.cli.main")
_NICE = 15
_PATIENCE_S = 300.0


class Commands:
    """Runs `interlock` and `git` for the demo.

    Args:
        home: the demo's own INTERLOCK_HOME.
        tell: is told every command line before it runs.
    """

    def __init__(self, home: Path, tell: Callable[[str], None]) -> None:
        self._home = home
        self._tell = tell
        self._children: set[subprocess.Popen[bytes]] = set()
        # Settings of the caller's own installation have no place in the demo's.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        self.environment = {**kept, "INTERLOCK_HOME": str(home)}

    def run(self, *arguments: str, nice: bool = False) -> dict[str, Any]:
        """What the command found (`--output json`).

        Raises:
            RefusedError: it failed; with what it said.
        """
        found: dict[str, Any] = json.loads(self.text(*arguments, "--output", "json", nice=nice))
        return found

    def text(self, *arguments: str, nice: bool = False) -> bytes:
        """What the command prints on stdout."""
        self._tell(f"interlock {' '.join(self._short(argument) for argument in arguments)}")
        prefix = ("nice", "-n", str(_NICE)) if nice else ()
        child = subprocess.Popen(
            [*prefix, *_CLI, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._children.add(child)
        try:
            out, err = child.communicate(timeout=_PATIENCE_S)
        finally:
            self._children.discard(child)
            child.kill()
        if child.returncode != 0:
            raise RefusedError(
                f"interlock {' '.join(arguments[:3])} ended with {child.returncode}: {_last(err)}",
                "read the files in its home's run/ folder",
            )
        return out

    def end(self) -> None:
        """End the commands that still run (the story is over)."""
        for child in list(self._children):
            child.terminate()

    def git(self, folder: Path, *arguments: str) -> str:
        """Run git in a working copy."""
        self._tell(f"git {' '.join(self._short(argument) for argument in arguments)}")
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise RefusedError(
                f"git {arguments[0]} failed: {_last(done.stderr)}", "look at the demo's release repository"
            )
        return done.stdout.decode()

    def _short(self, argument: str) -> str:
        return argument.removeprefix(f"{self._home}/")


def _last(stderr: bytes) -> str:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("train: ")]
    return " · ".join(said[-2:])[:400] or "it said nothing"
