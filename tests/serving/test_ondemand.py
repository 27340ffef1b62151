"""Versions that nothing routes to: asked for by name, with tensors, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.protocol.bodies import body, columns
from tests.serving.one_worker import constant
from tests.serving.versions_home import VersionsHome

from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S
from interlock.decision import record
from interlock.serving.call import Unanswered
from interlock.serving.ondemand import FACTOR, REMEMBERED_S, Held
from interlock.serving.wire import oip, v2

Scene = Callable[[VersionsHome], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., VersionsHome]:
    """Runs a scene in a home where 1.0.0 is routed and 2.0.0, 3.0.0 are admitted."""

    def run(scene: Scene, **options: Any) -> VersionsHome:
        home = VersionsHome(tmp_path, **options)

        async def work() -> None:
            await home.worker.warm()
            home.worker.route(constant("1.0.0", 0.1))
            for seed, version in enumerate(("1.0.0", "2.0.0", "3.0.0")):
                home.admitted(version, seed=seed)
            try:
                await scene(home)
            finally:
                await home.close()

        asyncio.run(asyncio.wait_for(work(), 30))
        return home

    return run


Run = Callable[..., VersionsHome]


def held(home: VersionsHome, version: str) -> Held:
    """A version that is loaded."""
    assert home.ondemand is not None
    found = home.ondemand.find("fraud", version)
    assert found is not None
    return found


def test_a_version_that_is_named_is_loaded_once_and_answers_outside_every_arm(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        home.may_load.clear()
        waiting = [home.ask("2.0.0", rows) for rows in (1, 3)]
        assert home.states() == {"1.0.0": "READY", "2.0.0": "LOADING", "3.0.0": "UNAVAILABLE"}
        home.may_load.set()
        one, three = await asyncio.gather(*waiting)
        assert (one.version, one.outputs[0].shape, three.outputs[0].shape) == ("2.0.0", (1,), (3,))
        assert np.isfinite(three.outputs[0].data).all()
        assert home.states() == {"1.0.0": "READY", "2.0.0": "READY", "3.0.0": "UNAVAILABLE"}
        assert home.worker.pipeline.route is not None
        assert home.worker.pipeline.route.sides[0].counts.total(0) == 0
        assert home.ondemand is not None
        assert home.ondemand.tallies.pinned == 4

    home = run(scene)
    assert home.loads == home.orders == ["2.0.0"]
    for kept in home.worker.recorder.records:
        assert (kept.arm, kept.version, kept.epoch, kept.generation) == ("on-demand", "2.0.0", 0, 0)
        assert kept.degraded == record.PINNED | record.GIVEN
        assert (kept.principal, kept.propensity) == ("carla", 1.0)


def test_what_is_routed_or_unknown_is_never_loaded_on_demand(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        assert await home.status("1.0.0") == 200
        assert await home.status("9.9.9") == 404
        assert await home.status("2.0.0", service="nobody") == 404
        with pytest.raises(Unanswered) as caught:
            home.desk.model_ready("fraud", "9.9.9")
        assert caught.value.status == 404

    assert run(scene).loads == []


def test_transactions_are_never_decided_on_demand(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        await home.change("load", "2.0.0")
        outcome = await home.send(v2.decode(body(*columns()), None, "fraud", "2.0.0"))
        assert isinstance(outcome, Unanswered)
        assert outcome.status == 404

    assert run(scene).worker.recorder.records == []


def test_wrong_tensors_are_refused_once_the_model_is_known(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        tensor = oip.Tensor("vectors", "FP32", (1, 2), np.zeros(2, np.float32))
        for _ in range(2):  # before it is loaded, and after
            outcome = await home.send(oip.InferRequest("fraud", "2.0.0", "", {}, (tensor,)))
            assert isinstance(outcome, Unanswered)
            assert outcome.status == 400

    assert run(scene).worker.recorder.records == []


def test_a_version_that_cannot_be_loaded_is_left_alone_for_a_while(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        home.withdrawn = True
        assert [await home.status("2.0.0") for _ in range(3)] == [403] * 3
        assert home.loads == ["2.0.0"]
        reasons = {each["version"]: each["reason"] for each in home.desk.repository_index()}
        assert "withdrawn" in reasons["2.0.0"]
        home.withdrawn = False
        home.worker.clock.ahead_ns = REMEMBERED_S * NS_PER_S
        assert await home.status("2.0.0") == 200

    run(scene)


def test_a_tampered_bundle_is_never_loaded(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        digest = home.admitted("4.0.0", seed=4)
        path = home.folder / "bundles" / digest_hex(digest) / "model.onnx"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        home.worker.wall.advance(1)
        assert await home.status("4.0.0") == 503
        assert home.states()["4.0.0"] == "UNAVAILABLE"

    run(scene)


def test_the_least_recently_used_leaves_when_the_budget_is_full(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        ondemand = home.ondemand
        assert ondemand is not None
        ondemand._budget = 2 * FACTOR * max(each.size for each in home.catalogue.all())
        home.admitted("4.0.0", seed=4)
        home.worker.wall.advance(1)
        for version in ("2.0.0", "3.0.0", "2.0.0", "4.0.0"):
            assert await home.status(version) == 200
        assert ondemand.versions("fraud") == ["2.0.0", "4.0.0"]
        assert len(home.repository.loaded) == 2

    run(scene)


def test_a_version_larger_than_the_budget_is_refused_and_nothing_leaves_for_it(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        assert home.ondemand is not None
        assert await home.status("2.0.0") == 200
        home.ondemand._budget = 1
        assert await home.status("3.0.0") == 403
        assert home.ondemand.versions("fraud") == ["2.0.0"]

    assert run(scene).loads == ["2.0.0"]


def test_an_operator_loads_ahead_and_unloads_but_never_what_is_routed(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        assert not home.desk.model_ready("fraud", "2.0.0")
        with pytest.raises(Unanswered) as caught:
            home.desk.describe("fraud", "2.0.0")
        assert caught.value.status == 503
        assert await home.change("load", "2.0.0") == 200
        assert home.desk.model_ready("fraud", "2.0.0")
        assert home.desk.describe("fraud", "2.0.0")["versions"] == ["1.0.0", "2.0.0"]
        assert [await home.change("unload", version) for version in ("2.0.0", "2.0.0")] == [200, 200]
        assert home.states()["2.0.0"] == "UNAVAILABLE"
        assert [await home.change("unload", version) for version in ("1.0.0", "9.9.9", "")] == [403, 404, 403]
        assert [await home.change("load", version) for version in ("1.0.0", "9.9.9", "")] == [200, 404, 200]

    run(scene)


def test_what_waits_for_a_version_is_answered_before_it_is_dropped(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        await home.change("load", "2.0.0")
        runs, goes_on = threading.Event(), threading.Event()
        model = held(home, "2.0.0").side.model
        run_it = model.runtime.run

        def slow(vectors: Any) -> Any:
            runs.set()
            goes_on.wait(10)
            return run_it(vectors)

        object.__setattr__(model.runtime, "run", slow)
        waiting = [home.ask("2.0.0", 5)]
        await asyncio.to_thread(runs.wait, 10)
        waiting.append(home.ask("2.0.0"))  # of the next tick
        assert await home.change("unload", "2.0.0") == 200
        goes_on.set()
        answered = await asyncio.wait_for(asyncio.gather(*waiting), 10)
        assert [each.version for each in answered] == ["2.0.0", "2.0.0"]

    run(scene)


def test_a_version_that_a_retreat_took_back_is_refused_while_it_is_in_force(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        home.worker.route(constant("1.0.0", 0.1), shadow=constant("3.0.0", 0.2), generation=2, lease_s=60.0)
        home.worker.fence.set_latch(0, True)
        assert [await home.status(version) for version in ("3.0.0", "2.0.0", "1.0.0")] == [403, 200, 200]
        apart = home.worker.recorder.records[0]
        assert (apart.version, apart.degraded) == ("2.0.0", record.PINNED | record.GIVEN)
        assert await home.change("load", "3.0.0") == 403
        assert home.states()["3.0.0"] == "UNAVAILABLE"
        home.worker.route(constant("1.0.0", 0.1), constant("3.0.0", 0.2), generation=3, lease_s=60.0)
        assert [await home.status(version) for version in ("3.0.0", "1.0.0")] == [403, 200]
        home.worker.fence.set_latch(0, False)
        home.worker.route(constant("1.0.0", 0.1), generation=4)
        assert await home.status("3.0.0") == 200

    run(scene)


def test_a_service_without_a_table_still_answers_for_its_admitted_versions(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        del home.pipelines["fraud"]
        assert await home.status("2.0.0") == 200
        assert await home.status("") == 404
        assert home.desk.describe("fraud", "2.0.0")["versions"] == ["2.0.0"]

    run(scene)


def test_a_model_that_fails_answers_nothing_and_nobody_answers_for_it(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        await home.change("load", "2.0.0")

        def fails(vectors: Any) -> Any:
            raise RuntimeError

        object.__setattr__(held(home, "2.0.0").side.model.runtime, "run", fails)
        assert await home.status("2.0.0") == 503

    assert run(scene).worker.recorder.records == []


def test_a_version_whose_call_hangs_is_not_called_again(run: Run) -> None:
    async def scene(home: VersionsHome) -> None:
        await home.change("load", "2.0.0")
        goes_on = threading.Event()
        object.__setattr__(held(home, "2.0.0").side.model.runtime, "run", lambda vectors: goes_on.wait(20))
        assert [await home.status(version) for version in ("2.0.0", "2.0.0", "1.0.0", "3.0.0")] == [503, 503, 200, 200]
        assert home.states()["2.0.0"] == "UNAVAILABLE"
        goes_on.set()

    assert run(scene, hang_s=0.1).loads == ["2.0.0", "3.0.0"]


def test_the_catalogue_lists_what_arrives_later_and_by_the_newest_admission(tmp_path: Path) -> None:
    home = VersionsHome(tmp_path)
    assert home.catalogue.all() == []
    first = home.admitted("2.0.0")
    assert home.catalogue.all() == [], "a list may be a second old"
    found = home.catalogue.find("fraud", "2.0.0")
    assert found is not None, "a name that was just admitted is known"
    assert (found.bundle, found.service) == (first, "fraud")
    newer = tmp_path / "admissions" / digest_hex(first) / f"{'e' * 64}.json"
    newer.write_bytes(b"2.0.0")
    (newer.parent / "notes.txt").write_bytes(b"")
    (tmp_path / "admissions" / "stray").mkdir()
    home.worker.wall.advance(1)
    again = home.catalogue.find("fraud", "2.0.0")
    assert again is not None
    assert again.folder == "sha256:" + "e" * 64
    assert len(home.catalogue.all()) == 1


def test_a_bundle_may_arrive_after_its_admission(tmp_path: Path) -> None:
    home = VersionsHome(tmp_path)
    digest = home.admitted("2.0.0")
    here = tmp_path / "bundles" / digest_hex(digest)
    here.rename(tmp_path / "elsewhere")
    assert home.catalogue.all() == []
    (tmp_path / "elsewhere").rename(here)
    home.worker.wall.advance(1)
    assert [each.version for each in home.catalogue.all()] == ["2.0.0"]
