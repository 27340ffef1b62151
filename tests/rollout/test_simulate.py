from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from interlock.base.errors import UsageError
from interlock.decision import record as records
from interlock.decision.counts import COUNTS, FLAGGED, GROUPS, REQUESTS, SLOW
from interlock.decision.record import DecisionRecord
from interlock.rollout.guards import defaults
from interlock.rollout.plan import Plan, Step
from interlock.rollout.recorded import Recorded, Recording, recording
from interlock.rollout.simulate import Setting, limit_seconds, look_seconds, plays, summarise
from interlock.rollout.streams import BASE, Synthetic, Traffic, slow_ratio

QUICK = Plan(
    shadow_s=3.0,
    steps=(Step(1_000, 6.0), Step(5_000, 4.0)),
    holdback=500,
    watch_s=4.0,
    deadline_s=60.0,
    guards=defaults(0.01),
)
BUSY = Traffic(tps=3_000, cards=0, base={"errors": 0.0005, "slow": 0.05, "flagged": 0.02})


def setting(plan: Plan = QUICK, recorded: Recording | None = None, **traffic: object) -> Setting:
    return Setting(plan, replace(BUSY, **traffic), recorded, 7, 1.0, limit_seconds(plan))  # type: ignore[arg-type]


def test_a_candidate_that_is_alike_settles() -> None:
    found = summarise(plays(setting(), range(2)))
    assert (found.settled, found.rolled_back) == (2, 0)
    assert found.settled_s["p50"] == pytest.approx(18, abs=3)
    assert found.harmed == {"p50": 0.0, "p95": 0.0}


@pytest.mark.parametrize(
    ("harm", "guard"), [({"flagged": 4.0}, "flag_up"), ({"flagged": 0.1}, "flag_down"), ({"latency": 1.4}, "latency")]
)
def test_a_harm_is_seen_and_the_guard_named(harm: dict[str, float], guard: str) -> None:
    found = summarise(plays(setting(harm=harm), range(2)))
    assert found.rolled_back == 2
    assert all(guard in reason for reason in found.reasons)
    assert found.detected_s["p95"] is not None
    assert (found.interval[0], found.interval[1]) == pytest.approx((0.1581, 1.0), abs=1e-3)


def test_evidence_holds_where_traffic_is_thin() -> None:
    plan = msgspec.structs.replace(QUICK, advance="evidence", deadline_s=10.0, shadow_s=0.0)
    played = plays(setting(plan, tps=20.0), [0])[0]
    assert played.outcome == "held"
    assert "harm not excluded" in played.reason


def test_evidence_goes_on_where_traffic_is_ample() -> None:
    plan = msgspec.structs.replace(QUICK, advance="evidence", shadow_s=0.0, deadline_s=18.0)
    wide = {"tps": 40_000.0, "base": {**BASE, "flagged": 0.05}}
    assert plays(setting(plan, **wide), [0])[0].outcome == "settled"
    harmed = plays(setting(plan, harm={"flagged": 1.3}, **wide), [0])[0]
    assert harmed.outcome in ("held", "rolled_back")


def test_a_play_is_the_same_whoever_plays_it() -> None:
    assert plays(setting(harm={"flagged": 3.0}), [4])[0] == plays(setting(harm={"flagged": 3.0}), [3, 4])[1]


def test_a_play_ends_at_its_limit() -> None:
    short = replace(setting(), limit_s=5.0)
    played = plays(short, [0])[0]
    assert (played.outcome, played.seconds) == ("unfinished", 5.0)


def test_harm_is_counted_only_for_what_the_candidate_answered() -> None:
    plan = msgspec.structs.replace(QUICK, shadow_s=0.0)
    played = plays(setting(plan, harm={"flagged": 4.0}), [0])[0]
    assert 0 < played.harmed < 0.1 * played.candidate_requests


@pytest.mark.parametrize(("part_s", "look_s"), [(20.0, 1.0), (300.0, 5.0), (600.0, 10.0), (7_200.0, 15.0)])
def test_long_plans_are_looked_at_less_often(part_s: float, look_s: float) -> None:
    assert look_seconds(replace_times(QUICK, part_s)) == look_s


def test_looks_that_are_far_apart_leave_the_steps_of_the_dispersion_alone() -> None:
    plan = replace_times(QUICK, 120.0)
    seen = [replace(setting(plan, harm={"flagged": 1.8}), look_s=look_s) for look_s in (5.0, 15.0)]
    often, rarely = (plays(each, [1])[0] for each in seen)
    assert often.detected_s is not None
    assert rarely.detected_s is not None
    assert rarely.detected_s % 15 == 0
    assert rarely.detected_s == pytest.approx(often.detected_s, abs=30)


def replace_times(plan: Plan, seconds: float) -> Plan:
    return msgspec.structs.replace(plan, shadow_s=0.0, steps=(Step(1_000, seconds),), watch_s=seconds)


def test_a_share_inside_a_group_belongs_to_both_arms() -> None:
    champion, candidate = Synthetic(BUSY, np.random.default_rng(1)).look(50, 10.0)
    assert candidate[1:].sum() == 0
    assert candidate[0, REQUESTS] == pytest.approx(champion[0, REQUESTS], rel=0.3)
    assert champion[:, REQUESTS].sum() + candidate[:, REQUESTS].sum() == pytest.approx(30_000, rel=0.03)


def test_a_longer_p95_makes_calls_slow_as_the_field_study_measured() -> None:
    assert slow_ratio(1.2) == pytest.approx(2.34, abs=0.01)
    assert slow_ratio(1.05) == pytest.approx(1.28, abs=0.01)
    assert slow_ratio(1.0) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "wrong", [{"harm": {"flogs": 2.0}}, {"base": {"flagged": 2.0}}, {"tps": 0.0}, {"harm": {"flagged": 0.0}}], ids=str
)
def test_traffic_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(BUSY, **wrong)  # type: ignore[arg-type]


def decided(rows: int, cards: int) -> Iterator[DecisionRecord]:
    rng = np.random.default_rng(3)
    for row in range(rows):
        card = int(rng.integers(cards))
        yield DecisionRecord(
            decision_id=f"d{row}",
            service="fraud",
            transaction_id=f"t{row}",
            attempt=1,
            inputs={"card": f"card-{card}"},
            received_ns=(row + 1) * 10_000_000,
            edge_ns=0,
            clock=(None, 1.0),
            epoch=1,
            generation=1,
            arm="candidate" if row % 10 == 9 else "champion",
            bundle="sha256:" + "0" * 64,
            folder="",
            version="1.0.0",
            feature_set="",
            applied=(),
            vector=b"",
            score=0.1,
            threshold_set="",
            decision="REVIEW" if card % 20 == 0 else "APPROVE",
            propensity=1.0,
            degraded=records.PINNED if row % 50 == 0 else 0,
            model_ns=int(rng.lognormal(13, 0.4)),
        )


@pytest.fixture(scope="module")
def taped() -> Recording:
    return recording(decided(6_000, 400))


def test_only_the_champions_own_decisions_are_dealt_again(taped: Recording) -> None:
    assert len(taped.at_s) == 5_280
    assert taped.tps == pytest.approx(88, rel=0.02)
    assert taped.seen[:, FLAGGED].mean() == pytest.approx(0.05, abs=0.02)


def test_cards_keep_to_their_arm_and_a_recording_begins_again(taped: Recording) -> None:
    source = Recorded(taped, {}, np.random.default_rng(2))
    shares = []
    for _ in range(4):
        champion, candidate = source.look(5_000, taped.length_s)
        assert candidate[GROUPS // 2 :].sum() == 0
        assert champion[: GROUPS // 2].sum() == 0
        shares.append(int(candidate[:, REQUESTS].sum()))
    assert len(set(shares)) == 1, "the same cards come again in every round"
    assert champion[:, SLOW].sum() + candidate[:, SLOW].sum() == pytest.approx(0.05 * 5_280, rel=0.3)


def test_a_harm_is_put_on_recorded_traffic(taped: Recording) -> None:
    source = Recorded(taped, {"flagged": 3.0, "latency": 2.0}, np.random.default_rng(2))
    champion, shadow = (each.sum(axis=0) for each in source.pairs(taped.length_s))
    assert shadow[FLAGGED] / champion[FLAGGED] == pytest.approx(3.0, rel=0.2)
    assert shadow[SLOW] / champion[SLOW] > 4
    assert shadow[REQUESTS] == champion[REQUESTS]


def test_a_recorded_policy_sees_a_harm(taped: Recording) -> None:
    plan = replace_times(QUICK, 60.0)
    found = summarise(plays(setting(plan, taped, harm={"flagged": 10.0}), range(2)))
    assert found.rolled_back == 2


def test_a_short_recording_is_refused() -> None:
    with pytest.raises(UsageError, match="recorded decisions"):
        recording(decided(100, 10))


def test_every_count_has_a_ratio() -> None:
    assert [BUSY.ratio(count) for count in range(len(COUNTS))] == [1.0] * len(COUNTS)
