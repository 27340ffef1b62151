"""The platform's promises, kept with small real processes in the places of scorer and controller."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.apps.cli import platform as platform_command
from interlock.base.errors import RefusedError, UnreachableError
from interlock.base.files import listen_alone
from interlock.settings import Settings, read_endpoints
from interlock.wiring.platform import Part, Platform, answers, bring_down, is_up

# A process that listens, publishes where, answers its health and notes in run/order when it is asked to end.
CHILD = """
import http.server, os, pathlib, signal, sys
from interlock.settings import publish_endpoint
name, home = sys.argv[1], pathlib.Path(os.environ["INTERLOCK_HOME"])
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Door)
def leave(*_):
    with (home / "run" / "order").open("a") as file: file.write(name + "\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
publish_endpoint(home, name, f"http://127.0.0.1:{server.server_port}")
print("up", name, flush=True)
server.serve_forever()
"""
SCORER = Part("scorer", ("-c", CHILD, "scoring"), "scoring", "/health")
CONTROL = Part("control", ("-c", CHILD, "control"), "control", "/health")
PARTS = (SCORER, CONTROL)

OWNER = f"""
import sys, pathlib
from interlock.settings import Settings
from interlock.wiring.platform import Part, Platform
child = {CHILD!r}
parts = tuple(Part(n, ("-c", child, e), e, "/health") for n, e in (("scorer", "scoring"), ("control", "control")))
platform = Platform.start(Settings(pathlib.Path(sys.argv[1])), parts)
print(platform.pid("scorer"), platform.pid("control"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Platform]:
    platform = Platform.start(settings, PARTS)
    try:
        yield platform
    finally:
        platform.stop()


def test_what_was_started_answers_and_stops_controller_first(settings: Settings) -> None:
    with running(settings) as platform:
        assert set(platform.endpoints) == {"scoring", "control", "store"}
        assert answers(platform.endpoints["scoring"], "/health")
        assert is_up(settings.places.run)
    assert (settings.places.run / "order").read_text().split() == ["control", "scoring"]
    assert read_endpoints(settings.home) == {}
    assert not is_up(settings.places.run)
    assert "up scoring" in (settings.places.run / "scorer.log").read_text()


def test_one_home_has_one_platform(settings: Settings) -> None:
    with running(settings), pytest.raises(RefusedError, match="already runs"):
        Platform.start(settings, PARTS)
    with running(settings) as again:
        assert again.pid("control")


def test_a_part_that_does_not_come_up_is_named_and_nothing_stays_behind(settings: Settings) -> None:
    broken = Part("control", ("-c", "import sys; sys.exit(7)"), "control", "/health")
    with pytest.raises(UnreachableError, match="the control ended with code 7"):
        Platform.start(settings, (SCORER, broken))
    assert (settings.places.run / "order").read_text().split() == ["scoring"]
    assert not is_up(settings.places.run)


def test_an_ended_part_is_noticed_and_started_again(settings: Settings) -> None:
    with running(settings) as platform:
        gone = os.pidfd_open(platform.pid("control"))
        signal.pidfd_send_signal(gone, signal.SIGKILL)
        assert select.select([gone], [], [], 10)[0]
        os.close(gone)
        assert platform.ended() == [CONTROL]
        platform.start_part(CONTROL)
        assert platform.ended() == []
        assert answers(platform.endpoints["control"], "/health")


def test_a_part_that_nothing_waits_for_may_end_again_and_again(settings: Settings) -> None:
    frail = Part("explain", ("-c", "import sys; sys.exit(7)"), "explain", vital=False)
    with running(settings) as platform:
        platform_command.start_if_it_will(platform, frail)
        assert answers(platform.endpoints["scoring"], "/health")
        assert platform.pid("explain") == 0


def test_a_unix_socket_answers_while_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "run" / "explain.sock"
    assert not answers(f"unix://{path}", "")
    listener, lock = listen_alone(path)
    listener.listen()
    assert answers(f"unix://{path}", "")
    with pytest.raises(BlockingIOError):
        listen_alone(path)
    listener.close()
    os.close(lock)
    assert not answers(f"unix://{path}", "")
    again, lock = listen_alone(path)  # what a dead process left is replaced
    again.listen()
    assert answers(f"unix://{path}", "")
    assert path.stat().st_mode & 0o077 == 0
    again.close()
    os.close(lock)


def test_children_do_not_outlive_a_killed_platform(settings: Settings) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(settings.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    children = [os.pidfd_open(int(pid)) for pid in owner.stdout.readline().split()]
    owner.kill()
    owner.wait()
    for child in children:
        assert select.select([child], [], [], 10)[0], "a child outlived its platform"
        os.close(child)
    with running(settings) as again:
        assert len(again.endpoints) == 3


def test_down_drains_the_platform_of_another_process(settings: Settings) -> None:
    assert bring_down(settings.places.run) is False
    drain = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (platform.stop(), sys.exit(0)))\nprint(platform.pid("
    )
    code = OWNER.replace("print(platform.pid(", drain, 1)
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(settings.home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    assert bring_down(settings.places.run) is True
    assert owner.wait(10) == 0
    assert (settings.places.run / "order").read_text().split() == ["control", "scoring"]
