"""Guards on real counters, and the evidence that feeds them."""

from __future__ import annotations

import numpy as np

from interlock.base.verdict import Verdict
from interlock.decision.counts import (
    FLAGGED,
    GROUPS,
    REQUESTS,
    SLOW,
    TIME_EDGES,
    ArmCounts,
    ShadowCounts,
    WorkerCounts,
    key,
)
from interlock.rollout import guards
from interlock.rollout.evidence import Evidence
from interlock.rollout.guards import Arms

SETTINGS = guards.defaults(0.01)


def counts(requests: int, groups: range, batch: int = 0, **events: int) -> ArmCounts:
    arm = ArmCounts()
    names = {"flagged": FLAGGED, "slow": SLOW}
    for offset in range(requests):
        arm.add(REQUESTS, batch, groups[offset % len(groups)])
    for name, number in events.items():
        for offset in range(number):
            arm.add(names[name], batch, groups[offset % len(groups)])
    return arm


def verdicts(arms: dict[int, Arms]) -> dict[str, str]:
    look = guards.judge(arms, {}, SETTINGS, (1, max(arms, default=0)))
    return {each.guard: each.verdict for each in look.guards}


def test_five_times_the_flags_fail_upwards_alone() -> None:
    arms = {7: Arms(counts(9000, range(10, GROUPS), flagged=45), counts(1000, range(10), flagged=40))}
    found = verdicts(arms)
    assert found["flag_up"] == "fail"
    assert found["flag_down"] == "pass"
    assert guards.judge(arms, {}, SETTINGS, (1, 7)).verdict is Verdict.FAIL


def test_too_few_events_are_inconclusive() -> None:
    arms = {7: Arms(counts(900, range(10, GROUPS), flagged=3), counts(100, range(10), flagged=3))}
    assert set(verdicts(arms).values()) == {"inconclusive"}


def test_latency_compares_equal_batch_sizes() -> None:
    """The candidate runs small batches, which are slower per row: that alone is no harm."""
    champion = counts(5000, range(50, 100), batch=0, slow=500).plus(counts(5000, range(50, 100), batch=3, slow=5))
    candidate = counts(5000, range(50), batch=0, slow=500)
    assert verdicts({1: Arms(champion, candidate)})["latency"] == "pass"
    slower = counts(5000, range(50), batch=0, slow=1500)
    assert verdicts({1: Arms(champion, slower)})["latency"] == "fail"


def test_flags_of_a_shadow_are_judged_by_its_pairs() -> None:
    champion = counts(1000, range(GROUPS), flagged=10)
    assert verdicts({1: Arms(champion, None, ShadowCounts(pairs=1000, up=90, down=0))})["flag_up"] == "fail"
    assert verdicts({1: Arms(champion, None, ShadowCounts(pairs=1000, up=12, down=11))})["flag_up"] == "pass"


def test_evidence_adds_up_over_generations() -> None:
    """Shares differ by generation: pooling them would hide what each says."""
    early = Arms(counts(9000, range(10, GROUPS), flagged=90), counts(1000, range(10), flagged=25))
    late = Arms(counts(5000, range(50, GROUPS), flagged=50), counts(5000, range(50), flagged=110))
    one = guards.judge({1: early}, {}, SETTINGS, (1, 1)).guards[3].log_e
    both = guards.judge({1: early, 2: late}, {}, SETTINGS, (1, 2)).guards[3].log_e
    assert both > one


def worker(reset: str, **arms: ArmCounts) -> WorkerCounts:
    return WorkerCounts("w0", reset, {key("fraud", 4, name): arm.pack() for name, arm in arms.items()}, {})


def test_a_reset_is_reported_once_and_earlier_counts_stay() -> None:
    evidence = Evidence("fraud")
    first = counts(100, range(GROUPS))
    assert evidence.feed([worker("a", champion=first, candidate=first)], 1, 0) == ""
    again = counts(40, range(GROUPS))
    assert "reset" in evidence.feed([worker("b", champion=again, candidate=again)], 1, 1)
    assert evidence.feed([worker("b", champion=again, candidate=again)], 1, 2) == ""
    assert evidence.arms()[4].champion.total(REQUESTS) == 140
    assert evidence.candidate_requests(4) == 140


def test_silent_workers_are_missing_not_quiet() -> None:
    assert "silent" in Evidence("fraud").feed([], 2, 0)
    assert Evidence("fraud").feed([], 0, 0) == "no worker is alive"


def test_another_services_counts_are_not_ours() -> None:
    evidence = Evidence("credit")
    evidence.feed([worker("a", champion=counts(10, range(GROUPS)), candidate=counts(10, range(GROUPS)))], 1, 0)
    assert evidence.arms() == {}


def test_tau_is_the_upper_edge_of_the_bin_of_the_95th_percentile() -> None:
    arm = ArmCounts()
    for number in range(100):
        arm.time(0, 1_000_000 if number < 95 else 8_000_000)
    evidence = Evidence("fraud")
    evidence.feed([worker("a", champion=arm)], 1, 0)
    tau = evidence.tau(4, 100)
    assert tau in TIME_EDGES
    assert 1_000_000 < tau <= 1_000_000 * 2 ** (1 / 8) + 1
    assert evidence.tau(4, 101) is None


def test_dispersion_rises_with_cards_that_differ() -> None:
    """All flags in a few groups: the champion is less steady than chance, and the bar is higher."""
    champion = counts(9000, range(10, GROUPS)).plus(ArmCounts())
    for group in (20, 30):
        for _ in range(40):
            champion.add(FLAGGED, 0, group)
    look = guards.judge({1: Arms(champion, counts(1000, range(10), flagged=30))}, {}, SETTINGS, (1, 1))
    assert look.guards[3].dispersion > 10
    assert look.guards[3].verdict != "fail"
    assert np.isfinite(look.guards[3].log_e)
