"""The stop rule of an A/B test on real counters."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from interlock.decision.counts import (
    BATCH_BINS,
    COUNTS,
    FLAGGED,
    GROUPS,
    REQUESTS,
    ArmCounts,
    ShadowCounts,
    WorkerCounts,
    key,
)
from interlock.rollout.evidence import Evidence
from interlock.rollout.experiment import wilson, winner
from interlock.rollout.guards import Arms
from interlock.rollout.plan import Experiment

AB = Experiment(share=5000, period_s=3600.0)


def counts(requests: int, flagged: int) -> ArmCounts:
    """Evenly over all card groups."""
    values = np.zeros((len(BATCH_BINS), GROUPS, len(COUNTS)), np.int64)
    for count, total in ((REQUESTS, requests), (FLAGGED, flagged)):
        values[0, :, count] = total // GROUPS
        values[0, : total % GROUPS, count] += 1
    return ArmCounts(values)


def arms(champion: int, candidate: int, requests: int = 50_000) -> dict[int, Arms]:
    return {3: Arms(counts(requests, champion), counts(requests, candidate))}


@pytest.mark.parametrize(
    ("candidate", "better", "expected"),
    [
        pytest.param(1500, "lower", "champion", id="more-and-fewer-is-wanted"),
        pytest.param(1500, "higher", "candidate", id="more-and-more-is-wanted"),
        pytest.param(600, "lower", "candidate", id="fewer-and-fewer-is-wanted"),
        pytest.param(600, "higher", "champion", id="fewer-and-more-is-wanted"),
        pytest.param(1020, "lower", "", id="within-the-margin"),
    ],
)
def test_the_arm_with_the_wanted_rate_wins(candidate: int, better: str, expected: str) -> None:
    look = winner(arms(1000, candidate), {}, Experiment(share=5000, period_s=60.0, better=better))
    assert look.winner == expected
    assert (look.champion.events, look.candidate.events) == (1000, candidate)
    assert look.candidate.low < look.candidate.rate < look.candidate.high


def test_each_direction_has_half_of_the_budget() -> None:
    look = winner(arms(1000, 1000), {}, AB)
    assert look.bound == pytest.approx(-np.log(AB.alpha / 2), abs=1e-3)


def test_too_few_events_decide_nothing() -> None:
    assert winner({3: Arms(counts(500, 0), counts(500, 19))}, {}, AB).winner == ""
    assert winner({3: Arms(counts(500, 0), counts(500, 40))}, {}, AB).winner == "champion"


def test_a_shadow_answers_nobody_and_counts_for_nothing() -> None:
    look = winner({2: Arms(counts(900, 300), None, ShadowCounts(pairs=900, up=300))}, {}, AB)
    assert (look.winner, look.candidate.requests, look.champion.requests) == ("", 0, 0)
    assert (look.ratio_low, look.ratio_high) == (0.05, 20.0)


def test_cards_that_differ_ask_for_more() -> None:
    """All flags of the champion in a few card groups: what looked certain is not any more."""
    even = arms(300, 480)
    lumped = even[3].champion
    values = lumped.values.copy()
    values[0, :, FLAGGED] = 0
    values[0, :6, FLAGGED] = 50
    uneven = {3: Arms(ArmCounts(values), even[3].candidate)}
    calm, wild = winner(even, {}, AB), winner(uneven, {}, AB)
    assert calm.winner == "champion"
    assert wild.winner == ""
    assert wild.dispersion > calm.dispersion
    assert wild.ratio_high - wild.ratio_low > calm.ratio_high - calm.ratio_low


def test_the_interval_of_the_ratio_holds_the_ratio_and_excludes_what_was_rejected() -> None:
    look = winner(arms(1000, 1500), {}, AB)
    assert AB.margin < look.ratio_low < 1.5 < look.ratio_high
    for margin, rejected in ((look.ratio_low * 0.99, True), (look.ratio_low * 1.01, False)):
        assert (winner(arms(1000, 1500), {}, replace(AB, margin=margin)).winner == "champion") is rejected


def test_experiments_of_equal_arms_rarely_end_by_themselves() -> None:
    """25 looks at each of 12 experiments without a difference."""
    generator = np.random.default_rng(5)
    ended = 0
    for _ in range(12):
        flags = generator.poisson(2.0, (2, 25)).cumsum(axis=1)
        looks = (arms(int(a), int(b), (at + 1) * 200) for at, (a, b) in enumerate(flags.T))
        ended += any(winner(each, {}, AB).winner for each in looks)
    assert ended <= 1


def test_wilson_agrees_with_a_worked_example() -> None:
    """81 of 263: Newcombe, Statistics in Medicine 1998, table I."""
    low, high = wilson(81 / 263, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_only_the_candidate_as_a_shadow_is_evidence() -> None:
    def worker(name: str) -> WorkerCounts:
        shadow = ShadowCounts(pairs=10).pack()
        arms = {key("fraud", 4, "champion"): counts(10, 0).pack()}
        return WorkerCounts("w0", "r", arms, {key("fraud", 4, name): shadow})

    for name, expected in (("candidate", [4]), ("shadow-1", [])):
        evidence = Evidence("fraud")
        evidence.feed([worker(name)], 1, 0)
        assert list(evidence.arms()) == expected
