"""The online store stands still for a moment, or is gone: degraded answers, no errors, recovery by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.failures.load import Load
from tests.failures.scorer_home import scorer_home, until


def test_a_store_that_stands_still_degrades_answers_fails_none_and_recovers(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        home.settle()
        with Load(home.url, rate=60, threads=4) as load:
            load.flows()
            os.kill(home.valkey.pid, signal.SIGSTOP)
            try:
                before = load.degraded
                until(lambda: load.degraded > before + 10, "the fallback answers")
                assert home.ready(), "a shared dependency takes no scorer out"
            finally:
                os.kill(home.valkey.pid, signal.SIGCONT)
            until(lambda: not home.ask([os.urandom(4).hex()])[0]["degraded"], "the store is asked again")

            def healthy() -> bool:
                degraded = load.degraded
                load.flows(30)
                return load.degraded == degraded

            until(healthy, "the model answers everything again")
        assert load.failures == []
        assert sum(load.answers.values()) == load.sent


def test_a_store_that_is_restarted_under_load_fails_nobody(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        home.settle()
        with Load(home.url, rate=60, threads=4) as load:
            load.flows()
            home.valkey.stop()
            before = load.degraded
            until(lambda: load.degraded > before + 10, "the fallback answers")
            home.start_store()
            until(lambda: not home.ask([os.urandom(4).hex()])[0]["degraded"], "the store is asked again")
            load.flows()
        assert load.failures == []
        assert sum(load.answers.values()) == load.sent
