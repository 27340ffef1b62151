"""`interlock access` on a real home: a key is shown once, counts at once, is taken back, and is in the events."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from interlock import settings
from interlock.apps.cli.main import build
from interlock.apps.control.client import ControlClient
from interlock.base.clock import SystemClock
from interlock.base.errors import RefusedError, UsageError
from interlock.trust.access import Access

pytestmark = pytest.mark.process  # the events table is on disk


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(build(("interlock.apps.cli.access",)), ["access", *words], input=given)


def told(*words: str, given: str = "") -> dict[str, Any]:
    done = run(*words, "--output", "json", given=given)
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def new(name: str = "shop", *words: str) -> dict[str, Any]:
    return told("key", "new", name, "--roles", "score,explain", "--services", "fraud", *words)


def grants(home: Path) -> Access:
    return Access.parse((home / "trust" / "access.yaml").read_bytes())


def events(*types: str) -> list[Any]:
    with ControlClient.open(settings.load()) as client:
        return client.events(types=types)


def test_a_new_key_counts_and_only_its_holder_knows_it(home: Path) -> None:
    made = new()
    principal = grants(home).by_key(made["key"], SystemClock().now_ns())
    assert (principal.name, principal.roles, principal.services) == ("shop", {"score", "explain"}, {"fraud"})
    secret = made["key"].split("_", 2)[2]
    for path in home.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()
    assert stat.S_IMODE((home / "trust" / "access.yaml").stat().st_mode) == 0o600


def test_grants_and_revocations_are_events(home: Path) -> None:
    made = new()
    told("key", "revoke", made["id"], "--person", "ada")
    with pytest.raises(RefusedError):
        grants(home).by_key(made["key"], SystemClock().now_ns())
    granted, revoked = events("access.granted", "access.revoked")
    assert (granted.type, granted.object) == ("access.granted", f"access/key/{made['id']}")
    assert granted.body["roles"] == ["explain", "score"]
    assert (revoked.type, revoked.actor) == ("access.revoked", "ada")
    assert granted.body["file"] != revoked.body["file"] == grants(home).digest


def test_keys_are_listed_without_secrets() -> None:
    made = [new(name) for name in ("till", "shop")]
    found = told("key", "list")["keys"]
    assert [each["name"] for each in found] == ["shop", "till"]
    assert not any(each["key"] in json.dumps(found) for each in made)


def test_a_key_is_checked_without_standing_in_the_process_list() -> None:
    made = new()
    found = told("check", "--key", "-", "--service", "fraud", given=made["key"] + "\n")
    assert (found["principal"], found["actions"]) == ("shop", ["predict", "infer", "explain", "models"])
    assert run("check", "--key", made["key"], "--action", "predict", "--service", "credit").exit_code == 1
    assert run("check", "--key", made["key"], "--action", "predict", "--service", "fraud").exit_code == 0
    assert isinstance(run("check", "--key", made["key"][:-1]).exception, RefusedError)


def test_nobody_in_particular_may_score_until_there_is_a_file() -> None:
    assert run("check", "--action", "predict").exit_code == 0
    new()
    assert run("check", "--action", "predict").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("new", "shop", "--roles", "boss", "--services", "all"),
        ("new", "shop", "--roles", "score", "--services", "all", "--expires", "367d"),
        ("new", "shop", "--roles", "score", "--services", "all", "--expires", "0d"),
        ("new", "shop", "--roles", "score", "--services", "all", "--expires", "soon"),
        ("new", "shop", "--roles", "score", "--services", ""),
        ("new", "Anonymous", "--roles", "score", "--services", "all"),
    ],
)
def test_what_cannot_be_granted_changes_nothing(home: Path, words: tuple[str, ...]) -> None:
    assert isinstance(run("key", *words).exception, UsageError)
    assert not (home / "trust" / "access.yaml").exists()
    assert events("access.granted") == []


def test_a_broken_file_is_left_as_it_is(home: Path) -> None:
    new()
    path = home / "trust" / "access.yaml"
    path.write_bytes(path.read_bytes() + b"more: true\n")
    before = path.read_bytes()
    assert isinstance(run("key", "new", "x", "--roles", "score", "--services", "all").exception, UsageError)
    assert isinstance(run("check").exception, UsageError)
    assert path.read_bytes() == before


def test_the_table_of_roles_is_shown() -> None:
    assert told("roles")["roles"]["explain"] == ["explain", "models"]
