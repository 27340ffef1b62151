"""Known scores: never another model's (mode 13 of the field's list), never another's cut points."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from tests.builders import tiny_files
from tests.serving.one_worker import OneWorker, constant, model, play

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.canonical import digest_of
from interlock.base.clock import SystemClock
from interlock.decision.decide import Cuts, Model, Vectors, decide
from interlock.serving.score_cache import ScoreCache

CLOCK = SystemClock()


class Counting:
    """A model's function that says how often, and for how many rows, it was run."""

    def __init__(self, score: float) -> None:
        self.score = score
        self.rows: list[int] = []

    def __call__(self, vectors: Vectors) -> Vectors:
        self.rows.append(len(vectors))
        return np.full(len(vectors), self.score, np.float32)


def real(version: str, seed: int, service: str = "fraud") -> Model:
    """A model that ONNX Runtime runs, under the digest of its own bytes as a bundle has it."""
    data = tiny_files(version=version, seed=seed)["model.onnx"]
    runtime = OnnxRuntime.from_bytes(data, "probability")
    made = model(version, runtime.run)
    return dataclasses.replace(made, bundle=digest_of(service.encode() + data), service=service)


def vectors(rows: int, width: int) -> Vectors:
    return np.random.default_rng(3).random((rows, width), np.float32)


def test_13_the_same_vector_gets_the_score_of_the_model_that_is_asked() -> None:
    cache = ScoreCache(100)
    first, second = real("1.0.0", 1), real("1.1.0", 2)
    given = vectors(8, first.width)
    for asked in (first, second, first, second):
        called = cache.call(asked, given, CLOCK)
        assert called.decided is not None
        assert called.decided.scores.tolist() == decide(asked, given).scores.tolist()
    assert cache.hits == 16, "and it was the cache that answered the second time"
    assert decide(first, given).scores.tolist() != decide(second, given).scores.tolist()


def test_13_after_a_reload_under_the_same_version_the_old_scores_are_gone() -> None:
    cache = ScoreCache(100)
    before, after = real("1.0.0", 1), real("1.0.0", 2)
    given = vectors(1, before.width)
    cache.call(before, given, CLOCK)
    called = cache.call(after, given, CLOCK)
    assert called.decided is not None
    assert called.decided.scores.tolist() == decide(after, given).scores.tolist()
    assert cache.hits == 0


def test_13_two_services_do_not_answer_for_each_other() -> None:
    cache = ScoreCache(100)
    fraud, loans = real("1.0.0", 1), real("1.0.0", 2, "loans")
    given = vectors(3, fraud.width)
    for asked in (fraud, loans, fraud, loans):
        called = cache.call(asked, given, CLOCK)
        assert called.decided is not None
        assert called.decided.scores.tolist() == decide(asked, given).scores.tolist()


def test_decisions_are_made_by_the_models_own_cuts_whoever_computed_the_score() -> None:
    cache = ScoreCache(10)
    mild = constant("1.0.0", 0.85)
    strict = dataclasses.replace(mild, cuts=Cuts((0.5,), ("DECLINE",)))
    given = np.zeros((1, mild.width), np.float32)
    told = [cache.call(asked, given, CLOCK).decided for asked in (mild, strict)]
    assert [each.decisions for each in told if each] == [["REVIEW"], ["DECLINE"]]
    assert cache.hits == 1


def test_only_the_rows_that_are_not_known_are_scored() -> None:
    run = Counting(0.25)
    asked, cache = model("1.0.0", run), ScoreCache(10)
    given = vectors(4, asked.width)
    assert cache.call(asked, given[:2], CLOCK).rows == 2
    called = cache.call(asked, given, CLOCK)
    assert (called.rows, run.rows) == (2, [2, 2])
    again = cache.call(asked, given, CLOCK)
    assert (again.rows, again.model_ns, run.rows) == (0, 0, [2, 2])
    assert again.decided is not None
    assert again.decided.scores.dtype == np.float32
    assert cache.hits == 6


def test_one_bit_of_a_vector_is_another_vector() -> None:
    run = Counting(0.25)
    asked, cache = model("1.0.0", run), ScoreCache(10)
    zero = np.zeros((1, asked.width), np.float32)
    cache.call(asked, zero, CLOCK)
    cache.call(asked, -zero, CLOCK)
    assert run.rows == [1, 1]


def test_what_has_been_unused_for_longest_gives_way() -> None:
    run = Counting(0.25)
    asked, cache = model("1.0.0", run), ScoreCache(2)
    first, second, third = (np.full((1, asked.width), number, np.float32) for number in range(3))
    for given in (first, second, first, third, first):
        cache.call(asked, given, CLOCK)
    assert (len(cache), len(run.rows)) == (2, 3)
    cache.call(asked, second, CLOCK)
    assert len(run.rows) == 4, "the one that was not asked for again is forgotten"


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_what_is_no_score_is_an_error_and_is_not_kept(score: float) -> None:
    asked, cache = constant("1.0.0", score), ScoreCache(10)
    called = cache.call(asked, np.zeros((1, asked.width), np.float32), CLOCK)
    assert (called.decided, called.error, len(cache)) == (None, "IntegrityError", 0)


# In a worker.


run_scene = functools.partial(play, score_cache=100)


def test_a_settled_service_answers_from_known_scores_and_its_calls_are_not_timed() -> None:
    counting = Counting(0.75)

    async def scene(worker: OneWorker) -> None:
        route = worker.route(model("1.0.0", counting))
        told = [(await worker.ask(f"x{card}", card=card))[0] for card in range(3)]
        assert {(each["score"], each["decision"]) for each in told} == {(0.75, "STEP_UP")}
        assert counting.rows == [1]
        assert worker.scores is not None
        assert worker.scores.hits == 2
        assert route.sides[0].counts.times.sum() == 1, "what was not computed took no model time"
        assert [each.model_ns > 0 for each in worker.recorder.records] == [True, False, False]

    run_scene(scene)


def test_13_a_swap_in_a_worker_answers_from_the_new_model() -> None:
    async def scene(worker: OneWorker) -> None:
        worker.route(constant("1.0.0", 0.1))
        await worker.ask("a", card=1)
        worker.route(constant("1.1.0", 0.95), generation=2)
        (told,) = await worker.ask("b", card=2)
        assert (told["model_version"], told["decision"]) == ("1.1.0", "DECLINE")
        assert told["score"] == pytest.approx(0.95)

    run_scene(scene)


@pytest.mark.parametrize("retreated", [False, True])
def test_while_a_rollout_is_unsettled_every_score_is_computed(retreated: bool) -> None:
    champion, candidate = Counting(0.1), Counting(0.2)

    async def scene(worker: OneWorker) -> None:
        route = worker.route(model("1.0.0", champion), model("1.1.0", candidate), share=5_000, lease_s=60.0)
        worker.fence.set_latch(0, retreated)
        for card in range(20):
            await worker.ask(f"x{card}", card=card)
        assert sum(champion.rows) + sum(candidate.rows) == 20
        assert bool(candidate.rows) is not retreated
        assert sum(side.counts.times.sum() for side in route.sides) == 20
        assert worker.scores is not None
        assert (worker.scores.hits, len(worker.scores)) == (0, 0)

    run_scene(scene, deadline_ms=5_000)


def test_by_default_there_is_no_cache() -> None:
    counting = Counting(0.75)

    async def scene(worker: OneWorker) -> None:
        worker.route(model("1.0.0", counting))
        for card in range(3):
            await worker.ask(f"x{card}", card=card)
        assert counting.rows == [1, 1, 1]

    assert run_scene(scene, score_cache=0).scores is None
