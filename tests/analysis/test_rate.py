"""Rates below an absolute limit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.analysis.rate import RareTest

LIMIT = RareTest(0.001)


def test_thousands_of_calls_without_an_event_exclude_a_thousandth():
    assert LIMIT.log_e(0, 1_000, 1.5) < math.log(20)
    assert LIMIT.log_e(0, 8_000, 1.5) > math.log(20)


def test_a_rate_at_the_limit_is_called_rare_no_more_often_than_alpha_says():
    rng = np.random.default_rng(8)
    wrong = 0
    for _ in range(200):
        events = np.cumsum(rng.binomial(4_000, 0.001, size=10))
        wrong += any(
            LIMIT.log_e(int(seen), 4_000 * look, 1.0) >= math.log(20) for look, seen in enumerate(events, start=1)
        )
    assert wrong <= 0.05 * 200


def test_under_the_null_e_is_one_at_most_on_average():
    rng = np.random.default_rng(9)
    for rate in (0.01, 0.02):
        draws = rng.binomial(300, rate, size=3_000)
        values = np.array([math.exp(RareTest(0.01).log_e(k, 300, 1.0)) for k in range(draws.max() + 1)])
        found = values[draws]
        assert found.mean() <= 1 + 4 * found.std() / math.sqrt(len(found))


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(100, 10_000), st.floats(1, 5))
def test_an_event_takes_evidence_and_a_call_without_one_adds_it(events, calls, phi):
    now = LIMIT.log_e(events, calls, phi)
    assert LIMIT.log_e(events + 1, calls + 1, phi) < now
    assert LIMIT.log_e(events, calls + 1, phi) > now


def test_what_makes_no_test_is_refused():
    for limit in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            RareTest(limit)
    with pytest.raises(ValueError, match="among"):
        LIMIT.log_e(2, 1, 1.5)
    with pytest.raises(ValueError, match="overstate"):
        LIMIT.log_e(0, 1, 0.5)
