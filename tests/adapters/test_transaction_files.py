from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from interlock.adapters.delta.transactions import read_transactions, write_transactions
from interlock.base.errors import UsageError
from interlock.features.population import Population, PopulationSettings

SETTINGS = PopulationSettings(cards=40, terminals=10, days=2, terminals_hit=1, cards_hit=1, attackers=2)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_transactions_survive_a_file_and_are_their_owners_alone(tmp_path: Path, name: str) -> None:
    days = [Population(SETTINGS).day(number) for number in range(2)]
    rows = write_transactions(tmp_path / name, days)
    found = read_transactions(tmp_path / name)
    assert rows == len(found["pan"]) == sum(len(day["pan"]) for day in days)
    for column in days[0]:
        assert np.array_equal(found[column], np.concatenate([day[column] for day in days])), column
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield Population(SETTINGS).day(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_transactions(tmp_path / "t.parquet", broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "pan,amount\n4000001234567899,1\n", "event_time\n4000001234567899x\n"])
def test_a_file_that_is_none_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError) as found:
        read_transactions(tmp_path / "t.csv")
    assert "4000001234567899" not in str(found.value)


def test_other_endings_and_empty_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_transactions(tmp_path / "t.xls", [])
    with pytest.raises(UsageError):
        write_transactions(tmp_path / "t.csv", [])
