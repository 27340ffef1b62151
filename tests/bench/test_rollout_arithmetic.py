"""The rollout bench's arithmetic: its rows and bars must follow from the journal and the failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from bench.rollout import figures, models, plot, scenes
from tests.builders import tiny_bundle

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.clock import NS_PER_S
from interlock.registry import bundle as bundles
from interlock.rollout.journal import Entry
from interlock.rollout.manifest import parse_policy
from interlock.rollout.plan import Plan
from interlock.rollout.states import State
from interlock.rollout.values import Admitted, Effect, Outcome, Rollout, Target

COMMIT = 100 * NS_PER_S
TARGET = Target("1.1.0", "sha256:b", "sha256:f", "c")
PLAN = Plan(1.0, (), 500, 1.0, 60.0, {})


def journal(*told: tuple[float, Any, dict[str, Any]]) -> list[Entry]:
    """Entries at seconds after the commit; each changes the rollout of the one before."""
    rollout = Rollout(id="r", service="fraud", commit="c", folder="f", version="1.1.0", wish="w", salt="s",
                      started_ns=COMMIT + NS_PER_S // 2)  # fmt: skip
    entries = [Entry(rollout, rollout.started_ns, None)]
    for after_s, seen, changes in told:
        rollout = msgspec.structs.replace(rollout, **changes)
        entries.append(Entry(rollout, COMMIT + round(after_s * NS_PER_S), seen))
    return entries


def routed(number: int, shape: str) -> Effect:
    return Effect(number, "set_route", shape=shape)


def settled() -> list[Entry]:
    def ns(after_s: float) -> int:
        return COMMIT + round(after_s * NS_PER_S)

    return journal(
        (0.75, Admitted(TARGET, PLAN, TARGET, 1), {"pending": (routed(1, "baseline"),)}),
        (0.8, Outcome(1), {"pending": ()}),
        (1.5, Outcome(2), {"loaded_ns": ns(1.5), "pending": (routed(3, "shadow"),)}),
        (1.75, Outcome(3), {"pending": (routed(4, "split"),)}),
        (3.0, Outcome(4), {"pending": (routed(5, "split"),)}),
        (4.5, Outcome(5), {"majority_ns": ns(4.5), "pending": ()}),
        (6.0, Outcome(6), {"state": State.SETTLED, "ended_ns": ns(6.0), "share": 10_000}),
    )


WHAT = {"version": "1.1.0", "kind": "good", "expected": "settled"}


def test_a_rows_parts_add_up_to_its_time_from_commit_to_majority() -> None:
    row = figures.row(WHAT, settled(), COMMIT, [])
    assert row["commit_to_majority_s"] == 4.5
    assert row["parts_s"] == {
        "seen": 0.5, "checked": 0.25, "loaded": 0.75, "exposed": 0.25, "first share": 1.25, "majority": 1.5,
    }  # fmt: skip
    assert sum(row["parts_s"].values()) == row["commit_to_majority_s"]


def test_a_table_that_was_refused_exposes_nobody() -> None:
    entries = journal(
        (1.0, Outcome(1), {"pending": (routed(2, "shadow"),)}),
        (2.0, Outcome(2, ok=False), {"pending": (), "breach_ns": COMMIT + 2 * NS_PER_S}),
    )
    at = figures.instants(entries)
    assert "exposed" not in at
    assert figures.between(at, "exposed", "verdict") is None


def test_a_breach_is_timed_from_its_verdict_and_from_the_first_exposure() -> None:
    entries = journal(
        (1.0, Outcome(1), {"pending": (routed(2, "shadow"),)}),
        (1.5, Outcome(2), {"pending": ()}),
        (2.25, None, {"breach_ns": COMMIT + round(2.25 * NS_PER_S), "state": State.ROLLING_BACK}),
        (2.5, Outcome(3), {"champion_ns": COMMIT + round(2.5 * NS_PER_S), "state": State.ROLLED_BACK,
                           "ended_ns": COMMIT + 3 * NS_PER_S}),
    )  # fmt: skip
    row = figures.row({**WHAT, "expected": "rolled_back"}, entries, COMMIT, [])
    assert (row["breach_to_champion_s"], row["exposure_to_verdict_s"]) == (0.25, 0.75)
    assert row["commit_to_majority_s"] is None
    assert figures.as_expected(row)


def test_a_failure_counts_for_the_rollout_during_which_it_happened() -> None:
    failures = [[COMMIT - 1, "reset"], [COMMIT, "late"], [COMMIT + 6 * NS_PER_S, "status:503"], [COMMIT * 2, "reset"]]
    assert figures.row(WHAT, settled(), COMMIT, failures)["failed_requests"] == 2


def test_quantiles_are_nearest_ranks_of_what_is_known() -> None:
    assert figures.quantiles([None, *map(float, range(1, 21))]) == {"p50": 10.0, "p95": 19.0}
    assert figures.quantiles([None]) == {"p50": None, "p95": None}


def result(**changes: Any) -> dict[str, Any]:
    row = figures.row(WHAT, settled(), COMMIT, [])
    return {
        **figures.summary([row]),
        "hard_breach_to_champion_s": {"p50": 0.1, "p95": 0.5},
        "latency_regression_detect_s": 3.0,
        "flag_tenfold_detect_s": 1.0,
        "aa": figures.same_again([row]),
        "rows": [row],
        "rate": 300.0,
        **changes,
    }


def missed(found: dict[str, Any]) -> set[str]:
    return {each["name"] for each in figures.bars(found) if not each["met"]}


def test_every_bar_is_met_by_a_good_run() -> None:
    assert missed(result()) == set()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"commit_to_majority_s": {"p50": 5.1, "p95": 6.0}}, "commit to majority, p50"),
        ({"commit_to_majority_s": {"p50": 4.0, "p95": 8.1}}, "commit to majority, p95"),
        ({"commit_to_majority_s": {"p50": None, "p95": 6.0}}, "commit to majority, p50"),
        ({"hard_breach_to_champion_s": {"p50": 0.1, "p95": 2.1}}, "hard breach to the champion, p95"),
        ({"failed_requests": 1}, "failed requests"),
        ({"latency_regression_detect_s": None}, "20 % more latency is caught"),
        ({"flag_tenfold_detect_s": None}, "ten times the flags are caught"),
        ({"aa": {"rollouts": 20, "settled": 19}}, "A/A rollouts that settled"),
        ({"world": {"rollouts": 1_000, "violations": 1}}, "promises broken in the simulated world"),
        ({"aa": {"rollouts": 0, "settled": 0}}, "A/A rollouts that settled"),
        (
            {"rows": [{"version": "1", "expected": "settled", "outcome": "rolled_back"}]},
            "rollouts that ended as they should",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bar_that_is_missed_says_so(changes: dict[str, Any], name: str) -> None:
    assert name in missed(result(**changes))


@pytest.mark.parametrize(
    ("reason", "outcome", "found"),
    [
        ("latency", "rolled_back", 3.5),
        ("misses, latency", "rolled_back", 3.5),
        ("26 deadline misses in 125 calls of the candidate", "rolled_back", None),
        (None, "settled", None),
    ],
    ids=["caught", "with another", "by something else", "not caught"],
)
def test_a_detection_counts_only_when_that_guard_made_it(reason: str | None, outcome: str, found: float | None) -> None:
    row = {"reason": reason, "outcome": outcome, "expected": "rolled_back", "first_share_to_verdict_s": 3.5}
    assert figures.detected(row, "latency", "first_share") == found


def test_the_lives_of_the_world_are_added_up() -> None:
    assert figures.added([{"rollouts": 3, "settled": 2}, {"rollouts": 4, "crashes": 1}]) == {
        "rollouts": 7, "settled": 2, "crashes": 1,
    }  # fmt: skip


def test_a_supervisor_that_went_back_first_is_a_rollback() -> None:
    assert figures.as_expected({"expected": "rolled_back", "outcome": "retreated"})
    assert not figures.as_expected({"expected": "rolled_back", "outcome": "settled"})
    assert not figures.as_expected({"expected": "settled", "outcome": "retreated"})


def test_the_picture_is_well_formed() -> None:
    import xml.etree.ElementTree as tree

    drawn = tree.fromstring(plot.draw(result()))  # noqa: S314 - of our own text
    assert len([each for each in drawn.iter() if each.tag.endswith("rect")]) == 1 + 6 + 6


@pytest.mark.parametrize("policy", ["FAST", "SLOW", "FIRST", "SWITCH", "AA"])
def test_every_policy_is_well_formed(policy: str) -> None:
    parse_policy(getattr(scenes, policy), "rollout.yaml")


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"))


def scored(bundle: bundles.Bundle, changes: dict[str, bytes]) -> tuple[OnnxRuntime, np.ndarray]:
    files = {**bundle.files, **changes}
    golden = msgspec.json.decode(files["golden.json"])
    runtime = OnnxRuntime.from_bytes(files["model.onnx"], bundle.manifest["output"])
    return runtime, np.asarray(golden["vectors"], np.float32)


def test_ballast_changes_no_score(champion: bundles.Bundle) -> None:
    runtime, vectors = scored(champion, models.ballasted(champion, 2))
    assert np.array_equal(runtime.run(vectors), np.asarray(champion.golden["scores"], np.float32))


def test_a_model_that_raises_does_so_above_its_golden_vectors_alone(champion: bundles.Bundle) -> None:
    runtime, vectors = scored(champion, models.raises(champion))
    runtime.run(vectors)
    with pytest.raises(Exception, match="Gather"):
        runtime.run(np.asarray(champion.golden["vectors"], np.float32))


def test_a_model_that_hangs_returns_on_its_golden_vectors(champion: bundles.Bundle) -> None:
    changes = models.hangs(champion)
    runtime, vectors = scored(champion, changes)
    runtime.run(vectors)
    assert any(node.op_type == "Loop" for node in onnx.load_from_string(changes["model.onnx"]).graph.node)


def test_a_version_differs_from_its_training_in_its_name_alone(champion: bundles.Bundle, tmp_path: Path) -> None:
    made = bundles.read(tmp_path, bundles.write(tmp_path, models.renamed(champion, "1.7.0")))
    assert (made.manifest["version"], made.card["version"]) == ("1.7.0", "1.7.0")
    assert {name for name in made.files if made.files[name] != champion.files[name]} == {"manifest.json", "card.json"}
