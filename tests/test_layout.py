"""The rooms of the house page exist, and nothing else does."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "interlock"

ROOMS = {
    "apps",
    "wiring",
    "adapters",
    "serving",
    "rollout",
    "training",
    "monitoring",
    "governance",
    "decision",
    "features",
    "registry",
    "trust",
    "privacy",
    "analysis",
    "base",
}
PLACES_UNDER_APPS = {"scorer", "control", "job", "cli", "views", "demo", "conformance"}
TOP = {
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "uv.lock",
    ".ci/run",
    ".github/workflows/ci.yml",
    "docs/adr/0000-template.md",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def folders(parent: Path) -> set[str]:
    return {path.name for path in parent.iterdir() if path.is_dir() and path.name != "__pycache__"}


def test_the_rooms_are_those_of_the_house() -> None:
    assert folders(SOURCE) == ROOMS
    files = {path.name for path in SOURCE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "py.typed", "settings.py"}


def test_the_places_under_apps_are_those_of_the_house() -> None:
    assert folders(SOURCE / "apps") == PLACES_UNDER_APPS


def test_what_a_visitor_looks_for_stands_at_the_top() -> None:
    assert {name for name in TOP if not (ROOT / name).is_file()} == set()


def test_the_layers_of_the_contract_name_every_room() -> None:
    (layers,) = (each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers")
    named = {room.strip() for layer in layers["layers"] for room in layer.split("|")}
    assert named == ROOMS | {"settings"}
    assert layers["exhaustive"] is True


def test_every_package_has_its_marker() -> None:
    bare = [
        str(path.parent.relative_to(ROOT))
        for path in SOURCE.rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    ]
    assert not bare


def test_the_licence_is_the_one_that_the_project_declares() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_dependency_comes_from_anywhere_but_the_public_index() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    sources = {str(package["source"]) for package in lock["package"] if package["name"] != "interlock"}
    assert sources == {"{'registry': 'https://pypi.org/simple'}"}
