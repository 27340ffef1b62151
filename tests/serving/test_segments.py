"""One request, several services: who decides which transaction, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.serving.one_worker import FOLDER, SALT, OneWorker, constant

from interlock.decision.decide import Model
from interlock.decision.table import BUCKETS, Arm, RouteTable, Segments
from interlock.serving import segments
from interlock.serving.call import Call, Unanswered
from interlock.serving.pipeline import Pipeline
from interlock.serving.route import Route
from interlock.serving.tick import Row

RULES = Segments("country", {"FR": "fraud-fr", "DE": "fraud-de"})


class Two(OneWorker):
    """A worker with `fraud`, which routes, and `fraud-fr`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.french = Pipeline("fraud-fr", self.pipeline._around)
        self.services = {"fraud": self.pipeline, "fraud-fr": self.french}

    def route_french(self, *models: Model, **more: Any) -> None:
        arms = tuple(Arm("champion", each.bundle, FOLDER, each.version, ((0, BUCKETS),)) for each in models)
        self.models |= {each.bundle: each for each in models}
        more = {"epoch": 1, "generation": 1, **more}
        table = RouteTable(service="fraud-fr", arms=arms, salt=SALT, **more)
        self.french.install(Route(table.validate(), 1, self.models.get, self.clock))

    def rows_from(self, call: Call, countries: str, prefix: str) -> list[Row]:
        rows = [self.row(call, place, f"{prefix}{place}", place) for place in range(len(countries.split()))]
        for row, country in zip(rows, countries.split(), strict=True):
            row.inputs["country"] = country
            if country == "-":
                del row.inputs["country"]
        return rows

    async def send(self, countries: str, prefix: str = "t", rules: Segments = RULES) -> list[bytes]:
        """The replies of one request with a transaction from each of these countries."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = Call(len(countries.split()), future.set_result)
        segments.submit(self.pipeline, rules, self.rows_from(call, countries, prefix), self.services)
        found: list[bytes] = await asyncio.wait_for(future, 10)
        return found


def run(scene: Callable[[Two], Awaitable[None]], **options: Any) -> Two:
    worker = Two(**options)

    async def work() -> None:
        await worker.warm()
        try:
            await scene(worker)
            await asyncio.gather(*(each.idle() for each in worker.services.values()))
        finally:
            for route in (*worker.pipeline.routes(), *worker.french.routes()):
                route.close()

    asyncio.run(asyncio.wait_for(work(), 20))
    return worker


def test_a_segment_is_decided_by_its_service_and_the_replies_keep_their_order() -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.route_french(constant("9.0.0", 0.95))
        told = [msgspec.json.decode(each) for each in await worker.send("NL FR - FR")]
        assert [each["transaction_id"] for each in told] == ["t0", "t1", "t2", "t3"]
        assert [each["model_version"] for each in told] == ["1.0.0", "9.0.0", "1.0.0", "9.0.0"]
        assert [each.get("service") for each in told] == [None, "fraud-fr", None, "fraud-fr"]

    worker = run(scene)
    kept = {each.transaction_id: each for each in worker.recorder.records}
    assert (kept["t1"].service, kept["t1"].asked, kept["t1"].called) == ("fraud-fr", "fraud", "fraud")
    assert (kept["t0"].service, kept["t0"].asked, kept["t0"].called) == ("fraud", "", "fraud")
    assert worker.pipeline.tallies.unrouted == 0


@pytest.mark.parametrize("state", ["absent", "no arms", "retreated without a champion"])
def test_a_segment_whose_service_has_no_model_stays_and_is_counted(state: str) -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        if state == "no arms":
            worker.route_french()
        elif state != "absent":
            worker.route_french(constant("9.0.0", 0.95))
            assert worker.french.route is not None
            worker.french.route.champion = None  # its first release, in its canary
            worker.fence.set_latch(1, True)
        told = [msgspec.json.decode(each) for each in await worker.send("FR DE NL")]
        assert [each["model_version"] for each in told] == ["1.0.0"] * 3
        assert not any(each["degraded"] or "service" in each for each in told)

    assert run(scene).pipeline.tallies.unrouted == 2


def test_a_retry_after_the_routing_changed_gets_its_first_reply() -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.route_french(constant("9.0.0", 0.95))
        first = await worker.send("FR")
        assert await worker.send("FR", rules=Segments("country", {"BE": "fraud-fr"})) == first
        assert b'"service":"fraud-fr"' in first[0]

    assert len(run(scene).recorder.records) == 1


def test_what_is_passed_on_once_stays_there() -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.route_french(constant("9.0.0", 0.95), segments=Segments("country", {"FR": "fraud"}))
        assert b'"model_version":"9.0.0"' in (await worker.send("FR"))[0]

    run(scene)


def test_a_request_is_queued_as_a_whole_or_not_at_all() -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.route_french(constant("9.0.0", 0.95))
        with pytest.raises(Unanswered) as caught:
            await worker.send("NL FR FR FR FR FR")
        assert caught.value.status == 429
        assert not worker.pipeline.queued

    assert run(scene, queue=4).recorder.records == []


def test_an_arm_counts_what_its_own_service_decided() -> None:
    async def scene(worker: Two) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.route_french(constant("9.0.0", 0.95))
        await worker.send("NL FR FR")
        sides = [pipeline.route.sides[0] for pipeline in worker.services.values() if pipeline.route]
        assert [side.counts.total(0) for side in sides] == [1, 2]

    run(scene)
