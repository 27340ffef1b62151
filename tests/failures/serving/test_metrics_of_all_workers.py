"""Every worker's page tells of all workers (a companion of mode 25 in the field's list)."""

from __future__ import annotations

import re
from pathlib import Path

from tests.failures.scorer_home import get, scorer_home, until


def test_each_worker_tells_the_sum_of_all_and_replacements_take_nothing_away(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=3) as home:
        home.settle()

        def answered() -> int:
            page = get(home.connection(), "/metrics")[1].decode()
            found = re.findall(r"^fraud_prediction_requests_total{.*} (\d+)$", page, re.M)
            return sum(map(int, found))

        home.ask([f"a{number}" for number in range(90)])
        until(lambda: answered() == 90, "every answer is counted")
        assert {answered() for _ in range(20)} == {90}, "whichever worker is scraped"
        home.client.replace()
        home.ask([f"b{number}" for number in range(30)])
        until(lambda: answered() == 120, "old and new workers are counted together")
        assert {answered() for _ in range(20)} == {120}
