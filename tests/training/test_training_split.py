import numpy as np
import pytest

from interlock.base.errors import UsageError
from interlock.training.config import SplitChoice
from interlock.training.split import split

DAYS = np.linspace(0, 10, 1001)


def test_training_ends_the_gap_before_testing_begins() -> None:
    found = split(DAYS, SplitChoice(test_days=2, gap_days=3))
    assert DAYS[found.test].min() == pytest.approx(8)
    assert DAYS[found.train].max() < 5
    assert DAYS[found.train].min() == 0
    assert DAYS[found.test].max() == 10


def test_no_row_is_in_both_periods_or_in_the_gap() -> None:
    found = split(DAYS, SplitChoice(test_days=2, gap_days=3))
    assert not set(found.train) & set(found.test)
    left_out = np.setdiff1d(np.arange(len(DAYS)), np.concatenate([found.train, found.test]))
    assert DAYS[left_out].min() >= 5
    assert DAYS[left_out].max() < 8


def test_the_warm_up_is_not_trained_on() -> None:
    found = split(DAYS, SplitChoice(test_days=2, gap_days=1, warmup_days=4))
    assert DAYS[found.train].min() == pytest.approx(4)


def test_a_training_period_of_given_length_lies_just_before_the_gap() -> None:
    found = split(DAYS, SplitChoice(test_days=2, gap_days=1, train_days=3, warmup_days=1))
    assert DAYS[found.train].min() == pytest.approx(4)


def test_a_history_that_is_too_short_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="shorten"):
        split(DAYS, SplitChoice(test_days=8, gap_days=3))
