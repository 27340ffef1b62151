"""The peers' environments: one lock (`bench/peers/uv.lock`), one environment for each of its groups.

    bench/peers/.venv/<group>        (INTERLOCK_BENCH_PEERS names another folder)

A group that cannot be installed does not end the benchmark: its contestants get rows with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "bench" / "peers"
GROUPS = {
    "kserve": ("kserve", "feast", "redis", "granian", "fastapi", "uvicorn", "xgboost-cpu", "onnxruntime", "pydantic"),
    "mlserver": ("mlserver", "mlserver-xgboost", "xgboost-cpu", "fastapi", "uvicorn", "pydantic"),
}
"""Group → packages whose versions the result names."""
_INSTALL_S = 600
_ASK = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


def python(group: str) -> Path:
    """A group's interpreter, installed or not."""
    return _environment(group) / "bin" / "python"


def _environment(group: str) -> Path:
    return Path(os.environ.get("INTERLOCK_BENCH_PEERS", PROJECT / ".venv")) / group


def install(uv: str) -> dict[str, str]:
    """Install every group from the lock; per group `installed`, or what went wrong."""
    found = {}
    for group in GROUPS:
        environ = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(_environment(group))}
        line = [uv, "sync", "--frozen", "--project", str(PROJECT), "--group", group, "--python", sys.executable]
        try:
            done = subprocess.run(line, env=environ, capture_output=True, timeout=_INSTALL_S, check=False)
            problem = done.stderr.decode(errors="replace")[-800:] if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = f"{type(error).__name__}: {error}"
        found[group] = problem or "installed"
    return found


def versions() -> dict[str, dict[str, str]]:
    """Versions of what matters, by group; a group that is not installed is not there."""
    found = {}
    for group, names in GROUPS.items():
        if python(group).exists():
            done = subprocess.run([str(python(group)), "-c", _ASK, *names], capture_output=True, check=False)
            if not done.returncode:
                found[group] = dict(json.loads(done.stdout))
    return found
