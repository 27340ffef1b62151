"""`interlock release` and `rollout` on a real home and real Git repositories."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.builders import tiny_bundle
from typer.testing import CliRunner

from interlock import settings
from interlock.adapters.git.identity import load, private_bytes
from interlock.apps.cli.main import build
from interlock.apps.control.client import ControlClient
from interlock.apps.control.subject import proposed
from interlock.base.errors import InterlockError, RefusedError
from interlock.trust.admission import TrustRoot
from interlock.trust.event import NewEvent
from interlock.trust.sshsig import public_line

pytestmark = pytest.mark.process  # runs git
Run = Callable[..., Any]
AUTHOR = "Dev <dev@example.org>"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))

    def command(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(
            build(("interlock.apps.cli.release", "interlock.apps.cli.rollout")), [*arguments, "--output", "json"]
        )
        if isinstance(done.exception, InterlockError):
            return done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return command


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "dev.key"
    path.write_bytes(private_bytes(Ed25519PrivateKey.generate()))
    return path


@pytest.fixture
def people(tmp_path: Path, key: Path) -> Path:
    line = public_line(load(key.read_bytes()))
    path = tmp_path / "people.json"
    person = {"id": "dev", "emails": ["dev@example.org"], "roles": [], "keys": [line]}
    path.write_text(json.dumps({"schema": 1, "people": [person]}))
    return path


@pytest.fixture
def repo(tmp_path: Path, run: Run, people: Path) -> Path:
    remote = tmp_path / "remote.git"
    made = run(
        "release", "init", str(tmp_path / "repo"), "--people", str(people), "--remote", str(remote), "--author", AUTHOR
    )
    assert made["pushed"]
    assert made["repository"] == str(remote)
    return tmp_path / "repo"


def register(version: str) -> str:
    home = settings.load()
    bundle = tiny_bundle(home.places.bundles, version=version)
    body = {
        "service": "fraud",
        "version": version,
        "bundle": bundle.digest,
        "feature_set": bundle.manifest["feature_set_digest"],
        "threshold_set": bundle.threshold_set,
    }
    with ControlClient.open(home) as client:
        client.append(
            NewEvent(
                time_ns=1,
                type="model.registered",
                actor="dev",
                origin="test",
                object="model/fraud",
                outcome="success",
                body=body,
            )
        )
    return bundle.digest


def test_init_founds_a_repository_and_accepts_its_people(repo: Path) -> None:
    home = settings.load()
    root = TrustRoot.parse((home.places.trust / "root.json").read_bytes())
    assert len(root.people) == len(root.tiers) == 1
    names = {
        path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file() and ".git/" not in str(path)
    }
    assert {"people.json", "policy/tiers.yaml", "policy/freeze.yaml", "CODEOWNERS"} <= names
    assert ".github/workflows/release.yml" in names


def propose(run: Run, repo: Path, key: Path) -> Any:
    return run("release", "propose", "fraud", "1.0.0", "--repo", str(repo), "--author", AUTHOR, "--sign", str(key))


def test_propose_writes_manifests_on_a_branch_that_check_accepts(run: Run, repo: Path, key: Path) -> None:
    bundle = register("1.0.0")
    done = propose(run, repo, key)
    assert done["branch"] == "release/fraud-1.0.0"
    assert (done["pushed"], done["signed"]) == (True, True)
    (found,) = run("release", "check", str(repo), "--base", "origin/main")["services"]
    assert found == {
        "environment": "production",
        "service": "fraud",
        "version": "1.0.0",
        "folder": done["folder"],
        "ok": True,
        "problems": [],
        "bundle": "compared",
        "commits": "1 signed",
        "frozen": None,
        "approved": {},
        "missing": ["technical", "risk", "compliance"],
        "notes": [],
        "freezes": [],
    }
    wish, subject = proposed(repo, "fraud", settings.load())
    assert (wish.folder, subject.bundle, subject.authors) == (done["folder"], bundle, ("dev", "nobody"))
    main = subprocess.run(
        ["git", "-C", str(repo), "ls-tree", "-r", "origin/main"], capture_output=True, text=True, check=True
    )
    assert "release.yaml" not in main.stdout.replace(".github/workflows/release.yml", "")


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(repo), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="Git signs with ssh-keygen")
def test_a_proposal_is_signed_with_the_key_that_git_itself_is_told_of(run: Run, repo: Path, key: Path) -> None:
    register("1.0.0")
    key.chmod(0o600)
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", str(key)), ("user.email", "dev@example.org")):
        git(repo, "config", name, value)
    git(repo, "config", "user.name", "Dev")
    assert run("release", "propose", "fraud", "1.0.0", "--repo", str(repo))["signed"]
    (found,) = run("release", "check", str(repo), "--base", "origin/main")["services"]
    assert (found["ok"], found["commits"]) == (True, "1 signed")


def test_an_unsigned_proposal_is_told_and_nobody_is_asked_to_approve_it(run: Run, repo: Path) -> None:
    register("1.0.0")
    assert not run("release", "propose", "fraud", "1.0.0", "--repo", str(repo), "--author", AUTHOR)["signed"]
    (found,) = run("release", "check", str(repo), "--base", "origin/main", code=1)["services"]
    assert "is not signed" in found["problems"][0]
    with pytest.raises(RefusedError, match="is not signed"):
        proposed(repo, "fraud", settings.load())


def test_a_key_that_cannot_be_read_is_refused_with_the_remedy(run: Run, repo: Path, tmp_path: Path) -> None:
    register("1.0.0")
    missing = ("--author", AUTHOR, "--sign", str(tmp_path / "none"))
    assert "private-key file" in run("release", "propose", "fraud", "1.0.0", "--repo", str(repo), *missing).remedy


def test_proposing_what_is_not_registered_names_what_is(run: Run, repo: Path) -> None:
    register("1.0.0")
    error = run("release", "propose", "fraud", "9.9.9", "--repo", str(repo))
    assert "registered: fraud 1.0.0" in error.remedy


def test_check_names_the_line_of_a_malformed_manifest(run: Run, repo: Path) -> None:
    register("1.0.0")
    run("release", "propose", "fraud", "1.0.0", "--repo", str(repo), "--author", AUTHOR)
    path = repo / "environments/production/services/fraud/release.yaml"
    path.write_text(path.read_text().replace("version:", "verison:"))
    (found,) = run("release", "check", str(repo), code=1)["services"]
    assert "release.yaml:6" in found["problems"][0]


def test_a_policy_that_breaks_a_rule_is_refused_before_anything_is_written(
    run: Run, repo: Path, tmp_path: Path
) -> None:
    register("1.0.0")
    policy = tmp_path / "policy.yaml"
    policy.write_text("kind: Nothing\n")
    assert "policy" not in str(
        run("release", "propose", "fraud", "1.0.0", "--repo", str(repo), "--policy", str(policy))
    )
    branches = subprocess.run(["git", "-C", str(repo), "branch"], capture_output=True, text=True, check=True).stdout
    assert branches.split() == ["*", "main"]


def test_trust_accepts_a_changed_people_file_beside_the_old_one(run: Run, repo: Path) -> None:
    path = repo / "people.json"
    path.write_text(path.read_text() + "\n")
    run("release", "trust", str(repo))
    home = settings.load()
    assert len(TrustRoot.parse((home.places.trust / "root.json").read_bytes()).people) == 2
    with ControlClient.open(home) as client:
        assert len(client.events(types=["trust_root.changed"])) == 2


def test_showing_a_rollout_that_does_not_exist_says_so(run: Run) -> None:
    assert "0 rollouts" in str(run("rollout", "show"))
    assert run("rollout", "list") == {"rollouts": []}
