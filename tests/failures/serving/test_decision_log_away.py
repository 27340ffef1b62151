"""The decision log cannot be written (mode 25): nobody is answered in silence, and memory is not its buffer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome, get, predict, scorer_home, until

SEGMENT = 65_536
"""Room for less than a hundred decisions: then the next segment must be opened."""


@contextmanager
def without_folder(home: ScorerHome) -> Iterator[None]:
    """No segment can be opened meanwhile; those that are open go on."""
    folder = home.places.segments
    away = folder.with_name("segments-away")
    folder.rename(away)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)


def ask(home: ScorerHome, prefix: str, count: int) -> dict[str, tuple[int, bytes]]:
    """Answers to as many transactions, by their names."""
    names = [f"{prefix}-{number}" for number in range(count)]
    return {name: predict(home.connection(), [transaction(name, number)]) for number, name in enumerate(names)}


def unrecorded(home: ScorerHome) -> int:
    """Decisions that the metrics own up to."""
    page = get(home.connection(), "/metrics")[1].decode()
    return int(re.findall(r"^interlock_unrecorded_total (\d+)$", page, re.M)[0])


def test_what_cannot_be_recorded_is_not_answered(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, segment_bytes=SEGMENT, seal_s=600.0) as home:
        home.settle()
        with without_folder(home):
            found = ask(home, "a", 200)
            refused = {name for name, (status, _) in found.items() if status != 200}
            assert {found[name] for name in refused} == {(503, b'{"error":"decisions cannot be recorded"}')}
            assert 0 < len(refused) < 200
            assert home.ready()
        until(lambda: predict(home.connection(), [transaction("again", 1)])[0] == 200, "it is written again")
        answered = set(found) - refused
        recorded = home.recorded()
        assert answered | {"again"} <= set(recorded)
        assert not refused & set(recorded)
        assert "decisions cannot be recorded" in home.log()


def test_a_service_that_must_go_on_counts_what_it_could_not_record(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, segment_bytes=SEGMENT, seal_s=600.0, unwritable="serve-and-alarm") as home:
        home.settle()
        with without_folder(home):
            found = ask(home, "a", 200)
        assert {status for status, _ in found.values()} == {200}
        assert not any(json.loads(body)["predictions"][0]["degraded"] for _, body in found.values())
        lost = set(found) - set(home.recorded())
        assert lost
        until(lambda: unrecorded(home) == len(lost), "the metrics say how many")
