"""One question in both directions: harm, and its exclusion."""

import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.analysis.harm import Question, Seen, find
from interlock.analysis.paired import Flips
from interlock.analysis.sequential import Look
from interlock.base.verdict import Verdict

FLAGS = Question(theta0=1.3, alpha=0.002, harm=1.3, clear_alpha=0.05)
RARE = Question(theta0=2.0, alpha=0.002, harm=2.0, clear_alpha=0.05, limit=0.001)
looks = st.builds(Look, st.integers(0, 80), st.integers(100, 2_000), st.integers(0, 80), st.integers(100, 2_000))
flips = st.builds(Flips, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
seens = st.builds(Seen, st.lists(looks, max_size=4), flips)


def test_the_same_rate_passes_and_is_excluded_in_time():
    early = find(FLAGS, Seen([Look(5, 1_000, 45, 9_000)]), 1.5, True)
    late = find(FLAGS, Seen([Look(200, 40_000, 1_800, 360_000)]), 1.5, True)
    assert (early.verdict, early.cleared) == (Verdict.PASS, False)
    assert (late.verdict, late.cleared) == (Verdict.PASS, True)


def test_a_harm_fails_and_is_never_excluded():
    found = find(FLAGS, Seen([Look(500, 10_000, 450, 90_000)]), 1.5, True)
    assert (found.verdict, found.cleared) == (Verdict.FAIL, False)
    assert found.log_e_clear < 0


def test_a_larger_harm_is_excluded_earlier_than_a_smaller_one():
    seen = Seen([Look(60, 12_000, 540, 108_000)])
    assert find(replace(FLAGS, harm=2.0), seen, 1.5, True).cleared
    assert not find(FLAGS, seen, 1.5, True).cleared


def test_a_harm_at_its_limit_is_excluded_no_more_often_than_its_alpha_says():
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(100):
        at = np.cumsum(rng.binomial([1_000, 9_000], [0.0065, 0.005], size=(8, 2)), axis=0).tolist()
        wrong += any(
            find(FLAGS, Seen([Look(k_c, 1_000 * n, k_b, 9_000 * n)]), 1.0, True).cleared
            for n, (k_c, k_b) in enumerate(at, start=1)
        )
    assert wrong <= 0.05 * 100


def test_events_too_rare_for_a_ratio_are_excluded_absolutely():
    none = Seen([Look(0, 10_000, 0, 90_000)], rare=(0, 10_000))
    assert find(RARE, none, 1.5, True).verdict is Verdict.INCONCLUSIVE
    assert find(RARE, none, 1.5, True).cleared
    assert not find(replace(RARE, limit=None), none, 1.5, True).cleared
    assert not find(RARE, Seen([Look(0, 1_000, 0, 9_000)], rare=(0, 1_000)), 1.5, True).cleared


def test_few_cards_show_nothing_and_exclude_nothing():
    for seen in (Seen([Look(500, 1_000, 1, 9_000)]), Seen([Look(0, 90_000, 0, 90_000)], rare=(0, 90_000))):
        found = find(RARE, seen, 1.5, False)
        assert (found.verdict, found.cleared) == (Verdict.INCONCLUSIVE, False)


def test_flips_alone_fail_a_shadow_and_a_good_shadow_does_not_blind_what_follows():
    """What a shadow that looked well can cost is a factor of two."""
    bad = Seen(flips=Flips(up=90, kept=10))
    assert find(FLAGS, bad, 1.5, True).verdict is Verdict.FAIL
    split = [Look(60, 1_000, 100, 9_000)]
    alone, after = find(FLAGS, Seen(split), 1.5, True), find(FLAGS, Seen(split, Flips(5, 5, 5_000)), 1.5, True)
    assert math.isclose(alone.log_e - after.log_e, math.log(2), rel_tol=1e-6)
    assert after.verdict is Verdict.FAIL


def test_what_no_look_has_seen_is_inconclusive():
    found = find(FLAGS, Seen(), 1.5, True)
    assert (found.verdict, found.log_e, found.log_e_clear, found.cleared) == (Verdict.INCONCLUSIVE, 0.0, 0.0, False)


@settings(max_examples=25)
@given(seens, st.floats(1, 6))
def test_a_rate_too_low_is_a_rate_too_high_with_the_arms_exchanged(seen, phi):
    down = replace(FLAGS, downwards=True)
    assert find(down, seen, phi, True) == find(FLAGS, seen.swapped(), phi, True)


@settings(max_examples=25)
@given(seens, st.floats(1, 6))
def test_nothing_both_fails_and_is_excluded(seen, phi):
    up, down = find(FLAGS, seen, phi, True), find(replace(FLAGS, downwards=True), seen, phi, True)
    assert not (up.verdict is Verdict.FAIL and up.cleared)
    assert not (up.verdict is Verdict.FAIL and down.verdict is Verdict.FAIL)


@settings(max_examples=25)
@given(looks, st.floats(1, 6))
def test_one_more_event_of_the_candidate_only_adds_to_harm_and_takes_from_its_exclusion(look, phi):
    more = replace(look, candidate_events=look.candidate_events + 1)
    one, two = (find(FLAGS, Seen([each]), phi, True) for each in (look, more))
    assert two.log_e >= one.log_e
    if Seen([look]).events >= 20:
        assert two.log_e_clear <= one.log_e_clear
