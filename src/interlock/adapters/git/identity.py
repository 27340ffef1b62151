"""The controller's own key: it signs inverse commits and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from interlock.base.files import write_atomic


def controller_key(path: Path) -> Path | None:
    """The private key at `path` (0600, its public half beside it), made by ssh-keygen on first use.

    None where there is no ssh-keygen: inverse commits then carry the controller's name alone.
    """
    if path.exists():
        return path
    if shutil.which("ssh-keygen") is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / "key"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "interlock-controller", "-f", str(made)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        write_atomic(path.with_name(f"{path.name}.pub"), made.with_suffix(".pub").read_bytes())
        write_atomic(path, made.read_bytes(), mode=0o600)
    return path
