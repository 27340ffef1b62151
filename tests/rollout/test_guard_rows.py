"""What each guard judges, when it warns, and when its harm is excluded."""

from __future__ import annotations

import numpy as np
import pytest
from tests.rollout.arms_of import arm, scored

from interlock.base.verdict import Verdict
from interlock.decision.counts import ArmCounts, ShadowCounts
from interlock.rollout import guards
from interlock.rollout.guards import Arms, GuardLook, Look, Terms
from interlock.rollout.plan import GuardSetting, Slo

SETTINGS = guards.defaults(0.01)
TENTH, REST = (0, 10), (10, 100)
PAID = ("errors", "misses", "latency", "flag_up", "flag_down")


def judged(arms: dict[int, Arms], settings: dict[str, GuardSetting] = SETTINGS, terms: Terms | None = None) -> Look:
    return guards.judge(arms, {}, settings, (1, max(arms)), terms=terms or Terms())


def one(name: str, arms: Arms, setting: GuardSetting | None = None, terms: Terms | None = None) -> GuardLook:
    (found,) = judged({1: arms}, {name: setting or SETTINGS[name]}, terms).guards
    return found


def shadow(pairs: int, **more: int) -> Arms:
    return Arms(arm(pairs, flagged=more.pop("answered", 200)), None, ShadowCounts(pairs=pairs, **more))


def test_the_five_guards_of_the_budget_share_it_and_nothing_else_spends_any() -> None:
    assert {name for name, each in SETTINGS.items() if each.alpha} == set(PAID)
    assert all(SETTINGS[name].alpha == pytest.approx(0.002) for name in PAID)
    assert guards.spent(SETTINGS) == pytest.approx(0.01)
    assert guards.spent(SETTINGS | {"parity": GuardSetting(1.0, 0.5)}) == pytest.approx(0.01)
    assert guards.spent(SETTINGS | {"nulls": GuardSetting(2.0, 0.001)}) == pytest.approx(0.011)


def test_every_guard_but_parity_is_named_by_default_and_none_is_judged_that_is_not_named() -> None:
    arms = {1: Arms(arm(9_000, REST), arm(1_000, TENTH))}
    assert set(SETTINGS) == {each.name for each in guards.GUARDS} - {"parity"}
    assert [each.guard for each in judged(arms, {"nulls": GuardSetting(2.0, 0.001)}).guards] == ["nulls"]
    assert judged(arms, {}).verdict is Verdict.ERROR


@pytest.mark.parametrize("name", ["degraded", "nulls"])
def test_a_guard_without_a_part_of_the_budget_warns_and_one_with_it_fails(name: str) -> None:
    arms = Arms(arm(9_000, REST, **{name: 45}), arm(1_000, TENTH, **{name: 80}))
    warned = one(name, arms)
    assert (warned.verdict, warned.warns) == ("fail", True)
    assert judged({1: arms}).breached == ()
    paid = SETTINGS | {name: GuardSetting(2.0, 0.0005)}
    assert judged({1: arms}, paid).breached == (name,)


def test_a_shadow_that_always_raises_fails_for_its_errors() -> None:
    """It makes no pair at all, so pairs cannot be what errors are compared with."""
    found = one("errors", Arms(arm(5_000), None, ShadowCounts(errors=5_000)))
    assert found.verdict == "fail"
    assert one("errors", Arms(arm(5_000, errors=30), None, ShadowCounts(pairs=4_970, errors=30))).verdict == "pass"


@pytest.mark.parametrize(("up", "down", "wanted"), [(190, 0, "flag_up"), (0, 190, "flag_down")], ids=["up", "down"])
def test_flips_of_a_shadow_fail_the_flags_and_show_as_disagreement(up: int, down: int, wanted: str) -> None:
    look = judged({1: shadow(4_000, up=up, down=down, kept=200 - down)})
    assert look.breached == (wanted,)
    flips = next(each for each in look.guards if each.guard == "shadow_flips")
    assert (flips.verdict, flips.warns) == ("fail", True)


def test_a_shadow_that_flips_evenly_or_little_is_cleared_of_both_directions() -> None:
    for flips in ({"up": 5, "down": 5}, {"up": 12, "down": 4}):
        look = judged({1: shadow(40_000, kept=400, **flips)})
        rows = {each.guard: each for each in look.guards}
        for name in ("flag_up", "flag_down", "shadow_flips"):
            assert (rows[name].verdict, rows[name].cleared) == ("pass", True), (name, flips)


def test_a_shadow_excludes_harm_long_before_a_split_of_the_same_traffic() -> None:
    """20,000 transactions: 100 flags. Paired they exclude 1.3 times as many; unpaired they do not."""
    paired = one("flag_up", shadow(20_000, kept=95, up=3, down=3, answered=98))
    unpaired = one("flag_up", Arms(arm(10_000, (50, 100), flagged=49), arm(10_000, (0, 50), flagged=49)))
    assert (paired.cleared, unpaired.cleared) == (True, False)


def test_a_shadow_phase_ends_without_what_only_a_split_can_show() -> None:
    look = judged({1: shadow(40_000, kept=400)})
    assert look.unclear == ()
    rows = {each.guard: each for each in look.guards}
    assert rows["latency"].cleared
    assert rows["misses"].cleared
    assert rows["latency"].verdict == "inconclusive"


def test_a_split_waits_for_every_paid_guard() -> None:
    early = judged({1: Arms(arm(9_000, REST), arm(1_000, TENTH))})
    assert set(early.unclear) == set(PAID)
    champion = arm(900_000, REST, 200, flagged=9_000)
    late = judged({1: Arms(champion, arm(100_000, TENTH, 200, flagged=1_000))})
    assert late.unclear == ()
    assert late.verdict is Verdict.INCONCLUSIVE, "no error was ever seen: that says nothing, and excludes the harm"


def test_flags_too_few_are_never_excluded_absolutely_and_flags_too_many_by_a_limit_alone() -> None:
    rare = Arms(arm(90_000, REST, flagged=9), arm(10_000, TENTH, flagged=1))
    terms = Terms(slos=(Slo("flagged", 0.01),))
    assert not one("flag_up", rare).cleared
    assert one("flag_up", rare, terms=terms).cleared
    assert not one("flag_down", rare, terms=terms).cleared


def test_a_limit_of_the_policy_says_what_is_rare() -> None:
    some = Arms(arm(90_000, REST, errors=270), arm(10_000, TENTH, errors=30))
    assert not one("errors", some, GuardSetting(1.2, 0.002)).cleared
    assert one("errors", some, GuardSetting(1.2, 0.002), Terms(slos=(Slo("errors", 0.01),))).cleared
    relative = Terms(slos=(Slo("errors", 2.0, relative=True),))
    assert not one("errors", some, GuardSetting(1.2, 0.002), relative).cleared


def test_the_latency_of_a_tiny_model_is_harmless_without_a_threshold_and_that_of_a_slow_one_is_not() -> None:
    """No τ was frozen: nothing counts as slow, but the fixed bins of model time still tell."""
    tiny = Arms(arm(9_000, REST, 180), arm(1_000, TENTH, 250))
    assert one("latency", tiny).verdict == "inconclusive"
    assert one("latency", tiny).cleared
    big = Arms(arm(9_000, REST, 3_000), arm(1_000, TENTH, 3_600))
    assert not one("latency", big).cleared
    assert one("latency", big, terms=Terms(slos=(Slo("p95", 20.0),))).cleared


def test_a_relative_limit_of_latency_says_nothing_of_what_is_harmless() -> None:
    """Three calls in a hundred are over the floor: too many for 1 %, few enough for a p95 that nobody gave."""
    some = Arms(arm(90_000, REST, 180), arm(9_700, TENTH, 250).plus(arm(300, TENTH, 3_000)))
    assert not one("latency", some, terms=Terms(slos=(Slo("p95", 1.2, relative=True),))).cleared
    assert one("latency", some, terms=Terms(slos=(Slo("p95", 1.2),))).cleared


def test_the_floor_of_the_latency_threshold_is_an_edge_of_a_quarter_of_a_millisecond() -> None:
    assert 250_000 <= guards.TAU_FLOOR_NS <= 260_000


def test_one_score_apart_fails_a_parity_release_and_equal_scores_exclude_it() -> None:
    setting = GuardSetting(1.0, 0.0)
    apart = ShadowCounts(pairs=50_000, largest=2e-6)
    assert one("parity", Arms(arm(50_000), None, apart), setting).verdict == "fail"
    assert judged({1: Arms(arm(50_000), None, apart)}, {"parity": setting}).breached == ("parity",)
    same = one("parity", Arms(arm(50_000), None, ShadowCounts(pairs=50_000, largest=9e-7)), setting)
    assert (same.verdict, same.cleared) == ("pass", True)
    few = one("parity", Arms(arm(50), None, ShadowCounts(pairs=50)), setting)
    assert (few.verdict, few.cleared) == ("pass", False)
    assert one("parity", Arms(arm(50), None, ShadowCounts()), setting).verdict == "inconclusive"


def fraud(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.3, 12, size)


def test_scores_of_another_shape_warn_and_never_breach() -> None:
    champion = scored(arm(90_000, REST, flagged=450), fraud(90_000, 1))
    moved = fraud(10_000, 2)
    same = one("score_shape", Arms(champion, scored(arm(10_000, TENTH, flagged=50), moved)))
    assert (same.verdict, same.cleared, same.warns) == ("pass", True, True)
    moved[:100] = 0.8
    arms = {1: Arms(champion, scored(arm(10_000, TENTH, flagged=50), moved))}
    look = judged(arms, terms=Terms(cuts=(0.5, 0.7)))
    shape = look.guards[[each.guard for each in look.guards].index("score_shape")]
    assert (shape.verdict, shape.warns) == ("fail", True)
    assert shape.log_e > shape.bound >= 0.005
    assert look.breached == ()
    assert look.verdict is not Verdict.FAIL


def test_the_shape_of_a_shadows_scores_is_seen_before_anybody_meets_it() -> None:
    champion = scored(arm(50_000, flagged=250), fraud(50_000, 3))
    beside = scored(ArmCounts(), np.minimum(fraud(50_000, 3) * 3, 0.99)).scores
    arms = Arms(champion, None, ShadowCounts(pairs=50_000, kept=250, scores=beside))
    assert one("score_shape", arms).verdict == "fail"


def test_flags_of_few_cards_are_not_judged_and_those_of_many_are() -> None:
    """80 flags of the candidate from two card groups may be two cards."""
    champion = arm(50_000, (50, 100), flagged=100)
    few = arm(50_000, (0, 50))
    few.values[0, (3, 7), 5] += 40
    assert one("flag_up", Arms(champion, few)).verdict == "inconclusive"
    assert not one("flag_up", Arms(champion, few)).cleared
    assert one("flag_up", Arms(champion, arm(50_000, (0, 50), flagged=300))).verdict == "fail"


def test_without_twenty_card_groups_nothing_is_judged() -> None:
    """Half of the cards are there: 19 groups of each arm, then 20."""
    for groups, wanted in ((19, "inconclusive"), (20, "fail")):
        arms = Arms(arm(9_000, (0, groups), flagged=45), arm(9_000, (50, 50 + groups), flagged=900))
        assert one("flag_up", arms).verdict == wanted


def test_a_champion_that_keeps_a_twentieth_is_still_compared_with() -> None:
    """Dispersion comes from the candidate's groups then: cards that differ raise the bar as ever."""
    candidate = arm(19_000, (5, 100), flagged=950)
    assert one("flag_up", Arms(arm(1_000, (0, 5), flagged=5), candidate)).verdict == "fail"
    candidate.values[0, 20:23, 5] += 300
    assert one("flag_up", Arms(arm(1_000, (0, 5), flagged=5), candidate)).dispersion > 20


def test_power_is_told_of_the_guards_that_may_go_back() -> None:
    arms = {1: Arms(arm(90_000, REST, flagged=450), arm(10_000, TENTH, flagged=50))}
    assert set(guards.powers(arms, judged(arms), SETTINGS)) == set(PAID)
