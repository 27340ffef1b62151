"""A supervisor goes back by itself: nobody steers it in these tests."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.failures.load import transaction
from tests.failures.scorer_home import predict, scorer_home, until

from interlock.decision.split import weights

SLOW_TREES = 1_000
"""Long enough, for a full batch, to be later than a deadline of one millisecond."""


def test_a_lapsed_lease_goes_back_and_a_renewed_one_does_not(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        champion = home.settle()
        candidate = home.split(champion, share=9_000, lease_s=3.0)
        for _ in range(20):
            home.client.renew("fraud", 1, 2)
        left = home.state().lease_left_s
        assert left is not None
        assert left > 0
        assert home.state().latch is None
        until(lambda: home.state().latch is not None, "the supervisor goes back")
        latch = home.state().latch
        assert latch is not None
        assert (latch.reason, latch.actor) == ("the lease of the rollout lapsed", "supervisor")
        assert home.versions("b", 40) == {"1.0.0": 40}
        home.client.renew("fraud", 1, 2)
        assert home.versions("c", 20) == {"1.0.0": 20}, "a renewal does not open a latch"
        home.route(*weights(champion, candidate, 9_000), generation=3, epoch=2, clears=latch.id, lease_s=120.0)
        assert home.versions("d", 40)["1.1.0"] > 15


def test_a_candidate_that_misses_deadlines_is_taken_back_and_nobody_waits_for_it(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, deadline_ms=1) as home:
        champion = home.settle()
        home.split(champion, share=9_000, trees=SLOW_TREES)
        connections = [home.connection() for _ in range(4)]

        def many(lane: int) -> list[tuple[str, bool]]:
            found = []
            for number in range(10):
                names = [f"m{lane}-{number}-{place}" for place in range(64)]
                batch = [transaction(name, lane * 1_000 + place) for place, name in enumerate(names)]
                status, body = predict(connections[lane], batch)
                assert status == 200, body
                found += [(each["model_version"], each["degraded"]) for each in json.loads(body)["predictions"]]
            return found

        with ThreadPoolExecutor(4) as pool:
            answers = [each for lane in pool.map(many, range(4)) for each in lane]
        assert len(answers) == 4 * 10 * 64
        assert not any(degraded for _, degraded in answers), "the champion answers for a late candidate"
        until(lambda: home.state().latch is not None, "the supervisor goes back")
        latch = home.state().latch
        assert latch is not None
        assert "deadline misses" in latch.reason
        assert latch.actor == "supervisor"
        assert home.versions("after", 20) == {"1.0.0": 20}
