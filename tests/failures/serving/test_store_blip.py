"""The online store stands still for a moment, or is gone: degraded answers, no errors, recovery by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from tests.failures.load import Load
from tests.failures.scorer_home import ScorerHome, scorer_home, until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerHome]:
    with scorer_home(tmp_path_factory.mktemp("home")) as made:
        made.settle()
        yield made


def recovers(home: ScorerHome) -> None:
    """Wait until every worker asks the store again."""
    until(lambda: not any(each["degraded"] for each in home.ask([os.urandom(4).hex() for _ in range(8)])), "all do")


def test_a_store_that_stands_still_degrades_answers_fails_none_and_recovers(home: ScorerHome) -> None:
    with Load(home.url, rate=60, threads=4) as load:
        load.flows()
        os.kill(home.valkey.pid, signal.SIGSTOP)
        try:
            before = load.degraded
            until(lambda: load.degraded > before + 10, "the fallback answers")
            assert home.ready(), "a shared dependency takes no scorer out"
        finally:
            os.kill(home.valkey.pid, signal.SIGCONT)
        recovers(home)
    assert load.failures == []
    assert sum(load.answers.values()) == load.sent


def test_without_a_store_the_fallback_answers_and_afterwards_the_model_again(home: ScorerHome) -> None:
    assert not any(each["degraded"] for each in home.ask(["a1", "a2"]))
    with Load(home.url, rate=60, threads=4) as load:
        home.valkey.stop()
        for each in home.ask(["b1", "b2", "b3"]):
            assert (each["degraded"], each["score"], each["decision"]) == (True, None, "REVIEW")
        assert home.ready(), "a shared dependency takes no scorer out"
        home.start_store()
        recovers(home)
    assert {"b1", "b2", "b3"} <= set(home.recorded())
    assert load.failures == []
    assert sum(load.answers.values()) == load.sent
