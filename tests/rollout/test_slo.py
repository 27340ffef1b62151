"""Absolute and sustained limits on real counters."""

from __future__ import annotations

import pytest

from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.base.strict_yaml import YamlError
from interlock.decision.counts import ERRORS, REQUESTS, TIME_EDGES, ArmCounts
from interlock.rollout import slo
from interlock.rollout.plan import Slo
from interlock.rollout.policy import parse_policy
from interlock.rollout.slo import Sample, SloLook

ERRORS_1 = Slo("errors", 0.01)
P95_20 = Slo("p95", 1.2, 300.0, relative=True)


class Readings:
    """Counters that grow, read once a second."""

    def __init__(self) -> None:
        self.arms = [ArmCounts(), ArmCounts()]
        self.now_s = 0
        self.samples = [Sample.of(0, *self.arms)]

    def second(self, champion: tuple[int, int], candidate: tuple[int, int], ms: tuple[float, float] = (2, 2)) -> None:
        """(requests, errors) of each arm, and the time of its model calls."""
        self.now_s += 1
        for arm, (requests, errors), spent in zip(self.arms, (champion, candidate), ms, strict=True):
            arm.add(REQUESTS, 0, 0, requests)
            arm.add(ERRORS, 0, 0, errors)
            for _ in range(requests):
                arm.time(0, round(spent * NS_PER_MS))
        self.samples.append(Sample.of(self.now_s * NS_PER_S, *self.arms))

    def lost(self) -> None:
        """A reading that failed."""
        self.now_s += 1
        self.samples.append(Sample.of(self.now_s * NS_PER_S, *self.arms, seen=False))

    def look(self, limit: Slo, later_s: float = 0.0) -> SloLook:
        (found,) = slo.judge(self.samples, (limit,), round((self.now_s + later_s) * NS_PER_S))
        return found


def test_a_share_over_its_limit_fails_once_twenty_events_are_seen() -> None:
    seen = Readings()
    seen.second((900, 0), (100, 19))
    assert (seen.look(ERRORS_1).verdict, seen.look(ERRORS_1).reason) == ("inconclusive", "exceeded by few events")
    seen.second((900, 0), (100, 1))
    found = seen.look(ERRORS_1)
    assert (found.verdict, found.value, found.over_s) == ("fail", 0.1, 2.0)
    assert slo.breached([found]) == ("errors > 0.01",)
    assert slo.unclear([found]) == ("errors > 0.01",)


def test_a_share_below_its_limit_passes_and_a_storm_that_is_over_is_forgotten() -> None:
    seen = Readings()
    seen.second((900, 0), (100, 50))
    for _ in range(61):
        seen.second((900, 0), (100, 0))
    assert seen.look(ERRORS_1).verdict == "pass"
    assert slo.unclear([seen.look(ERRORS_1)]) == ()


def test_an_error_storm_on_both_arms_is_an_incident_and_no_breach() -> None:
    """Pitfall 11: a brownout of what both arms need is not the candidate's doing."""
    seen = Readings()
    seen.second((900, 270), (100, 31))
    found = seen.look(ERRORS_1)
    assert found.verdict == "inconclusive"
    assert "incident" in found.reason
    worse = Readings()
    worse.second((900, 18), (100, 31))
    assert worse.look(ERRORS_1).verdict == "fail"


def test_without_a_champion_in_traffic_a_limit_still_holds() -> None:
    seen = Readings()
    seen.second((0, 0), (100, 30))
    assert seen.look(ERRORS_1).verdict == "fail"


def test_no_traffic_and_no_reading_and_old_readings_are_inconclusive() -> None:
    assert slo.judge([], (ERRORS_1,), 0)[0].verdict == "inconclusive"
    seen = Readings()
    seen.second((900, 0), (19, 0))
    assert seen.look(ERRORS_1).reason == "too few calls of the candidate"
    seen.second((900, 0), (100, 0))
    assert seen.look(ERRORS_1).verdict == "pass"
    assert seen.look(ERRORS_1, later_s=4.0).verdict == "pass"
    assert seen.look(ERRORS_1, later_s=6.0).reason == "no counters"


def test_a_failed_reading_is_never_a_pass_and_what_came_before_it_is_not_used() -> None:
    """Pitfall 5."""
    seen = Readings()
    seen.second((900, 0), (100, 0))
    seen.lost()
    assert seen.look(ERRORS_1).verdict == "inconclusive"
    seen.second((900, 0), (100, 0))
    assert seen.look(ERRORS_1).verdict == "inconclusive"
    seen.second((900, 0), (100, 0))
    assert seen.look(ERRORS_1).verdict == "pass"


def test_a_counter_that_fell_gives_no_negative_share() -> None:
    """Pitfall 7: differences across a reset are not taken."""
    seen = Readings()
    seen.second((900, 9), (100, 60))
    seen.arms = [ArmCounts(), ArmCounts()]
    seen.second((900, 9), (100, 40))
    assert (seen.look(ERRORS_1).verdict, seen.look(ERRORS_1).value) == ("inconclusive", None)
    seen.second((900, 9), (100, 40))
    assert (seen.look(ERRORS_1).verdict, seen.look(ERRORS_1).value) == ("fail", 0.4)


def slower(seen: Readings, seconds: int, ratio: float) -> None:
    for _ in range(seconds):
        seen.second((40, 0), (40, 0), (2.0, 2.0 * ratio))


def test_a_slower_p95_fails_only_when_it_has_lasted() -> None:
    seen = Readings()
    slower(seen, 10, 1.0)
    assert seen.look(P95_20).verdict == "inconclusive"
    slower(seen, 150, 1.0)
    assert seen.look(P95_20).verdict == "pass"
    slower(seen, 200, 1.5)
    found = seen.look(P95_20)
    assert (found.verdict, found.reason) == ("inconclusive", "exceeded, not for long enough yet")
    slower(seen, 100, 1.5)
    found = seen.look(P95_20)
    assert found.verdict == "fail"
    assert found.name == "p95 > 1.2 x for 300 s"
    assert found.value is not None
    assert 1.2 < found.value < 1.7
    slower(seen, 60, 1.0)
    assert seen.look(P95_20).verdict == "pass"


def test_one_good_second_in_a_bad_minute_does_not_end_it() -> None:
    seen = Readings()
    for _ in range(11):
        slower(seen, 29, 1.5)
        slower(seen, 1, 1.0)
    assert seen.look(P95_20).verdict == "fail"


def test_a_gap_begins_a_sustained_time_anew() -> None:
    seen = Readings()
    slower(seen, 200, 1.5)
    seen.lost()
    slower(seen, 150, 1.5)
    assert seen.look(P95_20).reason == "too short a time without a gap"


def test_a_quantile_is_an_edge_of_the_fixed_bins() -> None:
    seen = Readings()
    seen.second((300, 0), (300, 0), (2.0, 3.0))
    found = seen.look(Slo("p95", 3.0))
    assert found.value is not None
    assert round(found.value * NS_PER_MS) in TIME_EDGES
    assert found.verdict == "fail"
    assert seen.look(Slo("p95", 4.0)).verdict == "pass"


def test_a_relative_limit_needs_the_champion() -> None:
    seen = Readings()
    seen.second((5, 0), (400, 30))
    assert seen.look(Slo("errors", 2.0, relative=True)).reason == "too few calls of the champion"
    seen.second((400, 0), (400, 30))
    found = seen.look(Slo("errors", 2.0, relative=True))
    assert found.verdict == "fail"
    assert found.value == pytest.approx(30 / 400 / (1 / 400))


def test_what_no_limit_needs_any_more_is_let_go() -> None:
    seen = Readings()
    slower(seen, 400, 1.0)
    now = seen.now_s * NS_PER_S
    few = slo.kept(seen.samples, (ERRORS_1,), now)
    more = slo.kept(seen.samples, (P95_20,), now)
    assert (len(few), len(more)) == (61, 301)
    assert slo.judge(more, (P95_20, ERRORS_1), now) == slo.judge(seen.samples, (P95_20, ERRORS_1), now)


def test_no_limit_is_sustained_for_longer_than_samples_are_kept() -> None:
    text = (
        "apiVersion: interlock.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: fraud}\nspec:\n"
        "  strategy: canary\n  steps: []\n  slo: [{metric: p95, above: 1.2, relative: true, for: %s}]\n"
    )
    assert parse_policy(text % "1h", "rollout.yaml").slos[0].for_s == 3600
    with pytest.raises(YamlError, match="an hour"):
        parse_policy(text % "2h", "rollout.yaml")
