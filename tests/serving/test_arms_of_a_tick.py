"""Who answers while two versions are compared, and what is counted where."""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
import pytest
from tests.serving.one_worker import OneWorker, constant, model, play, real_model, totals

from interlock.decision import counts, record
from interlock.decision.decide import Vectors
from interlock.decision.table import BUCKETS

CARDS = 60


run = functools.partial(play, deadline_ms=5_000)  # long enough for a busy machine
"""Run a scene."""


async def many(worker: OneWorker, prefix: str = "t", batch: int = 20) -> list[dict[str, Any]]:
    """One transaction of each of many cards, in requests of `batch`."""
    found = []
    for first in range(0, CARDS, batch):
        names = [f"{prefix}-{card}" for card in range(first, first + batch)]
        found += await worker.ask(*names, card=first)
    return found


def broken(_: Vectors) -> Vectors:
    raise RuntimeError("no scores today")


def test_a_card_stays_with_its_arm_and_each_arm_has_its_share() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.85), share=4_000)
        first, second = await many(worker, "a"), await many(worker, "b")
        assert [each["model_version"] for each in first] == [each["model_version"] for each in second]
        champion, candidate = route.sides
        assert totals(champion.counts)["requests"] + totals(candidate.counts)["requests"] == 2 * CARDS
        assert 0.2 < totals(candidate.counts)["requests"] / (2 * CARDS) < 0.6
        assert totals(candidate.counts) == {
            "requests": totals(candidate.counts)["requests"],
            "flagged": totals(candidate.counts)["requests"],
        }
        assert "flagged" not in totals(champion.counts)

    worker = run(scene)
    assert {(kept.arm, kept.propensity) for kept in worker.recorder.records} == {("champion", 0.6), ("candidate", 0.4)}


def test_counts_stand_in_the_bin_of_their_batch_and_the_group_of_their_card() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.75))
        for size, name in ((1, "one"), (4, "four"), (16, "sixteen"), (17, "more")):
            await worker.ask(*(f"{name}-{number}" for number in range(size)))
        values = route.sides[0].counts.values
        assert values[:, :, counts.REQUESTS].sum(axis=1).tolist() == [1, 4, 16, 17]
        assert values[:, :, counts.FLAGGED].sum(axis=1).tolist() == [1, 4, 16, 17]
        assert route.sides[0].counts.times.sum(axis=1).tolist() == [1, 1, 1, 1]
        wanted = np.zeros(counts.GROUPS, int)
        for size in (1, 4, 16, 17):
            for card in range(size):
                bucket, _ = route.owner(f"card-{card:026d}")
                wanted[counts.group_of(bucket)] += 1
        assert values[:, :, counts.REQUESTS].sum(axis=0).tolist() == wanted.tolist()

    run(scene)


def test_a_candidate_that_raises_is_answered_by_the_champion_and_counted_as_its_errors() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", broken), share=5_000)
        told = await many(worker)
        assert {(each["model_version"], each["degraded"]) for each in told} == {("1.0.0", False)}
        champion, candidate = (totals(side.counts) for side in route.sides)
        assert candidate == {"requests": candidate["requests"], "errors": candidate["requests"]}
        assert champion == {"requests": CARDS - candidate["requests"]}
        assert candidate["requests"] > 0

    worker = run(scene)
    flags = {(kept.degraded, kept.arm, kept.propensity) for kept in worker.recorder.records}
    assert flags == {(0, "champion", 0.5), (record.ERROR, "champion", 0.5)}


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_an_error(score: float) -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", score), share=BUCKETS)
        assert {each["model_version"] for each in await many(worker)} == {"1.0.0"}
        assert totals(route.sides[1].counts) == {"requests": CARDS, "errors": CARDS}

    run(scene)


def test_a_candidate_that_is_late_is_answered_by_the_champion_and_counted_as_missed() -> None:
    release = threading.Event()

    def stuck(vectors: Vectors) -> Vectors:
        release.wait(10)
        return np.zeros(len(vectors), np.float32)

    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", stuck), share=5_000)
        try:
            told = await many(worker)
            assert {(each["model_version"], each["degraded"]) for each in told} == {("1.0.0", False)}
            candidate = totals(route.sides[1].counts)
            assert candidate["misses"] == candidate["requests"] > 0
            assert route.hung_since() > 0
        finally:
            release.set()

    # The champion's own lateness on a busy machine is not what is looked at here.
    worker = run(scene, deadline_ms=30)
    assert {kept.arm for kept in worker.recorder.records} == {"champion"}


def test_a_champion_that_fails_leaves_the_constant_rule() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(model("1.0.0", broken))
        (told,) = await worker.ask("a")
        assert (told["decision"], told["degraded"], told["score"]) == ("REVIEW", True, None)
        assert totals(route.sides[0].counts) == {"requests": 1, "errors": 1, "degraded": 1}

    worker = run(scene)
    assert worker.recorder.records[0].degraded == record.FALLBACK | record.ERROR


def test_both_arms_failing_leaves_the_constant_rule_to_the_chosen_arm() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(model("1.0.0", broken), model("1.1.0", broken), share=BUCKETS)
        (told,) = await worker.ask("a")
        assert told["degraded"]
        assert totals(route.sides[1].counts) == {"requests": 1, "errors": 1, "degraded": 1}
        assert totals(route.sides[0].counts) == {}

    run(scene)


def test_slow_is_what_takes_longer_than_the_threshold_on_the_arm_that_answered() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.1), share=5_000, tau_ns=1)
        await many(worker)
        for side in route.sides:
            assert totals(side.counts)["slow"] == totals(side.counts)["requests"] > 0
        other = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.1), generation=2, tau_ns=3_600 * 10**9)
        await many(worker, "again")
        assert all("slow" not in totals(side.counts) for side in other.sides)

    run(scene)


@pytest.mark.parametrize("how", ["latch", "lease"])
def test_after_a_retreat_the_champion_alone_answers_and_the_record_says_so(how: str) -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.9), share=9_000, lease_s=60.0)
        if how == "latch":
            worker.fence.set_latch(0, True)
        else:
            worker.fence.set_deadline(0, worker.clock.monotonic_ns())
        assert {each["model_version"] for each in await many(worker)} == {"1.0.0"}
        assert totals(route.sides[0].counts) == {"requests": CARDS}
        assert totals(route.sides[1].counts) == {}
        worker.fence.set_latch(0, False)
        worker.fence.set_deadline(0, 0)
        assert "1.1.0" in {each["model_version"] for each in await many(worker, "later")}

    worker = run(scene)
    early = worker.recorder.records[:CARDS]
    assert {(kept.degraded, kept.propensity) for kept in early} == {(record.RETREATED, 1.0)}


def test_a_retreat_during_the_trip_to_the_store_is_seen() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.9), share=BUCKETS)
        real = worker.store.trip

        async def slow(batch: Any) -> Any:
            found = await real(batch)
            worker.fence.set_latch(0, True)
            return found

        worker.store.trip = slow  # type: ignore[method-assign]
        assert {each["model_version"] for each in await many(worker)} == {"1.0.0"}

    run(scene)


def test_a_retreat_without_a_champion_leaves_the_constant_rule() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(None)
        (told,) = await worker.ask("a")
        assert (told["decision"], told["degraded"]) == ("REVIEW", True)

    worker = run(scene)
    assert worker.recorder.records[0].degraded == record.FALLBACK


def test_a_shadow_is_compared_pair_by_pair_and_answers_nobody() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.75), shadow=constant("2.0.0", 0.95))
        told = await many(worker)
        assert {each["model_version"] for each in told} == {"1.0.0"}
        await worker.pipeline.idle()
        (side,) = route.shadows
        assert (side.shadow.pairs, side.shadow.up, side.shadow.down) == (CARDS, CARDS, 0)
        assert side.shadow.largest == pytest.approx(0.2)
        assert list(route.packed()[1]) == [counts.key("fraud", route.table.generation, "candidate")]
        assert totals(side.counts) == {}
        assert worker.pipeline.oldest() == 1

    worker = run(scene)
    assert len(worker.recorder.records) == CARDS


def test_an_identical_shadow_never_differs() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(real_model("1.0.0"), shadow=real_model("2.0.0"))
        await many(worker)
        await worker.pipeline.idle()
        found = route.shadows[0].shadow
        assert (found.pairs, found.up, found.down, found.largest) == (CARDS, 0, 0, 0.0)

    run(scene)


def test_a_shadow_that_raises_disturbs_nobody() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), shadow=model("2.0.0", broken))
        assert len(await many(worker)) == CARDS
        await worker.pipeline.idle()
        assert (route.shadows[0].shadow.errors, route.shadows[0].shadow.pairs) == (CARDS, 0)

    run(scene)


def test_a_row_without_an_input_of_its_vector_is_counted_as_null_and_scored() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.75))
        await worker.ask("a")
        worker.mcc = None
        await worker.ask("b", "c")
        assert totals(route.sides[0].counts) == {"requests": 3, "flagged": 3, "nulls": 2}

    run(scene)


def test_the_score_of_a_row_is_counted_on_the_arm_that_answered_it() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), model("1.1.0", broken), share=5_000)
        await many(worker)
        champion, candidate = (side.counts for side in route.sides)
        assert champion.scores.sum() == champion.total(counts.REQUESTS) > 0
        assert candidate.scores.sum() == 0
        (place,) = np.flatnonzero(champion.scores)
        assert counts.SCORE_EDGES[place - 1] <= 0.1 < counts.SCORE_EDGES[place]

    run(scene)
