from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest

from interlock.base.errors import UsageError
from interlock.features.population import (
    DAY_S,
    TEST_BINS,
    Population,
    PopulationSettings,
    card_numbers,
    generate,
    stream,
)
from interlock.privacy import pan

SMALL = PopulationSettings(cards=800, terminals=120, days=3, terminals_hit=2, cards_hit=8, attackers=5)


def test_equal_seeds_give_equal_transactions_and_others_do_not() -> None:
    one, again, other = generate(SMALL), generate(SMALL), generate(dataclasses.replace(SMALL, seed=8))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["amount"][:500], other["amount"][:500])


def test_transactions_come_in_time_order_within_their_days() -> None:
    found = generate(SMALL)
    assert (np.diff(found["event_time"]) >= 0).all()
    assert found["event_time"][0] >= SMALL.start_ns
    assert found["event_time"][-1] < SMALL.start_ns + SMALL.days * DAY_S * 10**9
    assert len(set(found["transaction_id"].tolist())) == len(found["transaction_id"])


def test_all_three_scenarios_appear_in_a_few_days_and_stay_rare() -> None:
    found = generate(dataclasses.replace(SMALL, cards=4_000, terminals=1_000, days=5))
    counts = np.bincount(found["scenario"], minlength=4)
    assert (counts[1:] >= 10).all()
    assert 0.005 < found["label"].mean() < 0.03
    assert np.array_equal(found["label"] == 1, found["scenario"] > 0)


def test_the_stream_continues_the_same_population() -> None:
    longer = generate(dataclasses.replace(SMALL, days=5))
    later = list(islice(stream(SMALL), 2))
    joined = np.concatenate([day["pan"] for day in later])
    assert np.array_equal(joined, longer["pan"][-len(joined) :])
    assert set(joined.tolist()) <= set(Population(SMALL).pans.tolist())


def test_card_numbers_are_distinct_and_pass_luhn_in_a_test_range() -> None:
    numbers = card_numbers(5_000, 3).tolist()
    assert len(set(numbers)) == 5_000
    assert all(number.startswith(TEST_BINS) and pan.parse(number) == number for number in numbers)


def test_a_compromised_terminal_sees_more_traffic_than_the_others() -> None:
    found = Population(SMALL).day(1)
    names, counts = np.unique(found["terminal_id"], return_counts=True)
    hit = np.isin(names, found["terminal_id"][found["scenario"] == 2])
    assert counts[hit].mean() > 2 * counts[~hit].mean()


@pytest.mark.parametrize("wrong", [{"cards": 0}, {"days": 0}, {"terminals_hit": 500}, {"tx_per_card_day": 0.0}])
def test_settings_that_simulate_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]
