"""The control process's door over real HTTP: keys of the home's access file, denials in its events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.rollout.standing import record, rollout

from interlock import settings
from interlock.rollout.states import State
from interlock.wiring import control

pytestmark = pytest.mark.process
WAIT_S = 60.0


def test_a_key_may_what_its_role_may_and_a_denial_is_an_event(tmp_path: Path) -> None:
    settings.write(tmp_path, {"control": {"port": 0}})
    current = settings.load(tmp_path, {})
    store = control.event_store(current)
    record(store, rollout("v1", State.SETTLED), rollout("v2", State.SHADOW, service="other"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    environment = {**kept, "INTERLOCK_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "interlock.apps.cli.main"]

    def key(name: str, role: str) -> dict[str, str]:
        arguments = ["access", "key", "new", name, "--roles", role, "--services", "other", "--output", "json"]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, check=True)
        made: dict[str, Any] = json.loads(done.stdout)
        return {"authorization": f"Bearer {made['key']}"}

    operator, shop = key("night-shift", "operate"), key("shop", "score")
    with subprocess.Popen([*command, "control"], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + WAIT_S
            while (url := settings.read_endpoints(tmp_path).get("control")) is None:
                assert time.monotonic() < end
                time.sleep(0.05)
            body = {"actor": "somebody else", "reason": "complaints"}
            with httpx.Client(base_url=url, timeout=30.0) as http:
                assert http.post("/v1/rollouts/other/pause", json=body).status_code == 401
                assert http.post("/v1/rollouts/other/pause", json=body, headers=shop).status_code == 403
                assert http.post("/v1/rollouts/fraud/pause", json=body, headers=operator).status_code == 403
                assert http.post("/v1/rollouts/other/pause", json=body, headers=operator).status_code == 202
        finally:
            process.terminate()
            assert process.wait(WAIT_S) == 0
    denied = [(event.actor, event.body["service"]) for event in store.after(0, ("access.denied",))]
    assert denied == [("shop", "other"), ("night-shift", "fraud")]
    assert [event.actor for event in store.after(0, ("rollout.pause.requested",))] == ["night-shift"]
