"""What the variants did, counted from decisions; the view finds the generations that count."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.decision.conftest import make

from interlock.apps.views import experiment as view
from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError
from interlock.decision.archive import Archive
from interlock.decision.record import PINNED, DecisionRecord
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.rollout import journal
from interlock.rollout.outcomes import tabulate
from interlock.rollout.plan import Experiment, Plan
from interlock.rollout.states import State
from interlock.rollout.values import Begun, Rollout, Target
from interlock.trust.memory import MemoryEventStore

START_NS = 1_790_000_000 * NS_PER_S


def decision(number: int, arm: str, outcome: str = "APPROVE", **inputs: str | int) -> DecisionRecord:
    given: dict[str, str | int] = {"card": f"{number:032x}", "amount": 100, "currency": "EUR", "country": "FR"}
    return make(number, arm=arm, decision=outcome, inputs=given | {"mcc": "5411"} | inputs, generation=5)


MADE = [
    decision(1, "champion"),
    decision(2, "champion", "REVIEW"),
    decision(3, "champion", country="DE", currency="USD", amount=7),
    decision(4, "candidate", card="same"),
    decision(5, "candidate", "DECLINE", card="same", amount=900),
    decision(6, "candidate", country="DE", mcc="5999"),
]


def test_decisions_and_money_are_counted_by_arm() -> None:
    found = tabulate(MADE, "fraud", {5})
    champion, candidate = found["all", "champion"], found["all", "candidate"]
    assert (champion.requests, champion.flagged, champion.cards) == (3, 1, 3)
    assert champion.amounts == {"EUR": 200, "USD": 7}
    assert champion.approved_amounts == {"EUR": 100, "USD": 7}
    assert (candidate.requests, candidate.flagged, candidate.cards) == (3, 1, 2)
    assert candidate.decisions == {"APPROVE": 2, "DECLINE": 1}
    rate, low, high = candidate.flag_rate
    assert low < rate == 1 / 3 < high


@pytest.mark.parametrize(
    ("by", "segments"),
    [
        pytest.param("country", {"FR": 2, "DE": 1}, id="country"),
        pytest.param("mcc", {"5411": 2, "5999": 1}, id="mcc"),
        pytest.param("mcc_group", {"54xx": 2, "59xx": 1}, id="mcc-group"),
        pytest.param("currency", {"EUR": 3}, id="currency"),
        pytest.param("decision", {"APPROVE": 2, "DECLINE": 1}, id="decision"),
    ],
)
def test_segments_are_told_apart(by: str, segments: dict[str, int]) -> None:
    found = tabulate(MADE, "fraud", {5}, by)
    assert {segment: each.requests for (segment, arm), each in found.items() if arm == "candidate"} == segments


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"generation": 4}, id="another-generation"),
        pytest.param({"service": "loans"}, id="another-service"),
        pytest.param({"arm": "fallback"}, id="the-fallback"),
        pytest.param({"degraded": PINNED}, id="a-pinned-version"),
    ],
)
def test_what_the_split_gave_to_no_arm_does_not_count(changed: dict[str, object]) -> None:
    assert tabulate([replace(MADE[0], **changed)], "fraud", {5}) == {}


def test_a_given_vector_has_no_segment() -> None:
    found = tabulate([replace(MADE[0], inputs={})], "fraud", {5}, "country")
    assert list(found) == [("unknown", "champion")]
    assert found["unknown", "champion"].cards == 0


def test_labels_are_matched_by_decision() -> None:
    labels = {MADE[0].decision_id: True, MADE[1].decision_id: True, MADE[2].decision_id: False}
    champion = tabulate(MADE, "fraud", {5}, labels=labels)["all", "champion"]
    assert (champion.labelled, champion.fraud, champion.missed) == (3, 2, 1)


def test_an_unknown_segment_is_refused() -> None:
    with pytest.raises(UsageError, match="mcc_group"):
        tabulate([], "fraud", {5}, "colour")


def test_the_view_counts_the_decisions_of_the_split_alone(tmp_path: Path) -> None:
    plan = Plan(0, (), 0, 1, 1, {}, strategy="ab", experiment=Experiment(5000, 60.0))
    old = Target("1.0.0", "sha256:" + "0" * 64, "f0", "c0")
    rollout = Rollout(
        id="r1",
        service="fraud",
        commit="c",
        folder="f",
        version="1.1.0",
        wish="w",
        salt="",
        started_ns=START_NS,
        plan=plan,
        champion=old,
        candidate=Target("1.1.0", "sha256:" + "1" * 64, "f", "c"),
    )
    split = replace(rollout, state=State.CANARY, shape="split", share=5000, generation=5)
    store = MemoryEventStore()
    baseline = replace(rollout, state=State.LOADING, shape="baseline", generation=4)
    watching = replace(split, state=State.WATCHING, generation=7)
    steps = [(None, rollout), *((Begun(), at) for at in (baseline, split, replace(split, generation=6), watching))]
    for number, (seen, at) in enumerate(steps):
        store.append(journal.entry("controller", at, seen, START_NS + number * NS_PER_S))
    out = SegmentWriter(tmp_path, "w0", lambda: START_NS, SegmentOptions(size_bytes=32 * 1024))
    others = [replace(decision(9, "champion"), generation=generation) for generation in (4, 7)]
    for each in [*others, *MADE, replace(decision(7, "candidate"), generation=6)]:
        out.append([replace(each, received_ns=START_NS + 10 * NS_PER_S)])
    out.close()
    events, archive = store.after(0, journal.ENTRIES), Archive(tmp_path)
    told = view.outcomes(events, archive, "r1", "country")
    assert (told["candidate"], told["champion"], told["outcome"]) == ("1.1.0", "1.0.0", "flagged")
    counted = {(each["segment"], each["arm"]): each["requests"] for each in told["variants"]}
    assert counted == {("DE", "candidate"): 1, ("DE", "champion"): 1, ("FR", "candidate"): 3, ("FR", "champion"): 2}
    with pytest.raises(UsageError, match="never shared"):
        view.outcomes(events[:2], archive, "r1")
