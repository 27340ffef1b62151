"""The whole platform on one machine: embedded store, scorer, controller and explainer as children.

MUSTs: one platform per home (a lock says so); every child dies with the platform, however that
ends (PR_SET_PDEATHSIG: start it from a thread that lives as long as the process); a child is
ready when it answers at its published endpoint, never because time has passed. `stop` drains in
the order explainer, controller, scorer, store, so that nothing is released while scorers leave and nothing
is scored without its store. Each child's output is appended to run/<name>.log.

Children run in sessions of their own: Ctrl-C reaches the platform alone, which drains them.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from interlock.adapters.valkey.launcher import Valkey
from interlock.base.errors import RefusedError, UnreachableError
from interlock.base.files import socket_address
from interlock.base.guard import guarded
from interlock.settings import Endpoint, Settings, publish_endpoint, read_endpoints

LOCK = "platform.lock"
PIDFILE = "platform.pid"

_START_S = 30.0
_DRAIN_S = 30.0
_POLL_S = 0.05
_ANSWER_S = 2.0


@dataclass(frozen=True)
class Part:
    """One child process: its arguments to Python and where it says that it is up.

    `health` is a path below an HTTP endpoint; at a unix socket, that it is listened on is enough. A part that is not
    `vital` may end again and again: it is left for a while, and nothing else stops for it.
    """

    name: str
    arguments: tuple[str, ...]
    endpoint: Endpoint
    health: str = ""
    vital: bool = True


_CLI = ("-m", "interlock.apps.cli.main")

# In the order of their start; they stop in the opposite order.
PARTS = (
    Part("scorer", (*_CLI, "serve"), "scoring", "/v2/health/live"),
    Part("control", (*_CLI, "control"), "control", "/healthz"),
    Part("explain", ("-m", "interlock.apps.job.explain"), "explain", vital=False),
)


class Platform:
    """The running platform; see the module's contract."""

    def __init__(self, settings: Settings, parts: tuple[Part, ...] = PARTS) -> None:
        self._settings = settings
        self._parts = parts
        self._run = settings.places.run
        self._lock: int | None = None
        self._store: Valkey | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.store_url = settings.store.url or ""

    @classmethod
    def start(cls, settings: Settings, parts: tuple[Part, ...] = PARTS) -> Platform:
        """Start everything and wait until it answers.

        Raises:
            RefusedError: a platform already runs in this home.
            UnreachableError: a part did not come up; everything started before it is stopped again.
        """
        platform = cls(settings, parts)
        platform._take_lock()
        try:
            platform._start_store()
            for part in parts:
                platform.start_part(part)
        except BaseException:
            platform.stop()
            raise
        return platform

    @property
    def endpoints(self) -> dict[str, str]:
        """Where the parts listen, by endpoint name."""
        return read_endpoints(self._settings.home)

    def pid(self, name: str) -> int:
        """The process id of a part (0: it does not run)."""
        child = self._children.get(name)
        return child.pid if child is not None and child.poll() is None else 0

    def start_part(self, part: Part) -> None:
        """Start one part and wait until it answers.

        Raises:
            UnreachableError: it ended or did not answer in time; the message names its log.
        """
        publish_endpoint(self._settings.home, part.endpoint, None)
        command = guarded([sys.executable, *part.arguments], signal.SIGTERM)
        environment = {**os.environ, "INTERLOCK_HOME": str(self._settings.home), "INTERLOCK_STORE_URL": self.store_url}
        with (self._run / f"{part.name}.log").open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._children[part.name] = child
        limit = time.monotonic() + _START_S
        while not answers(self.endpoints.get(part.endpoint), part.health):
            # Waiting for the child itself: its end is noticed at once, not after the time limit.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_S)
            if child.returncode is not None or time.monotonic() > limit:
                state = "did not answer" if child.returncode is None else f"ended with code {child.returncode}"
                raise UnreachableError(f"the {part.name} {state}", f"read run/{part.name}.log, then `interlock doctor`")

    def ended(self) -> list[Part]:
        """The parts whose process has ended since they were started."""
        return [part for part in self._parts if part.name in self._children and not self.pid(part.name)]

    def stop(self) -> None:
        """Drain and end every part, then the store; idempotent."""
        for part in reversed(self._parts):
            child = self._children.pop(part.name, None)
            if child is not None:
                _end(child)
            publish_endpoint(self._settings.home, part.endpoint, None)
        if self._store is not None:
            self._store.stop()
            self._store = None
            publish_endpoint(self._settings.home, "store", None)
        if self._lock is not None:
            (self._run / PIDFILE).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise RefusedError(
                "a platform already runs in this home", "stop it with `interlock down`, or use another INTERLOCK_HOME"
            ) from error
        self._lock = lock
        (self._run / PIDFILE).write_text(f"{os.getpid()}\n")

    def _start_store(self) -> None:
        if self._settings.store.url is None:
            self._store = Valkey()
            self.store_url = self._store.start(self._run)
        publish_endpoint(self._settings.home, "store", self.store_url)


def answers(url: str | None, path: str) -> bool:
    """Whether the HTTP endpoint at `url` answers `path` with 200, or somebody listens at the unix socket."""
    if url is None:
        return False
    address = urlsplit(url)
    if address.scheme == "unix":
        return _listened(Path(address.path))
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _listened(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_S)
        try:
            connection.connect(socket_address(path))
        except OSError:
            return False
    return True


def is_up(run: Path) -> bool:
    """Whether a platform holds the lock of this run folder."""
    try:
        lock = os.open(run / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # A shared lock is enough to notice the exclusive one, and two askers do not disturb each other.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def bring_down(run: Path, patience_s: float = 2 * _DRAIN_S) -> bool:
    """Ask the platform of this run folder to drain and wait until it has ended.

    Returns:
        False when none was running.

    Raises:
        UnreachableError: it has not ended in time.
    """
    if not is_up(run):
        return False
    pid = int((run / PIDFILE).read_text())
    limit = time.monotonic() + patience_s
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while is_up(run):
        if time.monotonic() > limit:
            raise UnreachableError(f"the platform (process {pid}) does not end", "read run/*.log, then end the process")
        time.sleep(_POLL_S)
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        child.wait(_DRAIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
