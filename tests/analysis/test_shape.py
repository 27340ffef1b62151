"""The shape of scores on fixed bins."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.analysis import shape
from interlock.decision.counts import SCORE_EDGES

RNG = np.random.default_rng(12)


def histogram(scores: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(SCORE_EDGES, scores, side="right"), minlength=len(SCORE_EDGES) + 1)


def fraud(rng: np.random.Generator, size: int) -> np.ndarray:
    """Scores as a fraud model gives them: nearly all low, a thin upper tail."""
    return rng.beta(0.3, 12, size)


CHAMPION = histogram(fraud(RNG, 200_000))
CUT = shape.edge_at(SCORE_EDGES, 0.7)


@cache
def chi2_5_percent(degrees: int) -> float:
    return shape.chi2_quantile(0.05, degrees)


def verdict(candidate: np.ndarray, phi: float = 1.5) -> bool:
    found = shape.compare(CHAMPION, histogram(candidate), [CUT], 0.002, phi)
    return found.psi > max(found.critical, shape.FLOOR)


@pytest.mark.parametrize(
    ("degrees", "tail", "wanted"),
    [
        (1, 0.5, 0.4549364231195724),
        (1, 0.01, 6.634896601021217),
        (2, 1e-14, 64.47238260383328),
        (9, 0.01, 21.665994333461928),
        (9, 1e-14, 86.0639320991642),
        (40, 0.5, 39.33534484661134),
        (40, 1e-14, 150.57207457538723),
    ],
)
def test_quantiles_of_chi_square_are_those_of_tables_far_into_the_tail(degrees, tail, wanted):
    """Reference values from SciPy's chi2.isf."""
    assert shape.chi2_quantile(tail, degrees) == pytest.approx(wanted, rel=1e-9)


def test_the_critical_value_is_what_equal_arms_exceed_as_often_as_it_says():
    """Yurdakul & Naranjo: PSI of equal arms is chi-square over the harmonic sample size."""
    rng = np.random.default_rng(13)
    shares, n, m, over = CHAMPION / CHAMPION.sum(), 20_000, 5_000, 0
    for champion, candidate in zip(rng.multinomial(n, shares, 400), rng.multinomial(m, shares, 400), strict=True):
        one, two = shape.merged(champion, candidate, ())
        over += shape.psi(one, two) > chi2_5_percent(len(one) - 1) * (1 / n + 1 / m)
    assert 0.02 <= over / 400 <= 0.08


def test_half_a_percent_of_scores_that_jump_above_the_threshold_warn_though_deciles_see_nothing():
    """Pitfall 3, with the share of the field's measurement."""
    scores = fraud(np.random.default_rng(14), 50_000)
    moved = scores.copy()
    moved[:250] = 0.8
    assert not verdict(scores)
    assert verdict(moved)
    deciles = np.quantile(fraud(RNG, 100_000), np.linspace(0.1, 0.9, 9))
    one, two = (np.bincount(np.searchsorted(deciles, each), minlength=10) for each in (scores, moved))
    assert shape.psi(one, two) < 0.001


def test_what_is_significant_but_does_not_matter_is_below_the_floor():
    moved = CHAMPION * 10
    moved[CUT] += moved.sum() // 2_000
    found = shape.compare(CHAMPION * 10, moved, [CUT], 0.002, 1.0)
    assert found.critical < found.psi < shape.FLOOR


def test_equal_arms_looked_at_again_and_again_never_warn():
    rng = np.random.default_rng(16)
    for _ in range(10):
        looks = np.cumsum(rng.multinomial(500, CHAMPION / CHAMPION.sum(), 20), axis=0)
        found = [shape.compare(CHAMPION, look, [CUT], 0.002, 1.0) for look in looks]
        assert not any(each.psi > each.critical for each in found)


def test_a_single_extreme_row_changes_nothing():
    """Pitfall 1: bins are fixed, so an outlier cannot stretch them."""
    scores = fraud(np.random.default_rng(17), 50_000)
    before = shape.compare(CHAMPION, histogram(scores), [CUT], 0.002, 1.5)
    after = shape.compare(CHAMPION, histogram(np.append(scores, 1e6)), [CUT], 0.002, 1.5)
    assert after.psi == pytest.approx(before.psi, abs=1e-4)


@pytest.mark.parametrize("scores", [np.array([]), np.zeros(500), np.full(500, np.inf)], ids=["none", "zero", "inf"])
def test_empty_and_constant_scores_yield_an_answer(scores):
    """Pitfall 2."""
    found = shape.compare(histogram(scores), histogram(scores), [], 0.002, 1.5)
    assert (found.psi, found.bins < 2) == (0.0, True)
    assert np.isfinite(shape.compare(CHAMPION, histogram(scores), [CUT], 0.002, 1.5).psi)


def test_bins_end_at_the_champions_quantiles_and_at_the_edge_above_a_threshold():
    assert SCORE_EDGES[shape.edge_at(SCORE_EDGES, 0.7)] >= 0.7 > SCORE_EDGES[shape.edge_at(SCORE_EDGES, 0.7) - 1]
    assert shape.edge_at(SCORE_EDGES, SCORE_EDGES[9]) == 9
    one, two = shape.merged(CHAMPION, CHAMPION, ())
    assert np.array_equal(one, two)
    assert len(one) == len(shape.QUANTILES) + 1
    above = one[::-1].cumsum()[::-1] / one.sum()
    for share, wanted in zip(above[1:], shape.QUANTILES, strict=True):
        assert share <= 1 - wanted + 1e-9
    with_cut, _ = shape.merged(CHAMPION, CHAMPION, [shape.edge_at(SCORE_EDGES, 0.02)])
    assert len(with_cut) == len(one) + 1


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 400))
def test_merging_loses_no_score_and_leaves_no_sparse_bin(seed, parts):
    champion = np.random.default_rng(seed).poisson(2, len(SCORE_EDGES) + 1) ** 5
    candidate = champion[::-1] // parts
    one, two = shape.merged(champion, candidate, [CUT])
    if len(one):
        assert (one.sum(), two.sum()) == (champion.sum(), candidate.sum())
        smaller = min(one.sum(), two.sum()) / (one.sum() + two.sum())
        assert ((one + two) * smaller >= shape.MIN_EXPECTED - 1e-9).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=9))
def test_psi_is_symmetric_and_never_negative(rows):
    one, two = np.array(rows, np.int64).T
    assert shape.psi(one, two) == pytest.approx(shape.psi(two, one))
    assert shape.psi(one, two) >= 0
    assert shape.psi(one, one) == pytest.approx(0)


def test_what_is_no_tail_is_refused():
    for tail, degrees in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="tail"):
            shape.chi2_quantile(tail, degrees)
    assert shape.chi2_tail(-1.0, 3) == 1.0
    assert math.isclose(shape.chi2_tail(2 * math.log(2), 2), 0.5)
