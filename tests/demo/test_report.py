"""The demo's report says what was promised and did not happen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from rich.console import Console

from interlock.apps.demo import view
from interlock.apps.demo.board import Board
from interlock.apps.demo.report import release_row, unmet
from interlock.base.clock import NS_PER_S, ManualClock

EXPECTED = {"1.0.0": "settled", "1.2.0": "rolled_back"}


def row(version: str, outcome: str) -> dict[str, Any]:
    return {
        "version": version,
        "outcome": outcome,
        "reason": None,
        "caught_in": None,
        "commit_to_majority_s": 1.5,
        "breach_to_champion_s": None,
        "failed_requests": 0,
    }


def good() -> dict[str, Any]:
    return {
        "seconds": 100.0,
        "requests": {"sent": 10, "answered": 10, "failed": 0},
        "releases": [row("1.0.0", "settled"), row("1.2.0", "rolled_back")],
        "audit": {"entries": 30, "verified": True},
        "decision": {"id": "d", "proven": True, "vector_recomputed": True, "score_recomputed": True},
        "training": {"roc_auc": 0.9, "pr_auc": 0.7},
    }


def test_everything_as_promised_leaves_nothing_to_say() -> None:
    assert unmet(good(), EXPECTED) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("requests", "failed"), 2, "2 requests failed"),
        (("requests", "answered"), 0, "no request was answered"),
        (("requests", "sent"), 11, "1 requests were neither answered nor failed"),
        (("audit", "verified"), False, "audit log"),
        (("decision", "proven"), False, "not proven"),
        (("decision", "vector_recomputed"), False, "vector"),
        (("decision", "score_recomputed"), False, "score"),
        (("releases",), [row("1.0.0", "settled")], "1.2.0 was never released"),
        (
            ("releases",),
            [row("1.0.0", "settled"), row("1.2.0", "settled")],
            "1.2.0 should have been rolled back, and was settled",
        ),
    ],
)
def test_a_broken_promise_is_said_in_words(path: tuple[str, ...], value: Any, words: str) -> None:
    report = copy.deepcopy(good())
    place = report
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert any(words in problem for problem in unmet(report, EXPECTED))


def test_a_failure_belongs_to_the_release_whose_window_holds_it() -> None:
    line = {
        "version": "1.1.0",
        "outcome": "settled",
        "reason": None,
        "caught_in": None,
        "majority_ns": 12 * NS_PER_S,
        "breach_to_champion_s": None,
    }
    failures = [(9 * NS_PER_S, "reset"), (11 * NS_PER_S, "late"), (21 * NS_PER_S, "late")]
    found = release_row(line, 10 * NS_PER_S, 20 * NS_PER_S, failures)
    assert found["failed_requests"] == 1
    assert found["commit_to_majority_s"] == 2.0


def test_the_last_picture_shows_what_broke() -> None:
    report = good() | {"decision": good()["decision"] | {"score_recomputed": False}}
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view.final(Board(ManualClock()), report, ["the score differs"]))
    text = console.export_text()
    assert "NOT score equal" in text
    assert "the score differs" in text
    assert "rolled back" in text
