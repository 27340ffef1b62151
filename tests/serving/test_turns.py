"""Whose turn it is, who is not waited for any more, and who answers when a caller chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from tests.serving.one_worker import OneWorker, constant, model, play, totals

from interlock.decision import record
from interlock.decision.decide import Vectors
from interlock.decision.record import DecisionRecord
from interlock.features.definition import FRAUD
from interlock.serving.call import Call, Unanswered
from interlock.serving.tick import Row


class Asked:
    """One request and its outcome."""

    def __init__(self, worker: OneWorker, rows: list[Row], call: Call) -> None:
        self.outcome: list[Any] | Unanswered | None = None
        call._done = self._finish
        try:
            worker.pipeline.submit(rows)
        except Unanswered as why:
            self.outcome = why

    def _finish(self, outcome: list[Any] | Unanswered) -> None:
        self.outcome = outcome


def ask(worker: OneWorker, *names: str, pinned: str = "", **terms: Any) -> Asked:
    """Submit transactions under terms."""
    call = Call(len(names), **terms)
    rows = [worker.row(call, place, name, place) for place, name in enumerate(names)]
    for row in rows:
        row.pinned = pinned
    return Asked(worker, rows, call)


def give(worker: OneWorker, vectors: Vectors, key: str, pinned: str = "") -> Asked:
    """Submit vectors."""
    call = Call(len(vectors))
    now = worker.wall.now_ns()
    rows = [
        Row(call, place, key, {}, (), b"", now, now, (None, 1.0), "anonymous", "", each.tobytes(), key, pinned)
        for place, each in enumerate(vectors)
    ]
    return Asked(worker, rows, call)


def vectors(count: int, value: float = 1.0) -> Vectors:
    """Vectors of the model's width."""
    return np.full((count, FRAUD.width), value, np.float32)


def test_an_authorisation_goes_before_batch_work_that_came_first() -> None:
    order: list[str] = []

    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.recorder.append = lambda kept: order.extend(each.transaction_id for each in kept)  # type: ignore[method-assign]
        ask(worker, "first")  # its tick is under way when the others come
        await asyncio.sleep(0)
        ask(worker, "batch-1", "batch-2", urgent=False)
        ask(worker, "now-1", "now-2")

    play(scene, batch=2)
    assert order == ["first", "now-1", "now-2", "batch-1", "batch-2"]


def test_batch_work_fills_half_of_the_queue_and_leaves_the_rest_to_authorisations() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        held = [ask(worker, f"b{number}", urgent=False) for number in range(5)]
        assert isinstance(held[4].outcome, Unanswered)
        assert held[4].outcome.status == 429
        urgent = [ask(worker, f"u{number}") for number in range(5)]
        assert isinstance(urgent[4].outcome, Unanswered)
        await worker.pipeline.idle()
        assert [isinstance(each.outcome, list) for each in held + urgent] == [*[True] * 4, False] * 2

    assert play(scene, queue=8).pipeline.tallies.shed == 2


def test_nobody_is_decided_for_whose_deadline_has_passed() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        now = worker.clock.monotonic_ns()
        late, early = ask(worker, "late", deadline_ns=now - 1), ask(worker, "early", deadline_ns=now + 10**10)
        await worker.pipeline.idle()
        assert isinstance(late.outcome, Unanswered)
        assert (late.outcome.status, late.outcome.retry_s) == (504, 0)
        assert isinstance(early.outcome, list)

    worker = play(scene)
    assert [each.transaction_id for each in worker.recorder.records] == ["early"]
    assert worker.pipeline.tallies.expired == 1


def test_a_vector_that_was_given_is_scored_and_recorded_and_claims_nothing() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(model("1.0.0", lambda rows: rows[:, 0] / 10))
        for _ in range(2):
            asked = give(worker, np.concatenate([vectors(1, 1.0), vectors(1, 9.5)]), "call-1")
            await worker.pipeline.idle()
            assert isinstance(asked.outcome, list)
            assert [type(each) for each in asked.outcome] == [DecisionRecord] * 2
            assert [each.decision for each in asked.outcome] == ["APPROVE", "DECLINE"]

    kept = play(scene).recorder.records
    assert len(kept) == 4  # asked twice, scored twice
    assert {each.degraded for each in kept} == {record.GIVEN}
    assert kept[1].vector == vectors(1, 9.5).tobytes()
    assert all(each.inputs == {} and each.applied == () for each in kept)


def test_a_vector_keeps_with_the_arm_of_its_key() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.2), share=5_000)
        asked = [give(worker, vectors(3), f"key-{number}") for number in range(20)]
        await worker.pipeline.idle()
        versions = [{each.version for each in one.outcome} for one in asked if isinstance(one.outcome, list)]
        assert all(len(each) == 1 for each in versions)
        assert {version for each in versions for version in each} == {"1.0.0", "1.1.0"}
        assert sum(totals(side.counts)["requests"] for side in route.sides) == 60

    play(scene, deadline_ms=5_000)


def test_vectors_of_another_width_are_refused_when_the_model_has_changed_meanwhile() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        wrong, right = give(worker, np.ones((1, 3), np.float32), "short"), give(worker, vectors(1), "whole")
        await worker.pipeline.idle()
        assert isinstance(wrong.outcome, Unanswered)
        assert wrong.outcome.status == 503
        assert isinstance(right.outcome, list)

    play(scene)


def test_a_named_version_answers_whatever_the_split_says_and_is_in_no_arms_counts() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.2), share=1)
        asked = [ask(worker, f"t{n}", pinned="1.1.0") for n in range(5)] + [give(worker, vectors(2), "k", "1.1.0")]
        await worker.pipeline.idle()
        assert all(isinstance(each.outcome, list) for each in asked)
        assert [totals(side.counts) for side in route.sides] == [{}, {}]

    worker = play(scene, deadline_ms=5_000)
    assert {(each.version, each.propensity) for each in worker.recorder.records} == {("1.1.0", 1.0)}
    assert all(each.degraded & record.PINNED for each in worker.recorder.records)
    assert worker.pipeline.tallies.pinned == 7


def test_a_named_candidate_does_not_answer_once_a_retreat_is_in_force() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1), constant("1.1.0", 0.2), share=5_000)
        worker.fence.set_latch(0, True)
        ask(worker, "a", pinned="1.1.0")
        ask(worker, "b", pinned="1.0.0")

    kept = play(scene).recorder.records
    assert [(each.transaction_id, each.version) for each in sorted(kept, key=lambda each: each.transaction_id)] == [
        ("a", "fallback"),
        ("b", "1.0.0"),
    ]
