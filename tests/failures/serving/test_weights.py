"""Who answers whom (mode 24 and its companion): shares hold, cards stay, kept connections obey."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome, predict, scorer_home

from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, Arm

CARDS = 3_000
BATCH = 250


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScorerHome, Arm, Arm]]:
    # No ceiling may take the candidate back on a busy machine: this is about who is asked.
    with scorer_home(tmp_path_factory.mktemp("home"), deadline_ms=5_000, hang_s=20.0) as made:
        champion = made.settle()
        yield made, champion, made.split(champion, share=500)


def owners(home: ScorerHome, prefix: str, cards: Sequence[int]) -> dict[int, str]:
    """Which version answers each card."""
    connection = home.connection()
    found: dict[int, str] = {}
    for start in range(0, len(cards), BATCH):
        some = cards[start : start + BATCH]
        status, body = predict(connection, [transaction(f"{prefix}-{card}", card) for card in some])
        assert status == 200, body
        answers = [each["model_version"] for each in json.loads(body)["predictions"]]
        found |= dict(zip(some, answers, strict=True))
    return found


def test_the_share_is_nominal_stays_so_and_grows_by_new_cards_alone(split: tuple[ScorerHome, Arm, Arm]) -> None:
    home, champion, candidate = split
    first = owners(home, "first", range(CARDS))
    chosen = {card for card, version in first.items() if version == "1.1.0"}
    assert 0.02 < len(chosen) / CARDS < 0.09, "5 % of the cards, give or take seven standard deviations"
    assert owners(home, "second", range(CARDS)) == first, "a card keeps its arm"
    one = min(chosen)
    hammered = Counter(
        version for number in range(4) for version in owners(home, f"hammer-{number}", [one] * BATCH).values()
    )
    assert set(hammered) == {"1.1.0"}
    home.route(*weights(champion, candidate, 1_500), generation=3, lease_s=120.0)
    wider = {card for card, version in owners(home, "third", range(CARDS)).items() if version == "1.1.0"}
    assert chosen < wider
    assert 0.09 < len(wider) / CARDS < 0.21


def test_kept_connections_obey_every_table_and_a_retreat(split: tuple[ScorerHome, Arm, Arm]) -> None:
    home, champion, candidate = split
    home.route(*weights(champion, candidate, 0), generation=4, lease_s=120.0)
    connections = [home.connection() for _ in range(6)]
    assert versions(connections, "none") == {"1.0.0"}
    for connection in connections:
        connection.auto_open = 0
    home.route(*weights(champion, candidate, 5_000), generation=5, lease_s=120.0)
    assert versions(connections, "half") == {"1.0.0", "1.1.0"}
    home.route(*weights(champion, candidate, BUCKETS), generation=6, lease_s=120.0)
    assert versions(connections, "all") == {"1.1.0"}
    home.client.retreat("fraud", "latch-1", "a test", "somebody", 1)
    assert versions(connections, "back") == {"1.0.0"}


def versions(connections: Sequence[http.client.HTTPConnection], prefix: str) -> set[str]:
    """Who answers twenty cards on each of these connections."""
    found = set()
    for lane, connection in enumerate(connections):
        names = [f"{prefix}-{lane}-{number}" for number in range(20)]
        status, body = predict(connection, [transaction(name, lane * 50 + n) for n, name in enumerate(names)])
        assert status == 200, body
        found |= {each["model_version"] for each in json.loads(body)["predictions"]}
    return found
