"""The same with real processes: Git is away during a rollback, and a forge's webhook comes in."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.failures.deployment import Deployment, deployment
from tests.failures.load import Load

from interlock import settings
from interlock.adapters.git.identity import CONTROLLER
from interlock.adapters.git.workspace import Workspace
from interlock.apps.control.client import ControlClient
from interlock.decision.admin import ServiceState
from interlock.wiring import control as rows

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]
MILD = ((1.0, "DECLINE"),)
SECRET = b"a secret of the forge"


def test_a_rollback_does_not_wait_for_git_which_hears_of_it_when_it_is_back(tmp_path: Path) -> None:
    with deployment(tmp_path, webhook_secret="webhook.secret") as made:
        url = made.serve()
        made.control()
        made.release("1.0.0", cuts=MILD)
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        webhooks(made)
        with Load(url) as load:
            made.release("2.0.0", watch="10m", cuts=MILD)
            made.until(
                lambda: [line for line in made.rollouts() if line["majority_ns"] and line["version"] == "2.0.0"],
                "2.0.0 leads",
            )
            away = made.remote.with_suffix(".away")
            made.remote.rename(away)
            with ControlClient.open(made.settings) as client:
                client.abort("fraud", "complaints", "ops")
            made.until(lambda: table_of(made) == ["1.0.0"], "the champion alone answers")
            assert told(made)["reverted"] in (None, "")
            away.rename(made.remote)
            ended = made.until(lambda: made.ended("2.0.0"), "the inverse commit is made")
        assert (ended["outcome"], str(ended["reverted"]).split()[0]) == ("rolled_back", "pushed")
        assert load.failures == []
        work = Workspace(made.repo)
        work.git("fetch", "--quiet", "origin")
        assert work.git("log", "-1", "--format=%ae", "origin/main").strip() == CONTROLLER
        assert work.signed(work.resolve("origin/main"))
        assert work.git("diff", "--name-only", "origin/main~1", "origin/main", "--", "approvals") == ""


def webhooks(made: Deployment) -> None:
    """The route of the running process believes the secret, and nothing without it."""
    address = f"{settings.read_endpoints(made.home)['control']}/v1/webhooks/git"
    assert httpx.post(address, content=b"{}").status_code == 403
    path = made.home / "webhook.secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    assert httpx.post(address, content=b"{}").status_code == 401
    right = {"X-Hub-Signature-256": "sha256=" + hmac.new(SECRET, b"{}", hashlib.sha256).hexdigest()}
    assert httpx.post(address, content=b"{}", headers=right).status_code == 202


def table_of(made: Deployment) -> list[str]:
    state: ServiceState = rows.scorers(made.settings).observe("fraud", 0).services["fraud"]
    return [arm.version for arm in state.table.arms] if state.table is not None else []


def told(made: Deployment) -> dict[str, Any]:
    with ControlClient.open(made.settings) as client:
        return client.rollout(client.rollouts()[-1]["id"])
