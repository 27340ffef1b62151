from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.failures.load import Load, transaction
from tests.failures.scorer_home import ScorerHome, get, predict, scorer_home, until


class Kept(Load):
    """A load that remembers which transactions it sent."""

    def __init__(self, url: str, rate: float, threads: int) -> None:
        super().__init__(url, rate, threads)
        self.names: set[str] = set()

    def _one(self, connection: http.client.HTTPConnection, name: str, number: int) -> http.client.HTTPConnection:
        self.names.add(name)
        return super()._one(connection, name, number)

    @property
    def answered(self) -> set[str]:
        """Those that got a prediction."""
        return self.names - {line.split(":")[0] for line in self.failures}


def test_a_killed_worker_loses_only_what_was_in_flight_in_it_and_is_replaced(tmp_path: Path) -> None:
    threads = 6
    with scorer_home(tmp_path) as home:
        home.settle()
        before = home.workers()
        with Kept(home.url, rate=300, threads=threads) as load:
            until(lambda: sum(load.answers.values()) > 200, "traffic runs")
            os.kill(before[0], signal.SIGKILL)
            until(lambda: len(set(home.workers()) - set(before)) == 1, "a replacement runs")
            until(lambda: home.client.status().workers == 2, "the replacement serves")
            done = sum(load.answers.values())
            until(lambda: sum(load.answers.values()) > done + 200, "traffic goes on")
            assert home.ready()
        print(f"failed {len(load.failures)} of {load.sent}: {load.failures}")
        # One unanswered request per connection at most: that is what was in flight in the worker.
        assert len(load.failures) <= threads
        missing = load.answered - set(home.recorded())
        assert not missing
        assert len(load.answered) == sum(load.answers.values()) > 400


def test_no_metric_falls_when_a_worker_ends(tmp_path: Path) -> None:
    def totals() -> tuple[int, int]:
        page = get(home.connection(), "/metrics")[1].decode()
        answered = re.findall(r"^fraud_prediction_requests_total{.*} (\d+)$", page, re.M)
        responses = re.findall(r"^interlock_http_responses_total{.*} (\d+)$", page, re.M)
        return sum(map(int, answered)), sum(map(int, responses))

    def watch() -> None:
        while not stop.is_set():
            seen.append(totals())

    seen: list[tuple[int, int]] = []
    stop = threading.Event()
    watcher = threading.Thread(target=watch)
    with scorer_home(tmp_path) as home:
        home.settle()
        home.ask([f"a{number}" for number in range(60)])
        until(lambda: totals()[0] == 60, "every answer is counted")
        pid = home.workers()[0]
        watcher.start()
        try:
            os.kill(pid, signal.SIGTERM)
            until(lambda: pid not in home.workers() and len(home.workers()) == 2, "its replacement runs")
            until(lambda: home.client.status().workers == 2, "another serves")
        finally:
            stop.set()
            watcher.join(30)
        assert {answered for answered, _ in seen} == {60}
        responses = [number for _, number in seen]
        assert len(responses) > 5
        assert responses == sorted(responses)


def test_what_a_leaving_worker_counted_last_is_not_lost(tmp_path: Path) -> None:
    with scorer_home(tmp_path, report_ms=3_000) as home:
        home.settle()
        before = home.workers()
        home.ask([f"a{number}" for number in range(60)])
        for pid in before:  # Long before their next report: only their last words tell of the answers.
            os.kill(pid, signal.SIGTERM)
        until(lambda: not set(before) & set(home.workers()), "both have left")
        until(lambda: home.client.status().workers == 2, "their replacements serve")
        page = get(home.connection(), "/metrics")[1].decode()
        found = re.findall(r"^fraud_prediction_requests_total{.*} (\d+)$", page, re.M)
        assert sum(map(int, found)) == 60
        assert sum(home.recorded().values()) == 60


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerHome]:
    """A scorer that is soon worried about silence."""
    with scorer_home(tmp_path_factory.mktemp("quick"), silence_s=1.5) as made:
        made.settle()
        yield made


def test_a_stalled_supervisor_does_not_kill_its_workers_when_it_wakes(quick: ScorerHome) -> None:
    before = set(quick.workers())
    assert quick.process is not None
    os.kill(quick.process.pid, signal.SIGSTOP)
    threading.Event().wait(3)
    os.kill(quick.process.pid, signal.SIGCONT)
    assert quick.client.status().workers == 2
    threading.Event().wait(0.5)
    assert set(quick.workers()) == before
    assert quick.ready()


def test_a_silent_worker_is_killed_and_replaced(quick: ScorerHome) -> None:
    pid = quick.workers()[0]
    os.kill(pid, signal.SIGSTOP)
    until(lambda: pid not in quick.workers() and len(quick.workers()) == 2, "its replacement runs")
    until(lambda: quick.client.status().workers == 2, "its replacement serves")
    assert json.loads(predict(quick.connection(), [transaction("x", 1)])[1])["predictions"][0]["score"] is not None
