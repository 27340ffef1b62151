import numpy as np

from interlock.analysis import dispersion


def test_independent_events_have_dispersion_one():
    rng = np.random.default_rng(3)
    calls = rng.integers(500, 1500, 100)
    estimate = dispersion.over_groups(rng.binomial(calls, 0.02), calls)
    assert estimate is not None
    assert 0.6 < estimate < 1.5


def test_cards_that_differ_for_ever_raise_the_dispersion_over_groups_as_time_goes_by():
    rng = np.random.default_rng(4)
    rate = rng.gamma(0.5, 0.04, 100)
    calls = np.full(100, 200)
    early = dispersion.over_groups(rng.binomial(calls, np.clip(rate, 0, 1)), calls)
    later = dispersion.over_groups(rng.binomial(calls * 20, np.clip(rate, 0, 1)), calls * 20)
    assert early is not None
    assert later is not None
    assert later > early > 2


def test_bursts_on_one_half_raise_the_dispersion_over_time():
    rng = np.random.default_rng(5)
    calls = np.full(600, 200)
    half = calls // 2
    steady = rng.binomial(half, 0.02)
    burst = np.repeat(rng.gamma(0.3, 0.06, 50), 12).clip(0, 1)
    quiet = dispersion.over_time(steady, steady + rng.binomial(half, 0.02), half, calls)
    bursty_half = rng.binomial(half, burst)
    bursty = dispersion.over_time(bursty_half, bursty_half + rng.binomial(half, 0.02), half, calls)
    assert quiet is not None
    assert bursty is not None
    assert quiet < 1.6 < 5 < bursty


def test_too_few_batches_give_no_estimate():
    few = np.ones(19, dtype=np.int64)
    assert dispersion.over_groups(few, few * 9) is None
    assert dispersion.over_time(few, few * 2, few * 3, few * 9) is None


def test_no_event_gives_no_estimate():
    assert dispersion.over_groups(np.zeros(100, dtype=np.int64), np.ones(100, dtype=np.int64)) is None


def test_effective_cards_are_as_many_as_have_events_however_many_events_they_have():
    """40 cards alike with 50 events each are 40 cards; 4,000 with one each are as many as can be."""
    rng = np.random.default_rng(6)
    calls = np.full(100, 1_000)
    few = np.bincount(rng.integers(0, 100, 40), minlength=100) * 50
    many = np.bincount(rng.integers(0, 100, 4_000), minlength=100)
    found = dispersion.effective_cards(few, calls)
    assert found is not None
    assert 25 < found < 65
    assert dispersion.effective_cards(many, calls) == np.inf
    assert dispersion.effective_cards(few * 0, calls) == np.inf


def test_effective_cards_cannot_be_told_from_four_groups():
    few = np.ones(4, dtype=np.int64)
    assert dispersion.effective_cards(few, few) is None
    assert dispersion.effective_cards(np.ones(5, dtype=np.int64), np.ones(5, dtype=np.int64)) == np.inf


def test_phi_is_the_largest_estimate_and_never_below_its_floor():
    assert dispersion.phi([None, None]) == 1.5
    assert dispersion.phi([0.4, None]) == 1.5
    assert dispersion.phi([1.1, 3.2]) == 3.2
