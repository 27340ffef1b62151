"""Arms on lanes of their own: nobody waits for another arm, and nothing late is taken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from tests.serving.one_worker import OneWorker, constant, model, totals

from interlock.base.clock import SystemClock
from interlock.decision import counts, record
from interlock.decision.decide import Vectors
from interlock.decision.split import bucket
from interlock.serving.arms import Lane

CARDS = range(400)


class Gate:
    """A model's function that answers when it is let."""

    def __init__(self, score: float = 0.95) -> None:
        self.open = threading.Event()
        self.called = threading.Event()
        self.calls = 0
        self._score = score

    def __call__(self, vectors: Vectors) -> Vectors:
        self.calls += 1
        self.called.set()
        assert self.open.wait(20)
        return np.full(len(vectors), self._score, np.float32)


def card_of(worker: OneWorker, arm: str, share: int) -> int:
    """A card that this arm answers: the candidate owns the buckets below its share."""
    salt = bytes.fromhex(worker.pipeline.route.table.salt) if worker.pipeline.route else b""
    wanted = arm == "candidate"
    return next(n for n in CARDS if (bucket(salt, f"card-{n:026d}") < share) is wanted)


def run(work: Callable[[OneWorker], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def whole() -> None:
        worker = await OneWorker(**options).warm()
        try:
            await work(worker)
        finally:
            worker.close()

    asyncio.run(whole())


def test_champions_cards_are_answered_while_the_candidate_still_thinks() -> None:
    gate = Gate()

    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", gate), 5_000, lease_s=60.0)
        slow, quick = card_of(worker, "candidate", 5_000), card_of(worker, "champion", 5_000)
        waiting = worker.submit("slow", card=slow)
        for number in range(20):
            (found,) = await worker.ask(f"quick-{number}", card=quick)
            assert found["model_version"] == "1.0.0"
        assert not waiting.done()
        assert worker.pipeline.oldest() == 1
        gate.open.set()
        assert len(await waiting) == 1  # type: ignore[arg-type]
        assert worker.recorder.records[-1].version == "1.1.0"
        assert totals(route.sides[1].counts) == {"requests": 1, "flagged": 1}

    run(work, deadline_ms=20_000)


def test_a_tick_with_both_arms_gives_the_champions_part_out_first() -> None:
    gate = Gate()

    async def work(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1), model("1.1.0", gate), 5_000, lease_s=60.0)
        slow, quick = card_of(worker, "candidate", 5_000), card_of(worker, "champion", 5_000)
        both = [worker.submit("slow", card=slow), worker.submit("quick", card=quick)]
        await both[1]
        assert not both[0].done()
        gate.open.set()
        await both[0]

    run(work, deadline_ms=20_000)


def test_a_candidate_that_misses_its_deadline_is_answered_by_the_champion_and_counted() -> None:
    gate = Gate()

    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", gate), 5_000, lease_s=60.0)
        (found,) = await worker.ask("late", card=card_of(worker, "candidate", 5_000))
        assert (found["model_version"], found["degraded"]) == ("1.0.0", False)
        (made,) = worker.recorder.records
        assert (made.arm, made.degraded) == ("champion", record.MISS)
        assert made.propensity == 0.5
        assert totals(route.sides[1].counts) == {"requests": 1, "misses": 1}
        assert totals(route.sides[0].counts) == {}
        assert route.sides[0].counts.times.sum() == 0, "the champion's stand-in call is not its own model time"
        gate.open.set()

    run(work, deadline_ms=20)


def test_what_waits_behind_a_hung_call_is_given_up_and_never_runs() -> None:
    gate = Gate()

    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", gate), 5_000, lease_s=60.0)
        slow = card_of(worker, "candidate", 5_000)
        for number in range(12):
            (found,) = await worker.ask(f"late-{number}", card=slow)
            assert found["model_version"] == "1.0.0"
        assert route.hung_since() > 0
        gate.open.set()
        route.close()
        for thread in threading.enumerate():
            if thread.name == "arm-candidate":
                await asyncio.to_thread(thread.join, 10)
        assert route.hung_since() == 0
        assert gate.calls == 1
        assert totals(route.sides[1].counts) == {"requests": 12, "misses": 12}

    run(work, deadline_ms=5)


def test_a_champion_that_is_late_answers_all_the_same_and_counts_as_missed() -> None:
    gate = Gate(0.1)

    async def work(worker: OneWorker) -> None:
        route = worker.route(model("1.0.0", gate), constant("1.1.0", 0.1), 5_000, lease_s=60.0)
        waiting = worker.submit("late", card=card_of(worker, "champion", 5_000))
        await asyncio.to_thread(gate.called.wait, 10)
        await asyncio.sleep(0.05)
        gate.open.set()
        await waiting
        (made,) = worker.recorder.records
        assert (made.version, made.degraded) == ("1.0.0", record.MISS)
        assert totals(route.sides[0].counts) == {"requests": 1, "misses": 1}

    run(work, deadline_ms=20)


def test_a_candidate_that_raises_is_answered_by_the_champion_and_counted_as_an_error() -> None:
    def broken(vectors: Vectors) -> Vectors:
        raise RuntimeError("no")

    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", broken), 5_000, lease_s=60.0)
        (found,) = await worker.ask("x", card=card_of(worker, "candidate", 5_000))
        assert found["model_version"] == "1.0.0"
        assert worker.recorder.records[0].degraded == record.ERROR
        assert totals(route.sides[1].counts) == {"requests": 1, "errors": 1}

    run(work)


def test_a_retreat_made_while_the_store_is_asked_holds_for_that_tick() -> None:
    async def work(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.95), 5_000, lease_s=60.0)
        inner = worker.store.trip

        async def trip(batch: Any) -> Any:
            worker.fence.set_latch(0, True)
            return await inner(batch)

        worker.store.trip = trip  # type: ignore[method-assign]
        (found,) = await worker.ask("x", card=card_of(worker, "candidate", 5_000))
        assert found["model_version"] == "1.0.0"
        assert worker.recorder.records[0].degraded == record.RETREATED

    run(work)


def test_a_table_below_the_floor_gives_its_candidate_nothing() -> None:
    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.95), 5_000, lease_s=60.0)
        worker.fence.set_floor(0, route.order + 1)
        (found,) = await worker.ask("x", card=card_of(worker, "candidate", 5_000))
        assert found["model_version"] == "1.0.0"

    run(work)


def test_shadows_are_compared_pair_by_pair_after_the_reply_and_hold_back_nobody() -> None:
    gate = Gate(0.95)

    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), shadow=model("1.1.0", gate), lease_s=60.0)
        for number in range(3):
            await worker.ask(f"x{number}")
        assert worker.pipeline.oldest() == 1
        gate.open.set()
        await worker.pipeline.idle()
        shadow = route.shadows[0].shadow
        assert (shadow.pairs, shadow.up, shadow.down, shadow.misses, shadow.errors) == (3, 3, 0, 0, 0)
        assert abs(shadow.largest - 0.85) < 1e-6
        assert totals(route.sides[0].counts) == {"requests": 3}

    run(work, deadline_ms=20_000)


@pytest.mark.parametrize("shadow", ["hangs", "raises"])
def test_a_standing_shadow_that_fails_costs_no_answer_and_replaces_no_worker(shadow: str) -> None:
    gate = Gate(0.95)

    def raises(vectors: Vectors) -> Vectors:
        raise ValueError("a broken model")

    async def work(worker: OneWorker) -> None:
        broken = model("1.1.0", gate) if shadow == "hangs" else model("1.1.0", raises)
        route = worker.route(constant("1.0.0", 0.1), shadow=broken, shadow_name="shadow-1")
        assert route.table.settled
        assert route.sides[0].lane is None
        for number in range(3):
            (reply,) = await worker.ask(f"x{number}")
            assert (reply["score"], reply["model_version"]) == (pytest.approx(0.1), "1.0.0")
        await worker.pipeline.idle()
        assert route.hung_since() == 0
        gate.open.set()
        found = route.shadows[0].shadow
        assert (found.pairs, found.misses + found.errors) == (0, 3)
        assert totals(route.sides[0].counts) == {"requests": 3}
        assert list(route.packed()[1]) == ["fraud/1/shadow-1"]

    run(work, deadline_ms=50)


def test_a_lane_has_room_for_so_many_and_refuses_the_next_at_once() -> None:
    gate = Gate()

    async def work() -> None:
        lane = Lane("x", SystemClock(), room=2)
        one = model("1.0.0", gate)
        rows = np.zeros((1, one.width), np.float32)
        running = [asyncio.ensure_future(lane.run(one, rows, 20)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await lane.run(one, rows, 20) is None
        gate.open.set()
        assert all(called is not None and called.decided for called in await asyncio.gather(*running))
        lane.close()

    asyncio.run(work())


def test_model_time_is_counted_once_per_call_in_the_bin_of_its_batch() -> None:
    async def work(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1))
        await worker.ask(*(f"x{number}" for number in range(5)))
        assert route.sides[0].counts.times.sum(axis=1).tolist() == [0, 0, 1, 0]
        assert route.sides[0].counts.values[:, :, counts.REQUESTS].sum(axis=1).tolist() == [0, 0, 5, 0]

    run(work)
