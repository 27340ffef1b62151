"""The GitHub Actions files, ours and those that `release init` writes: valid, pinned, and with few rights."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.rollout.propose import scaffold

ROOT = Path(__file__).parents[2]
ACTIONLINT = ROOT / ".tools" / "bin" / "actionlint"
TEXT = scaffold(b"{}", b"", "https://example.org/releases.git", "1.2.3")[".github/workflows/release.yml"].decode()


@pytest.fixture
def workflow() -> dict[str, Any]:
    return yaml.load(TEXT, Loader=yaml.BaseLoader)  # noqa: S506 - our own text; `on` must stay a word


@pytest.mark.process
def test_actionlint_finds_nothing_in_any_workflow(tmp_path: Path) -> None:
    if not ACTIONLINT.exists():
        pytest.skip("actionlint is not built: `make test-actions` does, where Go and a module proxy are at hand")
    path = tmp_path / "release.yml"
    path.write_text(TEXT)
    ours = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    done = subprocess.run([ACTIONLINT, "-no-color", path, *ours], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(TEXT.replace("github.base_ref", "github.baseref"))
    done = subprocess.run([ACTIONLINT, "-no-color", path], capture_output=True, text=True, check=False)
    assert (done.returncode, "baseref" in done.stdout) == (1, True)


def test_every_action_is_pinned_to_a_commit(workflow: dict[str, Any]) -> None:
    uses = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", each) for each in uses)
    assert '"interlock[serve,control]==1.2.3"' in TEXT


def test_no_job_has_more_rights_than_it_uses(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights == {"check": {"contents": "read"}, "propose": {"contents": "write", "pull-requests": "write"}}
    assert "secrets." not in TEXT.partition("  propose:\n")[0]
    assert "pull_request_target" not in TEXT


def test_what_a_person_types_never_becomes_part_of_a_script(workflow: dict[str, Any]) -> None:
    scripts = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert not any("${{" in script for script in scripts)
    assert any('-- "$SERVICE" "$MODEL_VERSION"' in script for script in scripts)


def test_the_dispatch_asks_for_service_and_version(workflow: dict[str, Any]) -> None:
    inputs = workflow["on"]["workflow_dispatch"]["inputs"]
    assert {name for name, each in inputs.items() if each["required"] == "true"} == {"service", "model_version"}


def test_argo_cd_may_sync_nothing() -> None:
    text = scaffold(b"{}", b"", "r")["argocd/application.yaml"]
    project, application = yaml.safe_load_all(text)
    (window,) = project["spec"]["syncWindows"]
    assert (window["kind"], window["manualSync"], window["applications"]) == ("deny", False, ["*"])
    assert "syncPolicy" not in application["spec"]
    assert application["spec"]["project"] == project["metadata"]["name"]
