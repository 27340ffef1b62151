from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from interlock.analysis import performance

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60)


def columns(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    assume(labels.any() and not labels.all())
    return scores, labels


@given(PAIRS)
def test_roc_auc_is_the_share_of_pairs_ranked_right_with_ties_half(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = columns(pairs)
    difference = scores[labels][:, None] - scores[~labels][None, :]
    assert performance.roc_auc(scores, labels) == pytest.approx(((difference > 0) + (difference == 0) / 2).mean())


@given(PAIRS)
def test_average_precision_sums_precision_over_the_steps_of_recall(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = columns(pairs)
    expected = before = 0.0
    for cut in sorted(set(scores), reverse=True):
        counts = performance.confusion(scores, labels, cut)
        recall = counts["tp"] / (counts["tp"] + counts["fn"])
        expected += (recall - before) * counts["tp"] / (counts["tp"] + counts["fp"])
        before = recall
    assert performance.average_precision(scores, labels) == pytest.approx(expected)


@given(PAIRS)
def test_the_order_of_rows_does_not_matter(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = columns(pairs)
    back = slice(None, None, -1)
    for figure in (performance.roc_auc, performance.average_precision):
        assert figure(scores, labels) == pytest.approx(figure(scores[back], labels[back]))


@given(PAIRS, st.floats(0.01, 1.0))
def test_recalls_are_the_best_that_any_cut_within_the_limit_gives(pairs: list[tuple[int, bool]], limit: float) -> None:
    scores, labels = columns(pairs)
    by_precision, by_rate = [0.0], [0.0]
    for cut in set(scores):
        counts = performance.confusion(scores, labels, cut)
        recall = counts["tp"] / (counts["tp"] + counts["fn"])
        if counts["tp"] / (counts["tp"] + counts["fp"]) >= limit:
            by_precision.append(recall)
        if counts["fp"] / (counts["fp"] + counts["tn"]) <= limit:
            by_rate.append(recall)
    assert performance.recall_at_precision(scores, labels, limit) == pytest.approx(max(by_precision))
    assert performance.recall_at_fpr(scores, labels, limit) == pytest.approx(max(by_rate))


def test_calibration_sets_mean_scores_beside_observed_rates() -> None:
    scores = np.repeat([0.1, 0.9], 50)
    labels = np.r_[np.zeros(45, bool), np.ones(5, bool), np.ones(45, bool), np.zeros(5, bool)]
    assert [(row["score"], row["rate"]) for row in performance.calibration(scores, labels, 2)] == [
        (pytest.approx(0.1), 0.1),
        (pytest.approx(0.9), 0.9),
    ]


@pytest.mark.parametrize("figure", [performance.roc_auc, performance.average_precision])
def test_an_undefined_figure_raises(figure: Callable[..., float]) -> None:
    for scores, labels in (([], []), ([0.1, 0.2], [False, False]), ([0.1, float("nan")], [True, False])):
        with pytest.raises(ValueError, match=r"needs|must be|finite"):
            figure(np.array(scores), np.array(labels))
