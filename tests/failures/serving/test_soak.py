"""The soak itself, a few swaps long: the thousand are `make soak` (a companion of mode 25 in the field's list)."""

from __future__ import annotations

from pathlib import Path

from bench.soak import soak
from bench.soak_plot import draw


def test_a_short_soak_fails_nothing_and_draws_what_it_saw(tmp_path: Path) -> None:
    result, diary, records = soak(4, 100.0, 1.0, tmp_path)
    assert (result["swaps"], result["failed"], result["wrong_version"]) == (4, 0, 0)
    assert result["requests"] > 100
    assert 0 < result["new_connections"] < result["requests"]
    assert not result["workers_replaced"]
    picture = draw(result, diary.swaps, diary.memory, records)
    assert picture.startswith("<svg")
    assert picture.count("<polyline") == 2
