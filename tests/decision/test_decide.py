import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError, UsageError
from interlock.decision.decide import DECISIONS, RANK, Cuts, Model, Vectors, decide, flagged

CUTS = {
    "schema": 1,
    "cuts": [
        {"at": 0.7, "decision": "STEP_UP"},
        {"at": 0.8, "decision": "REVIEW"},
        {"at": 0.9, "decision": "DECLINE"},
    ],
}


class FirstFeature:
    """A runtime whose score is the first feature."""

    def run(self, vectors: Vectors) -> Vectors:
        return vectors[:, 0].copy()


class Doubles:
    def run(self, vectors: Vectors) -> Vectors:
        return vectors[:, 0].astype(np.float64)  # type: ignore[return-value]


def model(runtime: object, width: int = 2) -> Model:
    return Model("b", "1.0.0", "fraud", "f", width, Cuts.parse(CUTS), "t", runtime, {})  # type: ignore[arg-type]


def test_a_score_at_a_cut_point_gets_the_stricter_decision() -> None:
    cuts = Cuts.parse(CUTS)
    below = float(np.nextafter(np.float64(0.9), 0))
    assert [cuts.decide(s) for s in (0.0, 0.7, 0.8, below, 0.9, 1.0)] == [
        "APPROVE",
        "STEP_UP",
        "REVIEW",
        "REVIEW",
        "DECLINE",
        "DECLINE",
    ]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_a_batch_is_decided_row_by_row_and_in_order(scores: list[float]) -> None:
    vectors = np.array([[s, 0] for s in scores], np.float32)
    decided = decide(model(FirstFeature()), vectors)
    assert decided.scores.tolist() == scores
    alone = [decide(model(FirstFeature()), vectors[i : i + 1]).decisions[0] for i in range(len(scores))]
    assert decided.decisions == alone
    by_score = [d for _, d in sorted(zip(scores, decided.decisions, strict=True), key=lambda pair: pair[0])]
    assert [RANK[d] for d in by_score] == sorted(RANK[d] for d in by_score)


def test_vectors_of_another_shape_or_type_are_refused() -> None:
    for bad in (np.zeros((1, 3), np.float32), np.zeros(2, np.float32), np.zeros((1, 2), np.float64)):
        with pytest.raises(UsageError, match="float32"):
            decide(model(FirstFeature()), bad)  # type: ignore[arg-type]


def test_what_is_no_score_is_never_a_decision() -> None:
    with pytest.raises(IntegrityError):
        decide(model(FirstFeature()), np.array([[np.nan, 0]], np.float32))
    with pytest.raises(IntegrityError):
        decide(model(Doubles()), np.zeros((1, 2), np.float32))


@pytest.mark.parametrize(
    "document",
    [
        {"schema": 2, "cuts": []},
        {"schema": 1},
        [],
        {"schema": 1, "cuts": [{"at": 0.5, "decision": "MAYBE"}]},
        {"schema": 1, "cuts": [{"at": 0.9, "decision": "REVIEW"}, {"at": 0.5, "decision": "DECLINE"}]},
        {"schema": 1, "cuts": [{"at": 0.5, "decision": "DECLINE"}, {"at": 0.9, "decision": "REVIEW"}]},
        {"schema": 1, "cuts": [{"at": float("nan"), "decision": "DECLINE"}]},
    ],
)
def test_a_wrong_threshold_set_is_refused(document: object) -> None:
    with pytest.raises(UsageError):
        Cuts.parse(document)


def test_only_approve_is_not_flagged() -> None:
    assert [flagged(d) for d in DECISIONS] == [False, True, True, True]
