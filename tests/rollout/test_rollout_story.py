"""What people read of a rollout's evidence, and `interlock rollout replay` on a real home."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.world import Behaviour, World
from typer.testing import CliRunner

from interlock import settings
from interlock.apps.cli.main import build
from interlock.apps.views import evidence
from interlock.apps.views import rollout as view
from interlock.base.clock import NS_PER_S
from interlock.rollout.plan import Plan
from interlock.rollout.states import State
from interlock.rollout.values import Rollout
from interlock.trust.event import NewEvent
from interlock.wiring import control

BY_EVIDENCE = Rollout(
    id="r",
    service="fraud",
    commit="c",
    folder="f",
    version="1",
    wish="w",
    salt="s",
    started_ns=0,
    state=State.CANARY,
    plan=Plan(0, (), 0, 0, 9, {}, advance="evidence"),
)


def look(log_e_clear: float, unclear: str = "errors", generation: int = 4) -> dict[str, Any]:
    guard = {"guard": "errors", "verdict": "pass", "log_e": -1.0, "bound": 6.2}
    guard |= {"log_e_clear": log_e_clear, "bound_clear": 3.0, "cleared": False, "warns": False}
    return {"generation": generation, "guards": [guard], "seen": {"unclear": unclear}, "powers": {}}


def test_what_is_left_is_estimated_from_how_evidence_grew_in_this_state() -> None:
    looks = [(0, look(0.0, generation=3)), *((60 * NS_PER_S * n, look(0.5 * n)) for n in range(1, 5))]
    found = evidence.evidence(BY_EVIDENCE, looks)
    assert found["waiting_for"] == ["errors"]
    assert found["minutes_left"] == 2.0


@pytest.mark.parametrize("figures", [(1.0, 1.0), (2.0, 1.0), (1.0,)], ids=["still", "falling", "one look"])
def test_nothing_is_promised_where_evidence_does_not_grow(figures: tuple[float, ...]) -> None:
    looks = [(60 * NS_PER_S * n, look(figure)) for n, figure in enumerate(figures)]
    assert evidence.evidence(BY_EVIDENCE, looks)["minutes_left"] is None


def test_a_story_says_what_the_timeline_could_have_caught() -> None:
    powers = {"flag_up": {"2": 0.971, "10": 1.0}, "flag_down": {"2": 0.5}}
    assert evidence.caught([(0, {"powers": powers}), (1, {"powers": {}})]) == [
        "a doubled flag rate with probability 0.97",
        "a tenfold flag rate with probability 1.00",
    ]


def test_the_story_of_one_rollout_is_told_without_the_looks_of_the_others() -> None:
    world = World(3)
    world.release("1.0.0")
    world.finish()
    world.release("1.1.0", Behaviour(flag_rate=0.3))
    world.finish()
    first, second = world.rollouts()
    every = view.read(world.store, looks=True)
    for each in (first, second):
        events = view.of_one(world.store, each.id)
        assert view.story(events, each.id) == view.story(every, each.id)
        assert view.story(events, each.id)["looks"]
        told = {event.body.get("rollout") for event in events if event.type == "rollout.verdict.recorded"}
        assert told == {each.id}


@pytest.mark.process  # a home with its database
def test_the_command_recomputes_a_rollout_and_fails_when_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(3)
    world.release("1.0.0")
    world.finish()
    world.release("1.1.0", Behaviour(flag_rate=0.3))
    world.finish()
    events = view.read(world.store, looks=True)
    for tampered in (False, True):
        home = tmp_path / str(tampered)
        monkeypatch.setenv("INTERLOCK_HOME", str(home))
        store = control.event_store(settings.load())
        for event in events:
            body = dict(event.body)
            if tampered and body.get("guards") and event.outcome == "fail":
                body["requests"] = {"candidate": 7, "champion": 7}
            given = {name: getattr(event, name) for name in NewEvent.__struct_fields__ if name != "body"}
            store.append(NewEvent(**given, body=body))
        shown, done = command("show"), command("replay")
        assert shown[1]["evidence"]["guards"]
        assert done[0] == (1 if tampered else 0)
        assert done[1]["agrees"] is not tampered
        for name in ("show", "replay"):
            table = CliRunner().invoke(build(("interlock.apps.cli.rollout",)), ["rollout", name, "last"])
            assert "fraud 1.1.0" in table.stdout


def command(name: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(build(("interlock.apps.cli.rollout",)), ["rollout", name, "last", "--output", "json"])
    return done.exit_code, json.loads(done.stdout)
