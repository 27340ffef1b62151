import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.analysis.sequential import EventShareTest, Evidence, Look
from interlock.base.verdict import Verdict

FLAGS = EventShareTest(theta0=1.3, alpha=0.002)


def crossed(rng: np.random.Generator, ratio: float, looks: int, test: EventShareTest = FLAGS) -> int | None:
    """The look at which a candidate with `ratio` times the rate is rejected, or None."""
    evidence = Evidence()
    for look in range(looks):
        candidate, champion = 100, 900
        evidence = test.add(
            evidence,
            Look(int(rng.binomial(candidate, 0.02 * ratio)), candidate, int(rng.binomial(champion, 0.02)), champion),
        )
        if test.verdict(evidence, 1.0) is Verdict.FAIL:
            return look
    return None


def test_a_candidate_at_the_margin_is_rejected_no_more_often_than_alpha_says():
    loose = EventShareTest(theta0=1.3, alpha=0.05)
    rng = np.random.default_rng(7)
    rejected = sum(crossed(rng, 1.3, 60, loose) is not None for _ in range(300))
    assert rejected <= 300 * 0.05


def test_a_tenfold_rate_is_rejected_within_a_few_looks():
    rng = np.random.default_rng(11)
    found = [crossed(rng, 10, 20) for _ in range(20)]
    assert None not in found
    assert max(look for look in found if look is not None) <= 6


def test_nothing_is_judged_before_twenty_events():
    evidence = FLAGS.add(Evidence(), Look(19, 100, 0, 900))
    assert FLAGS.verdict(evidence, 1.5) is Verdict.INCONCLUSIVE
    assert FLAGS.verdict(FLAGS.add(evidence, Look(1, 100, 0, 900)), 1.5) is Verdict.FAIL


def test_a_look_without_calls_of_one_arm_adds_nothing():
    assert FLAGS.add(Evidence(), Look(5, 5, 0, 0)) == Evidence()


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="negative"):
        FLAGS.add(Evidence(), Look(-1, 5, 0, 5))


def test_dispersion_below_one_is_refused():
    with pytest.raises(ValueError, match="overstate"):
        FLAGS.log_e(Evidence(), 0.5)


def test_the_formula_equals_a_naive_product():
    looks = [Look(3, 100, 10, 900), Look(8, 500, 6, 500)]
    evidence = Evidence()
    for look in looks:
        evidence = FLAGS.add(evidence, look)
    naive = 0.0
    for theta in FLAGS.thetas:
        product = 1.0
        for look in looks:
            share = look.candidate_calls / (look.candidate_calls + look.champion_calls)
            p, p0 = (share * t / (share * t + 1 - share) for t in (theta, FLAGS.theta0))
            product *= (p / p0) ** (look.candidate_events / 2) * ((1 - p) / (1 - p0)) ** (look.champion_events / 2)
        naive += product / 40
    assert math.isclose(FLAGS.log_e(evidence, 2.0), math.log(naive), rel_tol=1e-9)


@given(st.lists(st.tuples(*[st.integers(0, 50), st.integers(1, 500)] * 2), max_size=8), st.floats(1, 10))
def test_dispersion_never_adds_evidence_once_the_test_speaks_against_the_candidate(rows, phi):
    evidence = Evidence()
    for k_c, n_c, k_b, n_b in rows:
        evidence = FLAGS.add(evidence, Look(k_c, n_c, k_b, n_b))
    if FLAGS.log_e(evidence, 1.0) > math.log(40):
        assert FLAGS.log_e(evidence, phi) <= FLAGS.log_e(evidence, 1.0) + 1e-9


def test_a_low_rate_is_found_by_exchanging_the_arms():
    look = Look(1, 500, 60, 500)
    assert FLAGS.verdict(FLAGS.add(Evidence(), look), 1.0) is Verdict.PASS
    assert FLAGS.verdict(FLAGS.add(Evidence(), look.swapped()), 1.0) is Verdict.FAIL


def test_power_grows_with_traffic_and_with_harm():
    few = FLAGS.power(harm=2, champion_events=30, odds=0.1, phi=1.5)
    many = FLAGS.power(harm=2, champion_events=3000, odds=0.1, phi=1.5)
    gross = FLAGS.power(harm=10, champion_events=100, odds=1.0, phi=1.5)
    assert few < 0.2 < 0.9 < many
    assert gross > 0.95
    assert FLAGS.power(harm=2, champion_events=0, odds=0.1, phi=1.5) == 0.0
