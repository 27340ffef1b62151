"""Changes that meet a worker which is just starting, and a disk that refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.failures.scorer_home import scorer_home, until

from interlock.base.errors import UnreachableError
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS


def test_no_table_is_missed_by_a_worker_that_starts_meanwhile(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        champion = home.settle()
        candidate = home.split(champion)
        old = home.workers()[0]
        os.kill(old, signal.SIGKILL)
        generation = 2
        until(lambda: home.client.status().workers == 1, "the supervisor has noticed")
        while home.client.status().workers < 2:
            generation += 1
            home.route(*weights(champion, candidate, 5_000), generation=generation, lease_s=120.0)
        # The last table was acknowledged before the replacement was seen to serve.
        until(lambda: home.state().oldest_generation == generation, "both route by the last table")
        home.route(*weights(champion, candidate, BUCKETS), generation=generation + 1)
        assert home.versions("after", 40) == {"1.1.0": 40}


def test_a_retreat_that_cannot_be_written_holds_but_is_not_reported_as_done(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        champion = home.settle()
        home.split(champion, share=BUCKETS)
        assert home.versions("before", 10) == {"1.1.0": 10}
        away = home.places.tables.with_name("tables-away")
        home.places.tables.rename(away)
        home.places.tables.write_bytes(b"")  # a file where the folder was: nothing can be written there
        for _ in range(2):
            with pytest.raises(UnreachableError, match="could not be written"):
                home.client.retreat("fraud", "latch-1", "a test", "somebody", 1)
        assert home.versions("held", 10) == {"1.0.0": 10}
        home.places.tables.unlink()
        away.rename(home.places.tables)
        home.client.retreat("fraud", "latch-1", "a test", "somebody", 1)
        assert home.process is not None
        home.process.kill()
        home.process.wait()
        home.serve()
        until(home.ready, "it is ready again")
        latch = home.state().latch
        assert latch is not None
        assert latch.id == "latch-1"
        assert home.versions("restarted", 10) == {"1.0.0": 10}
