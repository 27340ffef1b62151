"""`interlock decision explain` on a home without any process: the same explanation, the same audit."""

from __future__ import annotations

import contextlib
import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tests.explaining import trained_bundle
from tests.governance.past import World
from typer.testing import CliRunner

from interlock.adapters.sql.events import SqlEventStore
from interlock.adapters.xgboost.explain import XgboostExplainer
from interlock.apps.cli.main import build
from interlock.apps.views import decision as view
from interlock.base.errors import IntegrityError, UsageError
from interlock.governance.explain import explain
from interlock.settings import Places
from interlock.trust.event import Event

pytestmark = pytest.mark.process  # a whole home on disk


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    return World(tmp_path, bundle=trained_bundle(tmp_path / "bundles"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(build(("interlock.apps.cli.decision",)), ["decision", "explain", *arguments])


def audit(world: World) -> list[Event]:
    with contextlib.closing(SqlEventStore.open(Places(world.home).events)) as store:
        return store.after(0, ["decision.explained"])


def test_a_decision_is_explained_as_the_process_would_and_audited(world: World) -> None:
    made = [world.decide() for _ in range(5)][-1]
    world.seal()
    result = run(made.decision_id, "--output", "json")
    assert result.exit_code == 0
    found: dict[str, Any] = json.loads(result.stdout)
    assert found == view.explain(explain(made, world.bundle, XgboostExplainer.from_bundle(world.bundle)))
    (event,) = audit(world)
    assert (event.actor, event.body["decision_id"]) == (getpass.getuser(), made.decision_id)


def test_a_table_names_the_reasons_and_the_largest_contributions(world: World) -> None:
    made = max((world.decide() for _ in range(10)), key=lambda one: one.score or 0.0)
    result = run(made.decision_id)
    assert result.exit_code == 0
    for wanted in ("R05", "amount", "margin", "base value", f"{made.score}"):
        assert wanted in result.stdout


@pytest.mark.parametrize(("changes", "error"), [({"bundle": ""}, UsageError), ({"version": "2.0.0"}, IntegrityError)])
def test_what_cannot_be_explained_is_not_and_leaves_no_audit(
    world: World, changes: dict[str, str], error: type[Exception]
) -> None:
    made = world.decide(**changes)
    result = run(made.decision_id, "--output", "json")
    assert isinstance(result.exception, error)
    assert audit(world) == []


def test_an_unknown_decision_is_a_usage_error(world: World) -> None:
    world.decide()
    world.seal()
    assert isinstance(run("01a0c450-8758-7f5b-a522-4a58b791f1d9").exception, UsageError)
