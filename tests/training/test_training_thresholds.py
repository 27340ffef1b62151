from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import RefusedError
from interlock.training.config import ThresholdChoice
from interlock.training.thresholds import choose

SCORES = np.random.default_rng(0).beta(0.5, 8, 20_000).astype(np.float32)


def share(scores: np.ndarray, at: float) -> float:
    return float((scores >= np.float32(at)).mean())


def test_the_flagged_share_fills_the_budget_and_never_exceeds_it() -> None:
    cuts = choose(SCORES, ThresholdChoice(flag_budget=0.02))["cuts"]
    assert [cut["decision"] for cut in cuts] == ["STEP_UP", "REVIEW", "DECLINE"]
    assert 0.0199 < share(SCORES, cuts[0]["at"]) <= 0.02
    assert 0.0119 < share(SCORES, cuts[1]["at"]) <= 0.012
    assert 0.0059 < share(SCORES, cuts[2]["at"]) <= 0.006


def test_a_factor_multiplies_what_is_flagged() -> None:
    cuts = choose(SCORES, ThresholdChoice(flag_budget=0.02, flag_factor=10))["cuts"]
    assert 0.199 < share(SCORES, cuts[0]["at"]) <= 0.2


def test_scores_tied_at_the_top_are_refused_rather_than_flagged_beyond_the_budget() -> None:
    with pytest.raises(RefusedError, match="share the highest score"):
        choose(np.repeat(np.float32([0.1, 0.9]), 50), ThresholdChoice(flag_budget=0.02))


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=20, max_size=200),
    budget=st.floats(0.06, 0.5),
    review=st.floats(0.2, 1.0),
    decline=st.floats(0.1, 1.0),
)
def test_cuts_always_ascend_strictly_and_keep_the_budget(
    scores: list[float], budget: float, review: float, decline: float
) -> None:
    values = np.array(scores, np.float32)
    choice = ThresholdChoice(flag_budget=budget, review_share=review, decline_share=min(review, decline))
    try:
        cuts = choose(values, choice)["cuts"]
    except RefusedError:
        assert share(values, values.max()) > budget
        return
    places = [cut["at"] for cut in cuts]
    assert all(low < high for low, high in pairwise(places))
    assert all(float(np.float32(at)) == at for at in places)
    assert share(values, places[0]) <= budget
    assert cuts[-1]["decision"] == "DECLINE"
