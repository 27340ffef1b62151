"""The table of failure modes names tests that exist, and every mode has one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide" / "failure-modes.md"
ENGINE = {*range(3, 8), 11, *range(14, 24)}
"""Modes that are the rollout's own: their tests bear the number."""


def rows() -> dict[int, list[str]]:
    found = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)
    return {int(number): re.findall(r"`(test_\w+)`", tests) for number, tests in found}


def test_every_mode_has_a_test_that_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    named = rows()
    assert set(named) == set(range(1, 26))
    assert {number for number, tests in named.items() if not tests} == set()
    assert {name for tests in named.values() for name in tests} <= written
    for number in ENGINE:
        assert any(name.startswith(f"test_mode_{number:02}_") for name in named[number])
