"""A split in time with a gap, so that no training label was still open when testing began."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from interlock.base.errors import UsageError
from interlock.training.config import SplitChoice


@dataclass(frozen=True)
class Split:
    """Row numbers, ascending in time; every training row lies at least the gap before every test row."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def split(days: NDArray[np.float64], choice: SplitChoice) -> Split:
    """Split rows by their day.

    Args:
        days: float64 [n], ascending.
        choice: lengths in days.

    Raises:
        UsageError: a period has no rows.
    """
    end = float(days[-1])
    test_from = end - choice.test_days
    train_to = test_from - choice.gap_days
    train_from = choice.warmup_days
    if choice.train_days is not None:
        train_from = max(train_from, train_to - choice.train_days)
    train = np.flatnonzero((days >= train_from) & (days < train_to))
    test = np.flatnonzero(days >= test_from)
    if not len(train) or not len(test):
        raise UsageError(
            f"a period of the split has no rows ({len(train)} to train on, {len(test)} to test on)",
            f"the snapshot spans {end:.2f} days: shorten test_days, gap_days or warmup_days",
        )
    return Split(train, test)
