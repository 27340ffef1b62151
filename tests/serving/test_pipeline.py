"""One service in one worker: what callers get, what is recorded, and what waits."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.serving.one_worker import OneWorker, constant, model, play, real_model

from interlock.base.errors import RefusedError, UnreachableError
from interlock.decision import record
from interlock.decision.decide import decide
from interlock.features.online import RESUMED, TripRequest, TripResult
from interlock.serving.call import Unanswered


async def outcome(worker: OneWorker, *names: str) -> list[bytes] | Unanswered:
    return await worker.submit(*names)


def test_a_decision_is_recorded_with_what_recomputes_it() -> None:
    champion = real_model("1.0.0")

    async def scene(worker: OneWorker) -> None:
        worker.route(champion)
        told = await worker.ask("a", "b", "c")
        assert [each["transaction_id"] for each in told] == ["a", "b", "c"]
        for reply, kept in zip(told, worker.recorder.records, strict=True):
            again = decide(champion, kept.features()[None, :])
            assert (kept.score, kept.decision) == (again.scores.tolist()[0], again.decisions[0])
            assert (reply["score"], reply["decision"]) == (pytest.approx(kept.score), kept.decision)
            assert (reply["decision_id"], reply["model_version"]) == (kept.decision_id, "1.0.0")
            assert (kept.arm, kept.bundle, kept.propensity, kept.degraded) == ("champion", champion.bundle, 1.0, 0)
            assert (kept.attempt, kept.batch, len(kept.applied)) == (1, 3, 4)

    play(scene)


def test_velocities_are_those_before_the_event() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(real_model("1.0.0"))
        for name in ("a", "b", "c"):
            await worker.ask(name)
        assert [[seq for _, seq in kept.applied] for kept in worker.recorder.records] == [[1] * 4, [2] * 4, [3] * 4]

    play(scene)


def test_what_arrives_during_a_tick_forms_the_next_and_no_batch_is_larger_than_the_limit() -> None:
    sizes: list[int] = []

    async def scene(worker: OneWorker) -> None:
        worker.route(model("1.0.0", lambda rows: sizes.append(len(rows)) or np.zeros(len(rows), np.float32)))
        await asyncio.gather(*(worker.submit(f"t{number}") for number in range(10)))

    play(scene, batch=4)
    assert sizes == [4, 4, 2]


def test_a_duplicate_gets_the_same_bytes_whatever_serves_now() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        first = await outcome(worker, "same")
        worker.route(constant("2.0.0", 0.95), generation=2)
        assert await outcome(worker, "same") == first
        assert (await worker.ask("other"))[0]["model_version"] == "2.0.0"
        assert worker.pipeline.tallies.repeated == 1

    worker = play(scene)
    assert [kept.transaction_id for kept in worker.recorder.records] == ["same", "other"]


def test_a_duplicate_in_the_same_batch_or_request_waits_and_is_answered_once() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        waiting = [worker.submit("same"), worker.submit("same"), worker.submit("same", "same", "new")]
        one, two, three = await asyncio.gather(*waiting)
        assert not isinstance(three, Unanswered)
        assert one == two == three[:1] == three[1:2]
        assert worker.pipeline.tallies.held >= 3

    worker = play(scene)
    assert sorted(kept.transaction_id for kept in worker.recorder.records) == ["new", "same"]


async def claimed_by_another(worker: OneWorker, name: str) -> TripResult:
    """Another worker records a transaction and says nothing more."""
    found = worker.row(None, 0, name)  # type: ignore[arg-type]
    request = TripRequest(found.claim, b"worker-2", found.entities, found.edge_ns // 1_000_000, found.inputs["amount"])
    return (await worker.store.trip([request]))[0]


def test_a_held_transaction_waits_for_the_reply_of_its_holder() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        await claimed_by_another(worker, "held")
        waiting = worker.submit("held")
        await worker.ask("other")
        await asyncio.sleep(0.03)
        assert not waiting.done()
        await worker.store.store_replies([(b"fraud:held", b'"theirs"')])
        assert await waiting == [b'"theirs"']

    worker = play(scene)
    assert [kept.transaction_id for kept in worker.recorder.records] == ["other"]


def test_a_lapsed_claim_is_resumed_with_the_stored_velocities_and_the_next_attempt() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(real_model("1.0.0"))
        before = await claimed_by_another(worker, "lost")
        worker.wall.advance(1.5)
        await worker.ask("lost")
        (kept,) = worker.recorder.records
        assert (kept.attempt, kept.degraded) == (2, record.RESUMED)
        assert kept.applied == before.applied

    play(scene)


def test_who_waited_too_long_for_another_attempt_is_told_to_come_again() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        await claimed_by_another(worker, "held")
        waiting = worker.submit("held")
        await asyncio.sleep(0)
        worker.wall.advance(0.5)
        found = await waiting
        assert isinstance(found, Unanswered)
        assert (found.status, found.retry_s) == (503, 1)

    play(scene, held_s=0.2)


def test_of_two_attempts_the_first_stored_reply_goes_out_and_counts() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.95))
        real = worker.store.trip

        async def overtaken(batch: Any) -> list[TripResult]:
            found = await real(batch)
            await worker.store.store_replies([(b"fraud:raced", b'"first"')])
            return [each._replace(status=RESUMED, attempt=2) for each in found]

        worker.store.trip = overtaken  # type: ignore[method-assign]
        assert await outcome(worker, "raced") == [b'"first"']
        assert route.sides[0].counts.total(0) == 0

    worker = play(scene)
    assert [kept.attempt for kept in worker.recorder.records] == [2]


def test_without_a_store_the_constant_rule_answers_and_says_so_until_it_is_back() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(real_model("1.0.0"))
        worker.store.down = True
        (told,) = await worker.ask("a")
        assert (told["score"], told["decision"], told["degraded"]) == (None, "REVIEW", True)
        assert (worker.pipeline.degraded, worker.pipeline.tallies.store_failures) == (True, 1)
        worker.store.down = False
        (told,) = await worker.ask("b")
        assert (told["degraded"], worker.pipeline.degraded) == (False, False)
        lost, found = worker.recorder.records
        assert lost.degraded == record.FALLBACK | record.STORE_DOWN
        assert (lost.vector, lost.applied, lost.arm, lost.bundle) == (b"", (), "fallback", "")
        assert found.degraded == 0

    play(scene)


def test_a_cold_store_is_degraded_and_never_read_as_zeros() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(real_model("1.0.0"))
        worker.store.flush()
        assert (await worker.ask("a"))[0]["degraded"]

    play(scene)


def test_the_fallback_of_the_table_is_what_answers() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(real_model("1.0.0"), fallback={"decision": "STEP_UP"})
        worker.store.down = True
        assert (await worker.ask("a"))[0]["decision"] == "STEP_UP"

    play(scene)


def test_records_are_written_before_anybody_is_answered() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        await worker.ask("a", "b")
        assert worker.told == ["answered with 2 records"]

    play(scene)


def test_what_cannot_be_recorded_is_not_answered() -> None:
    async def scene(worker: OneWorker) -> None:
        route = worker.route(constant("1.0.0", 0.1))
        worker.recorder.broken = True
        found = await outcome(worker, "a", "b")
        assert isinstance(found, Unanswered)
        assert (found.status, found.retry_s) == (503, 5)
        assert route.sides[0].counts.total(0) == 0
        worker.recorder.broken = False
        worker.wall.advance(1.5)
        assert [each["degraded"] for each in await worker.ask("a", "b")] == [False, False]

    worker = play(scene)
    assert [kept.attempt for kept in worker.recorder.records] == [2, 2]


def test_a_service_may_choose_to_answer_without_a_record_and_counts_it() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.recorder.broken = True
        assert len(await worker.ask("a", "b")) == 2
        assert worker.pipeline.tallies.unrecorded == 2

    play(scene, unwritable="serve-and-alarm")


def test_a_reply_that_could_not_be_stored_still_goes_out() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))

        async def away(replies: Any) -> list[bytes | None]:
            raise UnreachableError("gone", "wait")

        worker.store.store_replies = away  # type: ignore[method-assign]
        assert (await worker.ask("a"))[0]["score"] is not None
        assert worker.pipeline.tallies.store_failures == 1

    play(scene)


def test_more_than_the_queue_holds_is_turned_away_and_the_rest_is_answered() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        waiting = [worker.submit(f"{number}-a", f"{number}-b") for number in range(4)]
        found = await asyncio.gather(*waiting)
        turned = [each for each in found if isinstance(each, Unanswered)]
        assert [(each.status, each.retry_s) for each in turned] == [(429, 1)] * 2
        assert worker.pipeline.queued == 0

    worker = play(scene, queue=5)
    assert len(worker.recorder.records) == 4


def test_a_service_without_a_table_is_not_ready() -> None:
    async def scene(worker: OneWorker) -> None:
        found = await outcome(worker, "a")
        assert isinstance(found, Unanswered)
        assert found.status == 503

    play(scene)


def test_a_defect_in_a_tick_costs_its_requests_and_not_the_next() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        real = worker.store.trip

        async def broken(batch: Any) -> list[TripResult]:
            worker.store.trip = real  # type: ignore[method-assign]
            raise RuntimeError("a secret")

        worker.store.trip = broken  # type: ignore[method-assign]
        found = await outcome(worker, "a")
        assert isinstance(found, Unanswered)
        assert (found.status, found.message) == (500, "internal error")
        assert len(await worker.ask("b")) == 1

    play(scene)


def test_a_route_in_use_is_not_drained_and_its_counts_stay_a_while() -> None:
    async def scene(worker: OneWorker) -> None:
        going = asyncio.Event()
        first = worker.route(constant("1.0.0", 0.1))
        real = worker.store.trip

        async def slow(batch: Any) -> list[TripResult]:
            await going.wait()
            return await real(batch)

        worker.store.trip = slow  # type: ignore[method-assign]
        waiting = worker.submit("a")
        await asyncio.sleep(0)
        worker.route(constant("2.0.0", 0.1), generation=2)
        assert worker.pipeline.oldest() == 1
        going.set()
        told = await waiting
        assert not isinstance(told, Unanswered)
        assert msgspec.json.decode(told[0])["model_version"] == "1.0.0", "it keeps the table it began with"
        await worker.pipeline.idle()
        assert worker.pipeline.oldest() == 2
        assert first in worker.pipeline.routes()
        assert first.sides[0].counts.total(0) == 1
        with pytest.raises(RefusedError, match="drained"):
            first.sides[0].model.runtime.run(np.zeros((1, 1), np.float32))  # the session has been let go

    play(scene)


def test_the_age_of_the_queue_is_that_of_the_transaction_which_waits_longest() -> None:
    async def work() -> None:
        worker = await OneWorker().warm()
        worker.route(constant("1.0.0", 0.1))
        assert worker.pipeline.age_ns(worker.wall.now_ns()) == 0
        first = worker.submit("a")
        worker.wall.advance(0.25)
        second = worker.submit("b")
        worker.wall.advance(0.5)
        assert worker.pipeline.age_ns(worker.wall.now_ns()) == 750_000_000
        await asyncio.gather(first, second)
        assert worker.pipeline.age_ns(worker.wall.now_ns()) == 0
        worker.close()

    asyncio.run(work())
