"""What `interlock doctor` examines: one small check per row, each with its finding and its fix.

A check reads; it changes nothing and starts nothing. States: `ok`; `note`, worth knowing and no
fault (a fresh home has no keys yet); `broken`, something that will fail when it is needed.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from interlock import settings
from interlock.base.errors import InterlockError
from interlock.base.files import socket_address
from interlock.settings import Settings
from interlock.wiring.platform import PARTS, answers, is_up

State = Literal["ok", "note", "broken"]

_FREE_BYTES = 1 << 30
_OPEN_FILES = 1024
_EXTRAS = {
    "serve": ("google_crc32c", "hiredis", "httptools", "numpy", "onnxruntime", "uvloop"),
    "control": ("httpx", "joserfc", "sqlalchemy", "starlette", "uvicorn"),
    "train": ("deltalake", "duckdb", "mlflow", "onnx", "onnxmltools", "pyarrow", "sklearn", "xgboost"),
}
_PROGRAMS = {
    "git": "install git: the controller follows a Git branch",
    "ssh-keygen": "install OpenSSH's client: approvers sign with ssh-keygen -Y sign",
}


@dataclass(frozen=True)
class Finding:
    """The answer of one check."""

    check: str
    state: State
    finding: str
    fix: str = ""


def examine(home: Path | None = None) -> list[Finding]:
    """Every check of this installation, in the order in which a person would look."""
    found = [*_python(), *_extras(), *_programs(), *_limits()]
    try:
        current = settings.load(home)
    except InterlockError as error:
        return [*found, Finding("settings", "broken", error.message, error.remedy)]
    found.append(Finding("settings", "ok", f"purpose {current.purpose}, home {current.home}"))
    for check in _CHECKS:
        found += check(current)
    return found


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding("python", "ok" if good else "broken", version, "" if good else "use Python 3.11, 3.12 or 3.13")


def _extras() -> Iterator[Finding]:
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            # A scorer's machine needs no trainer: absent is worth knowing, not a fault of that machine.
            yield Finding(f"extra {extra}", "note", f"not installed: {', '.join(missing)}", "make setup")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _programs() -> Iterator[Finding]:
    for program, fix in _PROGRAMS.items():
        path = shutil.which(program)
        yield Finding(program, "ok" if path else "broken", path or "not on PATH", "" if path else fix)


def _limits() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    good = soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES
    yield Finding("open files", "ok" if good else "broken", str(soft), "" if good else f"ulimit -n {_OPEN_FILES}")


def _home(current: Settings) -> Iterator[Finding]:
    nearest = current.home
    while not nearest.exists():
        nearest = nearest.parent
    if not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding("home", "broken", f"{nearest} is not writable", "set INTERLOCK_HOME to a folder of yours")
        return
    free = shutil.disk_usage(nearest).free
    yield Finding(
        "disk",
        "ok" if free >= _FREE_BYTES else "broken",
        f"{free / _FREE_BYTES:.1f} GiB free",
        "" if free >= _FREE_BYTES else "free at least 1 GiB: a full disk stops the log and with it every release",
    )


def _keys(current: Settings) -> Iterator[Finding]:
    keys = sorted(current.places.trust.glob("*.key*"))
    if not keys:
        yield Finding("keys", "note", "none yet", "they are made by the first command that needs them")
        return
    open_to_others = [key.name for key in keys if stat.S_IMODE(key.stat().st_mode) & 0o077]
    if open_to_others:
        fix = f"chmod 600 {current.places.trust}/*.key*"
        yield Finding("keys", "broken", f"readable by others: {', '.join(open_to_others)}", fix)
    else:
        yield Finding("keys", "ok", f"{len(keys)} files, readable by their owner alone")
    root = current.places.trust / "root.json"
    if root.exists():
        yield Finding("trust root", "ok", str(root))
    else:
        yield Finding("trust root", "note", "no people or tiers are accepted yet", "interlock release init DIR")


def _store(current: Settings) -> Iterator[Finding]:
    if current.scoring.mode == "tensors-only":
        yield Finding("online store", "ok", "none is needed: scoring.mode is tensors-only")
        return
    url = current.store.url
    if url is None:
        from interlock.adapters.valkey.launcher import server_binary

        try:
            yield Finding("online store", "ok", f"embedded: {server_binary().name}")
        except InterlockError as error:
            yield Finding("online store", "broken", error.message, error.remedy)
        return
    shown = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()
    problem = _connects(url)
    fix = "start the store, or correct store.url (answers are degraded until it is back)"
    yield Finding("online store", "broken" if problem else "ok", problem or shown, fix if problem else "")


def _connects(url: str) -> str:
    address = urlsplit(url)
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(2)
                link.connect(socket_address(Path(address.path)))
        else:
            socket.create_connection((address.hostname or "", address.port or 6379), timeout=2).close()
    except (OSError, ValueError) as error:
        return f"not reachable: {error}"
    return ""


def _repository(current: Settings) -> Iterator[Finding]:
    repository = current.rollout.repository
    if repository is None:
        yield Finding("release repository", "note", "none is followed", "interlock release init DIR")
        return
    try:
        done = subprocess.run(
            ["git", "ls-remote", "--exit-code", repository, f"refs/heads/{current.rollout.branch}"],
            capture_output=True,
            text=True,
            timeout=current.rollout.git_timeout_s,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("release repository", "broken", type(error).__name__, "check rollout.repository and the network")
        return
    if done.returncode == 0:
        yield Finding("release repository", "ok", f"{current.rollout.branch} at {done.stdout[:10]}")
    else:
        fix = "correct rollout.repository and rollout.branch in settings.yaml"
        yield Finding("release repository", "broken", f"branch {current.rollout.branch} is not readable", fix)


def _notices(current: Settings) -> Iterator[Finding]:
    from interlock.rollout import notices
    from interlock.wiring import control

    if not current.notify.urls:
        yield Finding("notices", "note", "nobody is told of what happens to releases", "set notify.urls")
        return
    try:
        told = notices.endpoints(current.notify.urls)
        kinds = notices.selected(current.notify.events)
        if held := control.notify_secret(current, make=False):
            notices.secrets(held)
    except InterlockError as error:
        yield Finding("notices", "broken", error.message, error.remedy)
        return
    yield Finding("notices", "ok", f"{len(kinds)} kinds to {', '.join(sorted({each.host for each in told}))}")


def _processes(current: Settings) -> Iterator[Finding]:
    up = is_up(current.places.run)
    yield Finding("platform", "ok" if up else "note", "up" if up else "down", "" if up else "interlock up")
    try:
        published = settings.read_endpoints(current.home)
    except InterlockError as error:
        yield Finding("endpoints", "broken", error.message, error.remedy)
        return
    for part in PARTS:
        url = published.get(part.endpoint)
        if url is None:
            state: State = "broken" if up else "note"
            yield Finding(part.name, state, "does not run", f"read run/{part.name}.log" if up else "interlock up")
        elif answers(url, part.health):
            yield Finding(part.name, "ok", f"answers at {url}")
        else:
            yield Finding(part.name, "broken", f"published at {url}, does not answer", f"read run/{part.name}.log")


def _ports(current: Settings) -> Iterator[Finding]:
    if is_up(current.places.run):
        return
    wanted = {
        "scoring": (current.scoring.host, current.scoring.port),
        "control": (current.control.host, current.control.port),
    }
    for name, (host, port) in wanted.items():
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                fix = f"end what listens there, or set {name}.port (0: any free one)"
                yield Finding(f"port {name}", "broken", f"{host}:{port}: {error.strerror}", fix)
                continue
        yield Finding(f"port {name}", "ok", f"{host}:{port} is free")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _home,
    _keys,
    _store,
    _repository,
    _notices,
    _processes,
    _ports,
)
