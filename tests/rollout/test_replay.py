"""A rollout from its events alone: what is told of it is recomputed, and what was changed is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.world import Behaviour, World

from interlock.apps.control.looks import Looks
from interlock.apps.views import rollout as view
from interlock.base.clock import ManualClock
from interlock.base.errors import IntegrityError
from interlock.base.verdict import Verdict
from interlock.decision.counts import (
    ERRORS,
    FLAGGED,
    GROUPS,
    REQUESTS,
    ArmCounts,
    ShadowCounts,
    WorkerCounts,
    key,
    parse_key,
)
from interlock.rollout import guards, kept
from interlock.rollout.evidence import Evidence
from interlock.rollout.kept import Addition, Cell
from interlock.rollout.options import RolloutOptions
from interlock.rollout.plan import Plan, Slo, Step
from interlock.rollout.replay import Chain, replay
from interlock.rollout.sight import Given, Sight, see
from interlock.rollout.states import State
from interlock.rollout.values import Looked, Rollout
from interlock.trust.event import Event
from interlock.trust.memory import MemoryEventStore

NAMES = ("champion", "candidate")
SHADOWED = key("fraud", 4, "candidate")
SLOW = Slo("p95", 50.0, for_s=3)

ROLLOUT = Rollout(
    id="r", service="fraud", commit="c", folder="f", version="1", wish="w", salt="s", started_ns=0, base_generation=3
)


def lived(behaviour: Behaviour | None = None, **policy: Any) -> tuple[list[Event], str]:
    """The events of a world in which a second release came; and that rollout's id."""
    world = World(3)
    world.release("1.0.0")
    world.finish()
    world.release("1.1.0", behaviour, **policy)
    world.finish()
    return view.read(world.store, looks=True), world.rollouts()[-1].id


LIVES: dict[str, dict[str, Any]] = {
    "rolled back": {"behaviour": Behaviour(flag_rate=0.3)},
    "held by evidence, with a limit": {
        "advance": "evidence",
        "deadline": 8,
        "hold": 3,
        "more": "  slo: [{metric: p95, above: 50, for: 2s}]\n",
    },
    "settled with a limit": {"more": "  slo: [{metric: p95, above: 50, for: 2s}]\n"},
    "an experiment": {
        "strategy": "ab",
        "steps": "",
        "more": "  experiment: {split: 50, for: 6s, outcome: flagged, then: candidate}\n",
    },
}


@pytest.fixture(scope="module", params=LIVES)
def life(request: pytest.FixtureRequest) -> tuple[list[Event], str]:
    return lived(**LIVES[request.param])


@pytest.fixture(scope="module")
def bad() -> tuple[list[Event], str]:
    return lived(**LIVES["rolled back"])


def test_a_rollout_replays_to_what_was_recorded(life: tuple[list[Event], str]) -> None:
    told = replay(*life)
    assert told["differences"] == []
    assert told["agrees"]
    assert told["looks"] >= 2
    assert told["entries"] >= 5


def changed(event: Event, change: Callable[[dict[str, Any]], None]) -> Event:
    body = msgspec.json.decode(msgspec.json.encode(event.body))
    change(body)
    return msgspec.structs.replace(event, body=body)


def one_flag_less(body: dict[str, Any]) -> None:
    addition = kept.unpack(body["kept"]["counts"])
    place = next(n for n, cell in enumerate(addition.cells) if cell.name.endswith("champion"))
    cell = addition.cells[place]
    counts = ArmCounts.unpack(cell.packed)
    counts.add(FLAGGED, 0, 7, -1)
    cells = list(addition.cells)
    cells[place] = msgspec.structs.replace(cell, packed=counts.pack())
    body["kept"]["counts"] = kept.pack(msgspec.structs.replace(addition, cells=tuple(cells)))


def passes(body: dict[str, Any]) -> None:
    flags = next(guard for guard in body["guards"] if guard["guard"] == "flag_up")
    flags["verdict"] = "fail" if flags["verdict"] == "pass" else "pass"


def no_breach(body: dict[str, Any]) -> None:
    body["seen"]["breach"] = ""


def less_evidence(body: dict[str, Any]) -> None:
    body["guards"][3]["log_e"] -= 0.0001


TAMPERED = {
    "a count": (one_flag_less, "what was kept"),
    "a verdict": (passes, "guards.flag_up.verdict"),
    "a figure": (less_evidence, "guards.flag_up.log_e"),
    "what the rollout was told": (no_breach, "seen.breach"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_changed_look_is_found(name: str, bad: tuple[list[Event], str]) -> None:
    change, what = TAMPERED[name]
    events, rollout_id = bad
    at = max(n for n, each in enumerate(events) if each.body.get("rollout") == rollout_id and each.body.get("guards"))
    told = replay([*events[:at], changed(events[at], change), *events[at + 1 :]], rollout_id)
    assert not told["agrees"]
    assert what in {each["what"] for each in told["differences"]}
    assert {each["event"] for each in told["differences"]} >= {events[at].id}


def test_a_missing_look_is_found(bad: tuple[list[Event], str]) -> None:
    events, rollout_id = bad
    looks = [each for each in events if each.body.get("rollout") == rollout_id and "kept" in each.body]
    for gone in (looks[1], looks[-1]):
        assert not replay([each for each in events if each is not gone], rollout_id)["agrees"]


def test_a_changed_step_is_found(bad: tuple[list[Event], str]) -> None:
    events, rollout_id = bad

    def share(body: dict[str, Any]) -> None:
        body["rollout"]["share"] = 10_000

    entries = [n for n, each in enumerate(events) if each.type == "rollout.step.done"]
    at = entries[-2]
    told = replay([*events[:at], changed(events[at], share), *events[at + 1 :]], rollout_id)
    assert "rollout.share" in {each["what"] for each in told["differences"]}


def test_a_rollout_that_another_controller_goes_on_with_replays_and_keeps_drained_generations() -> None:
    world = World(3)
    world.release("1.0.0")
    world.finish()
    world.release("1.1.0")
    world.until(State.CANARY)
    world.run(3)
    rollout = world.rollouts()[-1]
    for worker in world.scorers.workers:
        for counts in (worker.arms, worker.shadows):
            for name in [each for each in counts if parse_key(each)[1] < rollout.generation]:
                del counts[name]
    before = world.controller._looks._evidence[rollout.id].copy()
    world.restart()
    world.turn()
    after = world.controller._looks._evidence[rollout.id]
    drained = rollout.generation - 1
    assert drained in before.arms()
    assert after.arms()[drained].champion.pack() == before.arms()[drained].champion.pack()
    world.finish()
    told = replay(view.read(world.store, looks=True), rollout.id)
    assert told["differences"] == []


def test_the_evidence_of_a_busy_fleet_goes_into_several_events() -> None:
    """Also then no event is too large; an unfinished look is no look."""
    text = kept.pack(Addition({}, tuple(Cell(f"w{n}", "a#0", "fraud/4/champion", False, noise(n)) for n in range(12))))
    pieces = kept.pieces(1, kept.chained("", text), text)
    assert len(pieces) > 1
    chain = Chain(ROLLOUT)
    assert [chain.take(looked(n, piece)) for n, piece in enumerate(pieces)] == [*[False] * (len(pieces) - 1), True]
    assert chain.evidence.number == 1
    with pytest.raises(IntegrityError, match="missing"):
        Chain(ROLLOUT).take(looked(1, pieces[-1]))


def noise(seed: int) -> bytes:
    arm = ArmCounts()
    arm.values[:] = np.random.default_rng(seed).integers(0, 1000, arm.values.shape)
    return arm.pack()


def test_looks_that_change_nothing_are_kept_ever_less_often() -> None:
    """What lasts a day is some 1,700 looks, and every one adds up what came between."""
    clock, plan = ManualClock(), Plan(0, (Step(5000, 1e9),), 0, 0, 1e9, {})
    begun = {"started_ns": clock.now_ns(), "since_ns": clock.now_ns()}
    rollout = msgspec.structs.replace(ROLLOUT, plan=plan, state=State.CANARY, generation=4, **begun)
    looks = Looks(RolloutOptions(), clock, "controller", MemoryEventStore())
    times = []
    for second in range(2 * 3600):
        given = Given(clock.now_ns())
        judged = guards.Look(given.at_ns, 4, Verdict.PASS, 1, 1, ())
        keeping = looks.record(rollout, Sight(given, Looked(), judged))
        if keeping is not None:
            looks.kept(rollout, keeping)
            times.append(second)
        clock.advance(1)
    pauses = np.diff(times)
    assert pauses[:60].max() == 1
    assert pauses.max() <= 61
    assert len([each for each in times if each <= 1800]) < 300
    assert len(times) < 450


# --- sources that cannot be read -------------------------------------------------------------


def test_a_score_difference_that_is_no_number_is_missing_and_adds_nothing() -> None:
    broken = ShadowCounts(pairs=1000, largest=float("nan"))
    worker = WorkerCounts("w0", "a", {key("fraud", 4, "champion"): ArmCounts().pack()}, {SHADOWED: broken.pack()})
    evidence = Evidence("fraud", 4)
    assert "no number" in evidence.feed([worker], 1, 0)
    assert evidence.arms() == {}


def test_counts_of_another_version_are_missing_and_not_an_error_of_the_controller() -> None:
    evidence = Evidence("fraud", 4)
    assert "cannot be read" in evidence.feed([WorkerCounts("w0", "a", {key("fraud", 4, "champion"): b"?"})], 1, 0)


@pytest.mark.parametrize("missing", ["1 of 2 workers are silent", "the counters of worker w0 were reset"])
def test_what_is_missing_is_never_a_pass(missing: str) -> None:
    plan = Plan(0, (), 0, 0, 9, guards.defaults(0.01), slos=(SLOW,))
    rollout = msgspec.structs.replace(ROLLOUT, plan=plan, state=State.CANARY, generation=4)
    arm = ArmCounts()
    arm.values[:, :, REQUESTS] = 100
    evidence = Evidence("fraud", 4, (SLOW,))
    for second in range(5):
        evidence.feed(
            [WorkerCounts("w0", "a", {key("fraud", 4, name): arm.pack() for name in NAMES})], 1, second * 10**9
        )
    sight = see(rollout, evidence, Given(5 * 10**9, missing))
    assert sight.seen.missing == missing
    assert sight.word == "inconclusive"
    assert sight.limits[0].verdict == "inconclusive"


def test_an_exceeded_limit_is_a_breach_by_its_name() -> None:
    errors = Slo("errors", 0.05)
    plan = Plan(0, (), 0, 0, 9, {}, slos=(errors,))
    rollout = msgspec.structs.replace(ROLLOUT, plan=plan, state=State.CANARY, generation=4)
    evidence = Evidence("fraud", 4, (errors,))
    good, bad = ArmCounts(), ArmCounts()
    evidence.feed([WorkerCounts("w0", "a", {key("fraud", 4, name): good.pack() for name in NAMES})], 1, 0)
    good.values[0, :, REQUESTS] = bad.values[0, :, REQUESTS] = 10
    bad.values[0, :, ERRORS] = 1
    both = {key("fraud", 4, "champion"): good.pack(), key("fraud", 4, "candidate"): bad.pack()}
    evidence.feed([WorkerCounts("w0", "a", both)], 1, 10**9)
    assert see(rollout, evidence, Given(10**9)).seen.breach == "errors > 0.05"


# --- evidence that is regained ---------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("count"), st.integers(0, 1), st.integers(4, 6), st.integers(1, 40)),
        st.tuples(st.sampled_from(["replace", "shrink"]), st.integers(0, 1)),
        st.tuples(st.just("drain"), st.integers(4, 6)),
        st.tuples(st.sampled_from(["read", "keep", "kill"])),
    ),
    max_size=40,
)


class Fleet:
    """Two workers that count, are replaced, and let go of drained generations."""

    def __init__(self) -> None:
        self.lives = [0, 0]
        self.counts: list[dict[int, tuple[ArmCounts, ArmCounts, ShadowCounts]]] = [{}, {}]

    def act(self, action: tuple[Any, ...]) -> None:
        if action[0] == "count":
            _, worker, generation, times = action
            parts = self.counts[worker].setdefault(generation, (ArmCounts(), ArmCounts(), ShadowCounts()))
            for number in range(times):
                parts[number % 2].add(REQUESTS, number % 3, (number * 7) % GROUPS)
                parts[0].time(1, number * 1000)
                parts[2].add(0.5, 0.5 + number / 100, 1, number % 2)
        elif action[0] == "drain":
            for each in self.counts:
                each.pop(action[1], None)
        else:
            self.lives[action[1]] += action[0] == "replace"
            self.counts[action[1]] = {}

    def read(self) -> list[WorkerCounts]:
        found = []
        for worker, counts in enumerate(self.counts):
            arms = {
                key("fraud", g, name): part.pack()
                for g, both in counts.items()
                for name, part in zip(NAMES, both[:2], strict=True)
            }
            shadows = {key("fraud", g, "candidate"): both[2].pack() for g, both in counts.items()}
            found.append(WorkerCounts(f"w{worker}", str(self.lives[worker]), arms, shadows))
        return found


def counted(evidence: Evidence) -> dict[tuple[str, bool], bytes]:
    return {place: counts.pack() for place, counts in sorted(evidence._totals.items())}


def around(change: str) -> list[tuple[Any, ...]]:
    """A worker's counters begin anew between two kept looks, and go on after a controller was killed."""
    then = [(change, 0), ("count", 0, 4, 9), ("keep",), ("kill",), ("count", 0, 4, 5), ("read",)]
    return [("count", 0, 4, 30), ("keep",), *then]


@settings(max_examples=40)
@given(ACTIONS)
@example(around("replace"))
@example(around("shrink"))
def test_a_controller_that_takes_over_counts_what_one_that_never_died_counts(actions: list[tuple[Any, ...]]) -> None:
    """Killed at any moment. Additions that were not kept are read again: nothing twice, nothing lost."""
    fleet, stored = Fleet(), list[dict[str, Any]]()
    steady = Evidence("fraud", 4, (SLOW,))
    mortal = Evidence("fraud", 4, (SLOW,))
    for now, action in enumerate((*actions, ("read",), ("keep",), ("kill",))):
        at = now * 700_000_000
        if action[0] == "read":
            assert steady.feed(fleet.read(), 2, at) == mortal.feed(fleet.read(), 2, at)
        elif action[0] == "keep":
            steady.feed(fleet.read(), 2, at)
            mortal.feed(fleet.read(), 2, at)
            text = kept.pack(mortal.addition())
            stored += kept.pieces(mortal.number + 1, kept.chained(mortal.digest, text), text)
            mortal.keep(text)
        elif action[0] == "kill":
            # What no look kept and no worker reports any more is lost, so the last reading is kept here.
            text = kept.pack(mortal.addition())
            stored += kept.pieces(mortal.number + 1, kept.chained(mortal.digest, text), text)
            mortal = taken(stored)
        else:
            fleet.act(action)
    assert counted(mortal) == counted(steady)
    assert mortal._resets == steady._resets
    assert {name: vars(each)["calls"].tolist() for name, each in mortal.series().items()} == {
        name: vars(each)["calls"].tolist() for name, each in steady.series().items()
    }
    assert mortal.samples(1, True) == steady.samples(1, True)


def taken(stored: list[dict[str, Any]]) -> Evidence:
    plan = Plan(0, (), 0, 0, 9, {}, slos=(SLOW,))
    chain = Chain(msgspec.structs.replace(ROLLOUT, plan=plan))
    for number, piece in enumerate(stored):
        chain.take(looked(number, piece))
    return chain.evidence


def looked(number: int, piece: dict[str, Any]) -> Event:
    return Event(
        id=number + 1,
        time_ns=number,
        type="rollout.verdict.recorded",
        actor="controller",
        origin="controller",
        object="service/fraud",
        outcome="pass",
        body={"rollout": "r", "kept": piece},
    )
