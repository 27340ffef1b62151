"""What the supervisor adds up and watches: nothing falls when a route drains or a worker ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.serving.one_worker import OneWorker, constant

from interlock.apps.scorer.ceiling import Ceiling
from interlock.base.clock import NS_PER_S
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, WorkerCounts
from interlock.serving.options import ServingOptions


def report(worker: OneWorker) -> WorkerCounts:
    """What a worker reports of its arms."""
    arms: dict[str, bytes] = {}
    for route in worker.pipeline.routes():
        arms |= route.packed()[0]
    return WorkerCounts("w", "w", arms)


def test_what_drained_routes_counted_is_added_up_once() -> None:
    async def work() -> None:
        worker = await OneWorker().warm()
        total = 0
        seen: list[int] = []
        before = None
        for generation in range(1, 8):
            worker.route(constant(f"{generation}.0.0", 0.1), generation=generation)
            await worker.ask(*(f"{generation}-{number}" for number in range(generation)))
            now = report(worker)
            change = counts.delta(before, now)
            assert not change.reset
            total += sum(arm.total(counts.REQUESTS) for arm in change.arms.values())
            seen.append(total)
            before = now
        assert seen == [1, 3, 6, 10, 15, 21, 28]
        assert worker.pipeline.oldest() == 7

    asyncio.run(work())


def live(requests: int, errors: int = 0, misses: int = 0, arm: str = "candidate", worker: str = "w") -> WorkerCounts:
    """One worker's counts of one arm."""
    made = ArmCounts()
    for column, number in ((counts.REQUESTS, requests), (counts.ERRORS, errors), (counts.MISSES, misses)):
        made.add(column, 0, 0, number)
    return WorkerCounts(worker, worker, {counts.key("fraud", 2, arm): made.pack()})


def looks(*seconds_and_counts: tuple[float, list[WorkerCounts]]) -> list[list[tuple[str, str]]]:
    ceiling = Ceiling(ServingOptions())
    return [list(ceiling.look(int(at * NS_PER_S), found)) for at, found in seconds_and_counts]


@pytest.mark.parametrize(("name", "wanted"), [("misses", "20 deadline misses in 400"), ("errors", "20 errors in 400")])
def test_many_misses_or_errors_that_are_a_large_share_are_over_the_ceiling(name: str, wanted: str) -> None:
    ((), (found,)) = looks((0, [live(0)]), (1, [live(400, **{name: 20})]))
    assert found[0] == "fraud"
    assert wanted in found[1]


def test_few_misses_or_a_small_share_or_long_ago_or_the_champions_are_not() -> None:
    assert looks((0, [live(0)]), (1, [live(19, misses=19)])) == [[], []]
    assert looks((0, [live(0)]), (1, [live(401, misses=20)])) == [[], []]
    assert looks((0, [live(0, arm="champion")]), (1, [live(40, misses=40, arm="champion")])) == [[], []]
    slowly = [(float(second), [live(100 * second, misses=3 * second)]) for second in range(60)]
    assert looks(*slowly) == [[]] * 60


def test_misses_of_all_workers_add_up_and_a_lost_worker_raises_no_alarm() -> None:
    both = [live(50, misses=10), live(50, misses=10, worker="v")]
    (_, (found,)) = looks((0, [live(0), live(0, worker="v")]), (1, both))
    assert "20 deadline misses in 100" in found[1]
    before = [live(900, misses=9), live(900, misses=9, worker="v")]
    assert looks((0, before), (1, before[:1])) == [[], []]
