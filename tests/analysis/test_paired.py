"""The sequential McNemar test with a margin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.analysis.paired import BETS, Flips, FlipTest

numbers = st.integers(0, 300)
pairs = st.builds(Flips, numbers, numbers, numbers)
margins = st.sampled_from([1.0, 1.1, 1.3, 2.0])
phis = st.floats(1, 10)


def test_without_a_margin_it_is_mcnemars_likelihood_ratio():
    """Each bet λ is the alternative (1+λ)/2 against one half, and what both flagged drops out."""
    naive = 0.0
    for number in range(1, BETS + 1):
        up = (1 + number / (BETS + 1)) / 2
        naive += (up / 0.5) ** 30 * ((1 - up) / 0.5) ** 12 / BETS
    assert FlipTest(1.0).log_e(Flips(30, 12, 5_000), 1.0) == pytest.approx(math.log(naive))


def test_a_shadow_at_the_margin_is_rejected_no_more_often_than_alpha_says():
    """Each of 200 shadows is looked at 15 times, at the margin exactly: α = 5 %."""
    rng = np.random.default_rng(5)
    test, crossed, runs = FlipTest(1.3), 0, 200
    rates = [1.3 * 0.06 + 0.3 * 0.5, 0.06, 0.5]
    for _ in range(runs):
        seen = np.cumsum(rng.multinomial(160, [*rates, 1 - sum(rates)], size=15), axis=0).tolist()
        crossed += any(test.log_e(Flips(*row[:3]), 1.0) >= math.log(20) for row in seen)
    assert crossed <= 0.05 * runs


def test_under_the_null_e_is_one_at_most_on_average():
    """At the boundary, small counts: E is no mixture of luck, its mean is 1 at any fixed look."""
    rng = np.random.default_rng(6)
    rates = [1.5 * 0.10 + 0.5 * 0.47, 0.10, 0.47]
    draws, often = np.unique(
        rng.multinomial(12, [*rates, 1 - sum(rates)], size=3_000)[:, :3], axis=0, return_counts=True
    )
    found = np.repeat([math.exp(FlipTest(1.5).log_e(Flips(*row), 1.0)) for row in draws.tolist()], often)
    assert found.mean() <= 1 + 4 * found.std() / math.sqrt(len(found))


def test_ten_times_the_flags_are_seen_within_few_pairs():
    assert FlipTest(1.3).log_e(Flips(up=30, down=0, kept=3), 1.5) > math.log(500)


def test_a_twentieth_more_flags_never_reach_the_bound_however_long_it_lasts():
    for size in (10, 1_000, 100_000, 10_000_000):
        assert FlipTest(1.3).log_e(Flips(up=5 * size, down=0, kept=100 * size), 1.5) < math.log(20)


def test_the_reverse_test_excludes_a_harm_once_many_flags_were_kept():
    def reverse(flips: Flips) -> float:
        return FlipTest(1 / 1.3).log_e(flips.swapped(), 1.5)

    assert reverse(Flips(1, 1, 10)) < math.log(20)
    assert reverse(Flips(1, 1, 60)) > math.log(20)
    assert reverse(Flips(40, 1, 60)) < 0


@settings(max_examples=30)
@given(pairs, margins, phis)
def test_both_directions_never_speak_at_once(flips, margin, phi):
    """A candidate cannot be too strict and too mild at α = 5 %."""
    test = FlipTest(margin)
    assert min(test.log_e(flips, phi), test.log_e(flips.swapped(), phi)) < math.log(20)


@settings(max_examples=30)
@given(pairs, margins, phis)
def test_one_more_flip_upwards_only_adds_evidence_and_one_downwards_only_takes(flips, margin, phi):
    test = FlipTest(margin)
    now = test.log_e(flips, phi)
    assert test.log_e(flips.plus(Flips(up=1)), phi) > now
    assert test.log_e(flips.plus(Flips(down=1)), phi) < now
    assert test.log_e(flips.plus(Flips(kept=1)), phi) <= now


def test_what_makes_no_test_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        FlipTest(0.0)
    with pytest.raises(ValueError, match="never negative"):
        FlipTest(1.3).log_e(Flips(up=-1), 1.0)
    with pytest.raises(ValueError, match="overstate"):
        FlipTest(1.3).log_e(Flips(), 0.9)
