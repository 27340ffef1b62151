"""The operators' guide against the code: its states, commands, routes, notices and settings exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import typer

from interlock.apps.cli import rollout
from interlock.apps.control.api import ROUTES
from interlock.apps.control.orders import KINDS
from interlock.rollout.notices import MARKS
from interlock.rollout.options import NotifyOptions, RolloutOptions
from interlock.rollout.states import State

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "rollouts.md").read_text("utf-8")


def commands() -> dict[str, set[str]]:
    app = typer.Typer()
    rollout.register(app)
    group = typer.main.get_command(app).commands["rollout"]  # type: ignore[attr-defined]
    return {
        name: {option for each in command.params for option in each.opts} for name, command in group.commands.items()
    }


def test_every_state_is_explained() -> None:
    (table,) = re.findall(r"\| state \|.*?\n\n", GUIDE, re.DOTALL)
    named = [name for row in re.findall(r"^\| ([a-z_, ]+) \|", table, re.MULTILINE) for name in row.split(", ")]
    assert sorted(named) == sorted([*State, "state"])


def test_every_command_of_the_guide_exists_with_its_options() -> None:
    known, shown = commands(), re.findall(r"^interlock rollout (\w+)(.*)$", GUIDE, re.MULTILINE)
    assert set(KINDS) <= {name for name, _ in shown} <= set(known)
    for name, rest in shown:
        assert set(re.findall(r" (--[a-z-]+)", rest)) <= known[name], name


def test_the_orders_of_the_api_are_listed_with_their_actions() -> None:
    for row in ROUTES:
        if row.scope == "service":
            assert f"| `{row.method} {row.path}` | `{row.action}` |" in GUIDE


def test_every_notice_is_listed() -> None:
    (told,) = re.findall(r"it tells all of them: (.*)", GUIDE)
    for kind in MARKS:
        assert f"`{kind}`" in told or f"`{kind.partition('.')[2]}`" in told, kind


def test_every_setting_that_the_guide_names_exists() -> None:
    known = {f"notify.{each.name}" for each in fields(NotifyOptions)}
    known |= {f"rollout.{each.name}" for each in fields(RolloutOptions)}
    actions = {row.action for row in ROUTES}
    named = {name for name in re.findall(r"`((?:notify|rollout)\.[a-z_]+)`", GUIDE) if name not in MARKS}
    assert named - actions <= known
