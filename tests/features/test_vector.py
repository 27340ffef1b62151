from __future__ import annotations

import numpy as np
import pytest

from interlock.base.errors import UsageError
from interlock.features.definition import FRAUD
from interlock.features.vector import assemble, assemble_columns

# Wednesday 2026-10-07T13:45:00Z
AT = 1_791_380_700_000


def one(values: dict[str, int], **inputs: object) -> dict[str, float]:
    row = np.zeros((1, FRAUD.value_count), np.int64)
    for source, value in values.items():
        row[0, FRAUD.offset(source)] = value
    sent = {"amount": 1000, "mcc": "5411", "country": "FR"} | inputs
    vector = assemble(FRAUD, [sent], row, np.array([AT], np.int64))
    return dict(zip(FRAUD.names, vector[0].tolist(), strict=True))


def test_request_and_clock_columns_come_from_the_edge() -> None:
    found = one({}, event_time="1999-01-01T00:00:00Z")
    assert (found["amount"], found["mcc"], found["country_is_home"]) == (1000.0, 5411.0, 1.0)
    assert (found["hour"], found["weekday"]) == (13.0, 2.0)


def test_the_integers_stand_in_the_stores_order() -> None:
    row = np.arange(40, dtype=np.int64)[None, :]
    vector = assemble(FRAUD, [{"amount": 1, "mcc": "1", "country": "FR"}], row, np.array([AT], np.int64))
    start = FRAUD.names.index("card_count_1m")
    assert vector[0, start : start + 40].tolist() == list(range(40))


def test_ratios_are_of_integers_and_declare_their_missing_value() -> None:
    found = one({"card:count:24h": 4, "card:sum:24h": 2000, "terminal:count:1h": 1, "terminal:count:24h": 8})
    assert found["card_amount_over_mean_24h"] == 2.0
    assert found["terminal_share_1h_of_24h"] == 0.125
    assert found["card_amount_over_mean_7d"] == -1.0


def test_a_missing_input_is_the_default_and_not_zero() -> None:
    found = one({}, mcc=None, country=None)
    assert found["mcc"] == -1.0
    assert found["country_is_home"] == -1.0
    assert one({}, country="DE")["country_is_home"] == 0.0


def test_rows_and_columns_give_the_same_bytes() -> None:
    rng = np.random.default_rng(0)
    inputs = [
        {"amount": int(a), "mcc": "5999", "country": c}
        for a, c in zip(rng.integers(1, 99, 50), ["FR", "DE"] * 25, strict=True)
    ]
    values = rng.integers(0, 2**40, (50, 40))
    at = AT + rng.integers(0, 10**9, 50)
    by_row = np.vstack([assemble(FRAUD, inputs[i : i + 1], values[i : i + 1], at[i : i + 1]) for i in range(50)])
    columns = {name: np.array([i[name] for i in inputs]) for name in ("amount", "mcc", "country")}
    by_column = assemble_columns(FRAUD, columns, columns["amount"], values, at)
    assert by_row.tobytes() == by_column.tobytes() == assemble(FRAUD, inputs, values, at).tobytes()
    assert by_row.dtype == np.float32


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError):
        assemble(FRAUD, [{"amount": 1}], np.zeros((1, 39), np.int64), np.array([AT], np.int64))
