"""What a scorer does by itself: fall back, stay retreated, refuse, and serve from its own disk."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.builders import tiny_bundle
from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome, get, predict, scorer_home, until

from interlock.base.canonical import digest_hex
from interlock.base.errors import IntegrityError, InterlockError, RefusedError
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, Arm

NOTHING = "sha256:" + "0" * 64


def test_a_worker_that_slept_through_a_retreat_answers_by_the_champion_only(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        champion = home.settle()
        home.split(champion, share=9_000)
        assert home.versions("a", 60)["1.1.0"] > 30
        pid = home.workers()[0]
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(home.ask, [f"w{lane}-{number}" for number in range(4)]) for lane in range(8)]
            home.client.retreat("fraud", "latch-1", "a test", "somebody", 1)
            os.kill(pid, signal.SIGCONT)
            found = [each["model_version"] for one in waiting for each in one.result()]
        assert found == ["1.0.0"] * 32
        assert home.workers() == [pid]
        assert home.versions("b", 60) == {"1.0.0": 60}


def test_a_scorer_serves_from_its_disk_and_stays_retreated(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        champion = home.settle()
        candidate = home.split(champion, share=9_000)
        first = home.ask(["a1"])[0]
        assert home.terminate() == 0
        home.serve()
        until(home.ready, "it is ready without anybody's help")
        assert home.versions("b", 40)["1.1.0"] > 15
        assert home.ask(["a1"])[0] == first
        home.client.retreat("fraud", "latch-1", "a test", "somebody", 1)
        assert home.process is not None
        home.process.kill()  # not even a chance to write
        home.process.wait()
        home.serve()
        until(home.ready, "it is ready again")
        assert home.versions("c", 60) == {"1.0.0": 60}
        latch = home.state().latch
        assert latch is not None
        assert (latch.id, latch.reason, latch.actor) == ("latch-1", "a test", "somebody")
        assert (latch.epoch, latch.generation) == (1, 2)
        _only_a_table_that_names_the_latch_clears_it(home, champion, candidate)


def _only_a_table_that_names_the_latch_clears_it(home: ScorerHome, champion: Arm, candidate: Arm) -> None:
    arms = weights(champion, candidate, BUCKETS)
    home.route(*arms, generation=3, epoch=2)
    home.route(*arms, generation=4, epoch=2, clears="latch-0")
    assert home.versions("d", 20) == {"1.0.0": 20}
    home.route(*arms, generation=5, epoch=2, clears="latch-1")
    assert home.versions("e", 20) == {"1.1.0": 20}
    with pytest.raises(RefusedError, match="older"):
        home.route(*arms, generation=4, epoch=2)


def test_a_repeated_transaction_gets_the_same_bytes_from_any_worker_and_version(tmp_path: Path) -> None:
    with scorer_home(tmp_path) as home:
        champion = home.settle()

        def once(_: int) -> bytes:
            status, body = predict(home.connection(), [transaction("same", 7)])
            assert status == 200
            return body

        with ThreadPoolExecutor(12) as pool:
            found = set(pool.map(once, range(48)))
        candidate = home.split(champion, share=BUCKETS)
        assert home.versions("new", 4) == {"1.1.0": 4}
        found |= {once(number) for number in range(12)}
        home.route(*weights(champion, candidate, 0), generation=3)
        found |= {once(number) for number in range(12)}
        assert len(found) == 1
        assert home.recorded()["same"] == 1
        page = get(home.connection(), "/metrics")[1].decode()
        counted = [line for line in page.splitlines() if line.startswith("fraud_prediction_requests_total{")]
        assert sum(int(line.rsplit(" ", 1)[1]) for line in counted) <= 5


def test_what_is_not_admitted_or_not_what_was_admitted_is_refused_with_the_reason(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        champion = home.settle()
        stranger = tiny_bundle(home.places.bundles, version="6.6.6", seed=6)
        with pytest.raises(RefusedError, match="no admission"):
            home.client.load("fraud", stranger.digest, NOTHING)
        for other in (champion.folder, NOTHING):
            with pytest.raises(RefusedError, match="no admission"):
                home.client.load("fraud", stranger.digest, other)
        tampered = home.admitted("1.2.0", seed=7)
        path = home.places.bundles / digest_hex(tampered.bundle) / "model.onnx"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)
        with pytest.raises((IntegrityError, RefusedError), match=r"model\.onnx .* has other bytes"):
            home.load(tampered)
        forged = home.admitted("1.3.0", "candidate", seed=8)
        admission = home.places.admissions / digest_hex(forged.bundle) / f"{digest_hex(forged.folder)}.json"
        told = json.loads(admission.read_bytes())
        admission.write_bytes(json.dumps({**told, "schema": 99}).encode())
        with pytest.raises(InterlockError):
            home.load(forged)
        with pytest.raises(RefusedError, match="not loaded"):
            home.route(*weights(champion, forged, 5_000), generation=2)
        assert home.state().loaded == [champion.bundle]
        assert home.versions("a", 5) == {"1.0.0": 5}
        assert home.ready()


def test_a_second_scorer_of_the_same_home_is_refused(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1) as home:
        home.settle()
        assert home.launch().wait(30) == 1
        assert "already serves this home" in home.log()
        assert home.state().generation == 1
        assert home.versions("a", 3) == {"1.0.0": 3}
