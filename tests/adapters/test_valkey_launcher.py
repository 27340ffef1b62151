from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlock.adapters.valkey.launcher import Valkey
from interlock.base.errors import RefusedError

pytestmark = pytest.mark.process

_OWNER = """
import sys, time
from pathlib import Path
from interlock.adapters.valkey.launcher import Valkey
server = Valkey()
server.start(Path(sys.argv[1]))
print(server.pid, flush=True)
time.sleep(120)
"""


def gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether the process ends (a zombie has ended: its reaper may be slow)."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def owner(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", _OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_killing_the_launchers_process_does_not_orphan_the_server(tmp_path: Path) -> None:
    process, server = owner(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert gone(server)
    # And the folder is usable again at once, though nobody tidied it.
    again = Valkey()
    again.start(tmp_path)
    assert again.alive()
    again.stop()


def test_a_leftover_server_is_swept_and_a_strangers_process_is_not(tmp_path: Path) -> None:
    first = Valkey()
    first.start(tmp_path)
    orphan = first.pid
    os.close(first._lock or -1)  # as after a crash where the death signal did not reach: lock gone, server alive
    second = Valkey()
    second.start(tmp_path)
    try:
        assert gone(orphan)
        assert second.pid != orphan
    finally:
        second.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "valkey.pid").write_text(f"{stranger.pid}\n")
        second.start(tmp_path)
        assert stranger.poll() is None
    finally:
        second.stop()
        stranger.kill()
        stranger.wait()


def test_one_folder_has_one_launcher(tmp_path: Path) -> None:
    first, second = Valkey(), Valkey()
    first.start(tmp_path)
    try:
        with pytest.raises(RefusedError):
            second.start(tmp_path)
        assert first.alive()
    finally:
        first.stop()


def test_a_stop_keeps_the_state_and_a_crash_loses_it(tmp_path: Path) -> None:
    server = Valkey()
    server.start(tmp_path)
    server._talk(b"SET kept 1\r\n", timeout=5)
    server.stop()
    server.start(tmp_path)
    assert server._talk(b"GET kept\r\n", timeout=5) == b"$1\r\n1\r\n"
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start(tmp_path)
    assert server._talk(b"GET kept\r\n", timeout=5) == b"$-1\r\n"
    server.stop()


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 20) / ("path-" * 20)
    server = Valkey()
    server.start(folder)
    assert server._talk(b"PING\r\n", timeout=5) == b"+PONG\r\n"
    server.stop()
    assert not (folder / "valkey.sock").exists()
