"""Whose trace a request belongs to, whether it is sampled, and what its spans say."""

from __future__ import annotations

import asyncio
import functools

import pytest
from tests.serving.one_worker import OneWorker, constant, model, play

from interlock.base.ids import SeededIds
from interlock.decision.decide import Vectors
from interlock.serving import trace
from interlock.serving.trace import CLIENT, INTERNAL, SERVER, Parent, Span, Trace

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(TRACE, SPAN, False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-fe", Parent(TRACE, SPAN, False)),
        (f" 00-{TRACE}-{SPAN}-01\t", Parent(TRACE, SPAN, True)),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", Parent(TRACE, SPAN, True)),
        ("", None),
        (TRACE, None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"01-{TRACE}-{SPAN}-01more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-0x", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"00-{'٣' * 32}-{SPAN}-01", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header: str, wanted: Parent | None) -> None:
    assert trace.parse(header) == wanted


def test_which_traces_are_sampled_is_the_same_everywhere_and_the_share_that_was_asked_for() -> None:
    ids = SeededIds(1)
    traces = [ids.random(16).hex() for _ in range(4_000)]
    tenth = [each for each in traces if trace.sampled(each, 0.1)]
    assert 300 < len(tenth) < 500
    assert tenth == [each for each in traces if trace.sampled(each, 0.1)]
    assert all(trace.sampled(each, 0.3) for each in tenth), "a higher share keeps what a lower one has"
    assert not any(trace.sampled(each, 0.0) for each in [*traces, "0" * 32])
    assert all(trace.sampled(each, 1.0) for each in [*traces, "f" * 32])


def whole(made: Trace, ended_ns: int = 900, failed: bool = False) -> tuple[Span, ...]:
    made.end(ended_ns, {"http.response.status_code": 200}, failed)
    return made.spans(SeededIds(3).random(trace.ID_BYTES * made.size))


def test_the_server_span_is_the_callers_child_and_the_parent_of_every_step() -> None:
    made = Trace("POST /x", TRACE, SPAN, 100, 5_000)
    made.step(trace.STORE, (200, 300), {"interlock.batch": 2})
    made.step(trace.MODEL, (300, 400), {})
    made.step(trace.RECORD, (400, 500), {})
    server, *steps = whole(made)
    assert (server.trace_id, server.parent_id, server.name, server.kind) == (TRACE, SPAN, "POST /x", SERVER)
    assert (server.started_ns, server.ended_ns) == (5_100, 5_900)
    assert [(each.name, each.kind, each.started_ns, each.ended_ns) for each in steps] == [
        ("store", CLIENT, 5_200, 5_300),
        ("model", INTERNAL, 5_300, 5_400),
        ("record", INTERNAL, 5_400, 5_500),
        ("reply", INTERNAL, 5_500, 5_900),
    ]
    assert {each.parent_id for each in steps} == {server.span_id}
    assert {each.trace_id for each in steps} == {TRACE}
    assert len({each.span_id for each in (server, *steps)}) == 5


def test_a_request_that_was_turned_away_is_one_span_that_begins_its_trace() -> None:
    (server,) = whole(Trace("POST /x", TRACE, "", 100, 0), failed=True)
    assert (server.parent_id, server.failed) == ("", True)
    assert server.attributes == {"http.response.status_code": 200}


# In a worker.


run = functools.partial(play, otlp_url="http://collector.invalid")


def begun(worker: OneWorker) -> Trace:
    return Trace("POST /x", TRACE, SPAN, worker.clock.monotonic_ns(), 0)


async def traced(worker: OneWorker, *names: str, card: int = 0) -> list[Span]:
    made = begun(worker)
    await worker.submit(*names, card=card, trace=made)
    return list(whole(made, worker.clock.monotonic_ns()))


def test_a_sampled_request_says_what_it_went_through_and_who_decided() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.95))
        server, *steps = await traced(worker, "a", "b")
        assert [each.name for each in steps] == ["store", "model", "record", "reply"]
        times = [each for span in steps for each in (span.started_ns, span.ended_ns)]
        assert times == sorted(times), "one after the other"
        assert server.attributes == {
            "interlock.service": "fraud",
            "interlock.arm": "champion",
            "interlock.model_version": "1.0.0",
            "interlock.degraded": 0,
            "interlock.decisions": 2,
            "interlock.decision_ids": tuple(each.decision_id for each in worker.recorder.records),
            "http.response.status_code": 200,
        }
        assert steps[1].attributes == {
            "interlock.arm": "champion",
            "interlock.model_version": "1.0.0",
            "interlock.batch": 2,
            "interlock.rows_scored": 2,
        }

    run(scene)


def test_nothing_that_a_caller_sent_stands_in_a_span() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.95))
        told = repr(await traced(worker, "their-own-name", card=77))
        (kept,) = worker.recorder.records
        for value in [*kept.inputs.values(), kept.transaction_id, kept.principal, kept.vector.hex(), "077"]:
            assert str(value) not in told.replace(kept.decision_id, "")

    run(scene)


def test_only_the_sampled_requests_of_a_tick_are_told() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        made = begun(worker)
        pending = [worker.submit("a"), worker.submit("b", trace=made), worker.submit("c")]
        await asyncio.gather(*pending)
        server, *steps = whole(made)
        assert [each.name for each in steps] == ["store", "model", "record", "reply"]
        assert steps[0].attributes["interlock.batch"] == 3, "who shared the tick is counted, not told"
        assert server.attributes["interlock.decisions"] == 1

    run(scene)


def test_where_the_store_is_away_the_trip_failed_and_the_answer_is_degraded() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        worker.store.down = True
        server, *steps = await traced(worker, "a")
        assert [(each.name, each.failed) for each in steps] == [("store", True), ("record", False), ("reply", False)]
        assert server.attributes["interlock.degraded"] == worker.recorder.records[0].degraded > 0
        assert server.attributes["interlock.arm"] == "fallback"

    run(scene)


def test_a_candidate_that_raises_is_seen_beside_the_champion_that_answered() -> None:
    def broken(_: Vectors) -> Vectors:
        raise RuntimeError("their-own-secret")

    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1), model("1.1.0", broken), share=10_000, lease_s=60.0)
        server, *steps = await traced(worker, "a")
        calls = [each for each in steps if each.name == "model"]
        assert [(each.attributes["interlock.arm"], each.failed) for each in calls] == [
            ("candidate", True),
            ("champion", False),
        ]
        assert calls[0].attributes["error.type"] == "RuntimeError"
        assert "secret" not in repr(steps)
        assert server.attributes["interlock.model_version"] == "1.0.0"

    run(scene, deadline_ms=5_000)


def test_without_a_collector_nothing_is_noted() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        made = begun(worker)
        await worker.submit("a", trace=made)
        assert made.size == 1

    run(scene, otlp_url=None)
