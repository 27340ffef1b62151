"""ARCHITECTURE.md against the code: what it names exists, and what exists it names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from interlock.apps.cli import main
from interlock.settings import Places

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "interlock"
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
FLOWS = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)


def layers_of_the_contract() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (layers,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    found: list[str] = layers["layers"]
    return found


def exists(name: str) -> bool:
    return (SOURCE / f"{name}.py").is_file() or (SOURCE / name).is_dir()


def test_the_direction_is_the_contracts() -> None:
    block = PAGE.split("```\n")[1]
    assert block.splitlines() == layers_of_the_contract()


def test_every_room_has_its_paragraph() -> None:
    rooms = {room.strip() for layer in layers_of_the_contract() for room in layer.split("|")}
    assert set(re.findall(r"^- \*\*`(\w+)`\*\*", PAGE, re.MULTILINE)) == rooms


def test_every_place_under_apps_is_named() -> None:
    places = {path.name for path in (SOURCE / "apps").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(re.findall(r"`apps/(\w+)`", PAGE)) == places


def test_there_is_a_diagram_of_each_flow() -> None:
    assert len(FLOWS) == 4


@pytest.mark.parametrize("flow", FLOWS)
def test_every_module_of_a_diagram_exists(flow: str) -> None:
    named = re.findall(r'(?<!\()\["([\w/]+)"\]', flow)  # round shapes are no modules
    assert named
    assert [name for name in named if not exists(name)] == []


def test_every_module_named_in_the_text_exists() -> None:
    rooms = "|".join(path.name for path in SOURCE.iterdir() if path.is_dir())
    named = set(re.findall(rf"`((?:{rooms})/[\w/]+)`", PAGE))
    assert [name for name in named if not exists(name)] == []


def test_every_command_that_owns_a_process_exists() -> None:
    commands = {
        command.name or command.callback.__name__ for command in main.build().registered_commands if command.callback
    }
    assert set(re.findall(r"\| `interlock (\w+)` \|", PAGE)) <= commands


def test_the_places_of_a_home_are_named() -> None:
    (listed,) = re.findall(r"default `\./\.interlock`\): `([\w/ ]+)`", PAGE)
    for name in listed.replace("/", "").split():
        assert getattr(Places(Path("home")), name) == Path("home") / name
