"""The documentation against the code: commands run, links lead somewhere, generated pages are current."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BIN = Path(sys.executable).parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def interlock(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "interlock", *arguments], capture_output=True, text=True, check=False, env=environment(home)
    )


def environment(home: Path) -> dict[str, str]:
    ports = {"INTERLOCK_SCORING_PORT": "0", "INTERLOCK_CONTROL_PORT": "0"}
    return {**os.environ, **ports, "INTERLOCK_HOME": str(home), "NO_COLOR": "1"}


def ends_well(*arguments: str) -> Callable[[Path], None]:
    def run(home: Path) -> None:
        done = interlock(home, *arguments)
        assert done.returncode == 0, done.stderr

    return run


def comes_up_and_down(home: Path) -> None:
    up = subprocess.Popen([BIN / "interlock", "up", "--output", "json"], env=environment(home), stdout=subprocess.PIPE)
    try:
        assert up.stdout is not None
        urls = json.loads(up.stdout.readline())
        assert urls["scoring"].startswith("http://127.0.0.1:")
        assert interlock(home, "doctor").returncode == 0
        assert interlock(home, "down").returncode == 0
        assert up.wait(30) == 0
    finally:
        up.kill()
        up.wait()
        up.stdout.close()


def is_make_target(target: str) -> Callable[[Path], None]:
    """`make setup` made the environment of this very test; .ci/run executes the others."""

    def run(home: Path) -> None:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert target == "setup" or f"make {target}" in (ROOT / ".ci" / "run").read_text().splitlines()

    return run


EXECUTED: dict[str, Callable[[Path], None]] = {
    "make setup": is_make_target("setup"),
    "make demo": is_make_target("demo"),
    ".venv/bin/interlock --help": ends_well("--help"),
    ".venv/bin/interlock doctor": ends_well("doctor"),
    ".venv/bin/interlock up": comes_up_and_down,
    ".venv/bin/interlock down": ends_well("down"),
}


def test_every_command_of_the_readme_is_executed_here() -> None:
    assert sorted(commands(README)) == sorted(EXECUTED)


@pytest.mark.process
@pytest.mark.parametrize("command", EXECUTED)
def test_a_command_of_the_readme_does_what_it_says(command: str, tmp_path: Path) -> None:
    EXECUTED[command](tmp_path)


def test_no_link_is_dead() -> None:
    assert generator().dead_links() == []


def test_a_dead_link_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = generator()
    (tmp_path / "a.md").write_text("[x](b.md) [y](a.md#z) [w](https://example.org)")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert module.dead_links() == ["a.md: b.md"]


@pytest.mark.process
def test_the_generated_reference_is_current() -> None:
    for name, text in generator().reference().items():
        assert (ROOT / "docs" / "reference" / name).read_text("utf-8") == text, f"run make docs: {name}"


@pytest.mark.parametrize(
    "target",
    [
        "setup",
        "demo",
        "test",
        "lint",
        "bench",
        "docs",
        "test-services",
        "bench-handbook",
        "bench-serving",
        "bench-statistics",
        "soak",
    ],
)
def test_the_make_targets_of_the_house_exist_and_are_listed(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text("utf-8"))}
    assert named <= targets


def test_ci_and_people_run_the_same_gate() -> None:
    gate = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert [line for line in gate.splitlines() if line.startswith("make ")] == ["make lint", "make test", "make demo"]
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_every_decision_has_the_sections_of_the_template() -> None:
    folder = ROOT / "docs" / "adr"
    sections = re.findall(r"^## .+$", (folder / "0000-template.md").read_text(), re.MULTILINE)
    assert sections
    for page in sorted(folder.glob("[0-9]*.md")):
        assert re.findall(r"^## .+$", page.read_text(), re.MULTILINE) == sections, page.name


def test_no_page_names_a_place_of_somebodys_machine() -> None:
    places = re.compile(r"/(?:work|root|home|tmp|Users)/\w")
    assert [page.name for page in PAGES if places.search(page.read_text("utf-8"))] == []
