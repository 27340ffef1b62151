from __future__ import annotations

import pytest
from scipy import stats

from interlock.analysis.interval import clopper_pearson


@pytest.mark.parametrize(("hits", "runs"), [(0, 200), (1, 200), (13, 2_000), (150, 200), (200, 200), (0, 1)])
def test_the_interval_is_that_of_the_beta_quantiles(hits: int, runs: int) -> None:
    low, high = clopper_pearson(hits, runs)
    assert low == pytest.approx(0.0 if hits == 0 else stats.beta.ppf(0.025, hits, runs - hits + 1), abs=1e-9)
    assert high == pytest.approx(1.0 if hits == runs else stats.beta.ppf(0.975, hits + 1, runs - hits), abs=1e-9)


@pytest.mark.parametrize(("hits", "runs"), [(-1, 5), (6, 5), (0, 0)])
def test_counts_that_cannot_be_are_refused(hits: int, runs: int) -> None:
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson(hits, runs)
