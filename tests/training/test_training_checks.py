import numpy as np
import pytest

from interlock.base.errors import RefusedError
from interlock.base.verdict import Verdict
from interlock.training.checks import Check, check_data, check_shift, require
from interlock.training.config import GateChoice

GATES = GateChoice()
ROWS = 4000
NAMES = ("amount", "age_days")


def history(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fraud that large amounts hint at, and an account age that says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.random(ROWS) < 0.05
    amount = rng.gamma(2.0, 20.0, ROWS) * np.where(labels, 2.0, 1.0)
    return np.column_stack([amount, rng.integers(1, 2000, ROWS)]).astype(np.float32), labels


def failed(vectors: np.ndarray, labels: np.ndarray, gates: GateChoice = GATES) -> set[str]:
    return {check.name for check in check_data(vectors, labels, NAMES, gates) if check.verdict is not Verdict.PASS}


def test_sound_data_passes_every_check() -> None:
    assert failed(*history()) == set()


def test_an_input_that_gives_the_label_away_is_refused_by_name() -> None:
    # As in a published set: every fraud comes from an account of one day, and no genuine payment does.
    vectors, labels = history()
    vectors[:, 1] = np.where(labels, 1, vectors[:, 1] + 1)
    with pytest.raises(RefusedError, match=r"no input alone separates the label fail \(age_days\)"):
        require(check_data(vectors, labels, NAMES, GATES), "the data is not fit to train on")


def test_a_leak_in_the_middle_of_a_range_is_found() -> None:
    vectors, labels = history()
    vectors[:, 1] = np.where(labels, 1000, vectors[:, 1] + 2 * (vectors[:, 1] >= 999))
    assert failed(vectors, labels) == {"no input alone separates the label"}


def test_a_leak_in_codes_is_found() -> None:
    vectors, labels = history()
    vectors[:, 1] = np.where(labels, 5, [2, 9] * (ROWS // 2))
    assert failed(vectors, labels) == {"no input alone separates the label"}


def test_values_that_are_all_different_are_no_leak() -> None:
    # Bins judged on the rows that made them would separate anything.
    vectors, labels = history()
    vectors[:, 1] = np.random.default_rng(5).permutation(ROWS)
    assert failed(vectors, labels) == set()


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_an_implausible_label_rate_is_refused(rate: float) -> None:
    vectors, labels = history()
    labels = np.random.default_rng(1).random(ROWS) < rate
    assert {"label rate not too low", "label rate not too high"} & failed(vectors, labels)


def test_too_few_frauds_are_refused() -> None:
    vectors, labels = history()
    assert "enough positives" in failed(vectors, labels, GateChoice(min_positives=ROWS))


def test_missing_values_beyond_the_limit_are_refused() -> None:
    vectors, labels = history()
    vectors[: ROWS // 10, 1] = np.nan
    assert failed(vectors, labels) == {"missing or infinite values"}


def test_a_flood_of_copies_is_refused() -> None:
    vectors, labels = history()
    vectors[: ROWS // 10] = vectors[0]
    labels = labels.copy()
    labels[: ROWS // 10] = labels[0]
    assert "repeated rows" in failed(vectors, labels)


def test_inputs_that_moved_between_training_and_test_are_refused_by_name() -> None:
    train, _ = history(1)
    test, _ = history(2)
    columns = {"amount": 0, "age_days": 1}
    assert check_shift(train, test, columns, 0.25).verdict is Verdict.PASS
    test[:, 0] *= 3  # another currency's amounts
    found = check_shift(train, test, columns, 0.25)
    assert (found.verdict, found.finding) == (Verdict.FAIL, "amount")


def test_an_inconclusive_check_stops_a_training_too() -> None:
    with pytest.raises(RefusedError, match="inconclusive"):
        require([Check("x", Verdict.INCONCLUSIVE, 0, 0, "no evidence")], "not fit")


def test_no_check_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no verdict"):
        require([], "not fit")
