"""Notices over real HTTP, by real processes: signed, in order, at least once, and never in anybody's way."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.failures.receiver import Receiver

from interlock import settings
from interlock.apps.control.process import messengers
from interlock.trust.event import Event, NewEvent
from interlock.wiring import control

pytestmark = pytest.mark.process

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "rollouts.md"
WAIT_S = 60.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def configured(home: Path, *urls: str) -> settings.Settings:
    notify = {"urls": list(urls), "poll_s": 0.05, "first_retry_s": 0.05, "longest_retry_s": 0.2}
    settings.write(home, {"notify": notify, "control": {"port": 0}})
    return settings.load(home, {})


def happens(current: settings.Settings, reason: str) -> Event:
    return control.event_store(current).append(
        NewEvent(
            time_ns=time.time_ns(),
            type="rollout.held",
            actor="controller",
            origin="test",
            object="service/fraud",
            outcome="success",
            body={"service": "fraud", "version": "v2", "rollout": "r1", "state": "held", "reason": reason},
        )
    )


def until(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + WAIT_S
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def recorded(current: settings.Settings, kind: str = "notification.delivered") -> list[dict[str, Any]]:
    return [event.body for event in control.event_store(current).after(0, (kind,))]


def begun(current: settings.Settings, endpoints: int = 1) -> None:
    until(lambda: sum(bool(body.get("begins")) for body in recorded(current)) == endpoints)


def snippet() -> Callable[[str, dict[str, str], bytes], bool]:
    """What the guide gives receivers, executed as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own documentation
    verified: Callable[[str, dict[str, str], bytes], bool] = names["verified"]
    return verified


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Callable[..., settings.Settings]]:
    running: list[Any] = []

    def begin(*urls: str) -> settings.Settings:
        current = configured(tmp_path / "home", *urls)
        found = messengers(current, control.event_store(current))
        running.append(found)
        found.start()
        begun(current, len(urls))
        return current

    yield begin
    for each in running:
        each.stop()


def test_a_receiver_verifies_a_notice_as_the_guide_says(receiver: Receiver, telling: Any) -> None:
    current = telling(f"{receiver.url}/hook")
    happens(current, "why")
    _, headers, body = receiver.next()
    secret = (current.places.trust / "notify.secret").read_text().strip()
    assert (current.places.trust / "notify.secret").stat().st_mode & 0o777 == 0o600
    verified = snippet()
    assert verified(secret, headers, body)
    assert not verified(secret, headers, body + b" ")
    assert not verified(secret, {**headers, "webhook-id": "msg_other"}, body)
    assert not verified(secret, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 600)}, body)
    assert not verified("whsec_" + "A" * 44, headers, body)


def test_a_rotated_secret_signs_without_a_restart(receiver: Receiver, telling: Any) -> None:
    current = telling(f"{receiver.url}/hook")
    path, new = current.places.trust / "notify.secret", "whsec_" + "bmV3" * 10
    happens(current, "before")
    receiver.next()
    old = path.read_text().strip()
    path.write_text(f"{new}\n{old}\n")
    happens(current, "after")
    _, headers, body = receiver.next()
    assert snippet()(old, headers, body)
    assert snippet()(new, headers, body)


def test_a_secret_that_others_may_read_signs_nothing(receiver: Receiver, telling: Any) -> None:
    current = telling(f"{receiver.url}/hook")
    happens(current, "first")
    receiver.next()
    (current.places.trust / "notify.secret").chmod(0o644)
    happens(current, "second")
    with pytest.raises(queue.Empty):
        receiver.got.get(timeout=0.5)
    (current.places.trust / "notify.secret").chmod(0o600)
    assert receiver.reason() == "second"


def test_a_dead_and_a_slow_endpoint_delay_nobody_else(receiver: Receiver, telling: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}/dead"
        current = telling(dead, f"{receiver.url}/slow", f"{receiver.url}/hook")
        for n in range(5):
            happens(current, f"r{n}")
        got = [receiver.next() for _ in range(6)]
    assert [json.loads(body)["data"]["reason"] for path, _, body in got if path == "/hook"] == [
        f"r{n}" for n in range(5)
    ]


def test_an_endpoints_address_stands_in_no_log(
    receiver: Receiver, telling: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        receiver.answers["/hook?token=hush"] = 500
        current = telling(f"{receiver.url}/hook?token=hush")
        happens(current, "why")
        until(lambda: "is tried again" in caplog.text)
        receiver.answers.clear()
        until(lambda: len(recorded(current)) == 2)
    assert "hush" not in caplog.text


def test_a_redirect_is_not_followed(receiver: Receiver, telling: Any) -> None:
    receiver.answers["/moved"] = 307
    current = telling(f"{receiver.url}/moved")
    happens(current, "why")
    assert [receiver.next()[0] for _ in range(3)] == ["/moved"] * 3
    receiver.answers["/moved"] = 200
    until(lambda: len(recorded(current)) == 2)
    assert "/elsewhere" not in [path for path, _, _ in list(receiver.got.queue)]


def environment(current: settings.Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return {**kept, "INTERLOCK_HOME": str(current.home)}


def test_killed_after_sending_it_sends_the_same_again_and_then_goes_on(receiver: Receiver, tmp_path: Path) -> None:
    current = configured(tmp_path / "home", f"{receiver.url}/hook")
    command = [sys.executable, "-m", "tests.failures.courier_main"]
    with subprocess.Popen([*command, "--die"], env=environment(current)) as first:
        begun(current)
        happens(current, "a")
        happens(current, "b")
        assert first.wait(WAIT_S) == -signal.SIGKILL
    with subprocess.Popen(command, env=environment(current)) as second:
        try:
            got = [receiver.next() for _ in range(3)]
            until(lambda: len(recorded(current)) == 3)
        finally:
            second.kill()
    assert [json.loads(body)["data"]["reason"] for _, _, body in got] == ["a", "a", "b"]
    assert got[0][1]["webhook-id"] == got[1][1]["webhook-id"] != got[2][1]["webhook-id"]
    assert got[0][2] == got[1][2]


def test_the_control_process_tells(receiver: Receiver, tmp_path: Path) -> None:
    current = configured(tmp_path / "home", f"{receiver.url}/hook")
    command = [sys.executable, "-m", "interlock.apps.cli.main", "control"]
    with subprocess.Popen(command, env=environment(current)) as process:
        try:
            begun(current)
            until(lambda: settings.read_endpoints(current.home).get("control"))
            control.event_store(current).append(
                NewEvent(
                    time_ns=1,
                    type="release.refused",
                    actor="controller",
                    origin="test",
                    object="repository",
                    outcome="refused",
                    body={"service": "*", "version": None, "commit": "", "wish": "w", "reason": "rewritten"},
                )
            )
            assert receiver.reason() == "rewritten"
            process.terminate()
            assert process.wait(WAIT_S) == 0
            assert "control" not in settings.read_endpoints(current.home)
        finally:
            process.kill()
