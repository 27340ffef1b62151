"""The bench judges many runs at once; these tests hold it to what the product says about each of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench.statistics import paired
from bench.statistics.scenarios import SIX, all_scenarios
from bench.statistics.traffic import Burst, Load, Stream, blocks
from bench.statistics.twin import CANARY, LOOK_S, Block, Rule, argo_like, z_test

from interlock.analysis import dispersion, harm
from interlock.analysis.harm import ALIKE, Question, Seen
from interlock.analysis.paired import Flips
from interlock.analysis.sequential import MIN_EVENTS, EventShareTest, Evidence, Look
from interlock.decision.counts import BATCH_BINS, COUNTS, FLAGGED, GROUPS, REQUESTS, ArmCounts
from interlock.rollout.guards import GUARDS, Arms, Series, defaults, judge

LOOKS = 200
CHECKED = (1, 2, 7, 19, 20, 61, 121, 200)
STREAMS = {
    "even": Stream(0.005, 1.6),
    "bursts": Stream(0.005, 1.6, Burst(3.0)),
    "long bursts": Stream(0.02, 1.2, Burst(0.5, 60)),
    "scarce": Stream(0.0002, 4.0),
    "milder": Stream(0.01, 0.4),
}


def arm(block: Block, upto: int, groups: slice) -> ArmCounts:
    values = np.zeros((len(BATCH_BINS), GROUPS, len(COUNTS)), np.int64)
    values[0, groups, REQUESTS] = block.calls[0, :upto, groups].sum(axis=0)
    values[0, groups, FLAGGED] = block.events[0, :upto, groups].sum(axis=0)
    return ArmCounts(values)


def series(block: Block, upto: int) -> Series:
    events, calls = block.events[0, :upto, CANARY:], block.calls[0, :upto, CANARY:]
    return Series(*(each.sum(axis=1) for each in (events[:, ::2], events, calls[:, ::2], calls)))


@pytest.mark.parametrize("name", STREAMS)
def test_every_look_says_what_the_products_guards_say(name: str) -> None:
    block = blocks(Load(300, LOOKS * LOOK_S / 60), {"s": STREAMS[name]}, 1, np.random.default_rng(4))["s"]
    settings = defaults(0.01)
    rules = {
        guard: Rule("s", settings[guard].margin, settings[guard].alpha, down, downwards=down)
        for guard, down in (("flag_up", False), ("flag_down", True))
    }
    for upto in CHECKED:
        arms = {1: Arms(arm(block, upto, slice(CANARY, GROUPS)), arm(block, upto, slice(0, CANARY)))}
        product = judge(arms, {guard: series(block, upto) for guard in rules}, settings, (0, 1)).guards
        at = np.array([0]), np.array([upto - 1])
        for look in (one for one in product if one.guard in rules):
            rule = rules[look.guard]
            phi = block.phi(rule, *at)
            assert phi[0] == pytest.approx(look.dispersion, abs=1e-4)
            assert block.log_e(rule, *at, phi)[0] == pytest.approx(look.log_e, abs=1e-4)
            enough = bool(block.enough(rule, *at)[0]) and look.candidate + look.champion >= MIN_EVENTS
            assert (look.verdict != "inconclusive") == enough
            assert (look.verdict == "fail") == (enough and block.log_e(rule, *at, phi)[0] >= -np.log(rule.alpha))
            assert (look.verdict == "fail") <= (block.first(rule)[0] <= upto * LOOK_S)
            clears = replace(rule, theta0=1 / rule.theta0, swapped=not rule.swapped, theta_max=ALIKE)
            if look.verdict != "inconclusive":
                assert block.log_e(clears, *at, phi)[0] == pytest.approx(look.log_e_clear, abs=1e-4)


@pytest.mark.parametrize("name", STREAMS)
def test_both_estimates_of_the_dispersion_are_the_products(name: str) -> None:
    block = blocks(Load(300, LOOKS * LOOK_S / 60), {"s": STREAMS[name]}, 1, np.random.default_rng(6))["s"]
    for upto in range(1, LOOKS + 1):
        one = series(block, upto)
        time = dispersion.over_time(one.half_events, one.events, one.half_calls, one.calls)
        assert block.over_time[0, upto - 1] == pytest.approx(time or 0.0)
        champion = arm(block, upto, slice(CANARY, GROUPS)).values[0]
        groups = dispersion.over_groups(champion[:, FLAGGED], champion[:, REQUESTS])
        if upto % 20 == 1:
            assert block.over_groups(np.array([0]), np.array([upto - 1]))[0] == pytest.approx(groups or 0.0)


def test_the_first_rejection_is_found_where_every_look_is_computed_in_full() -> None:
    block = blocks(Load(1_000, 10), {"s": Stream(0.005, 1.8, Burst(0.5))}, 10, np.random.default_rng(8))["s"]
    rule = Rule("s", 1.1, 0.01)
    runs, looks = (each.ravel() for each in np.indices((10, 120)))
    log_e = block.log_e(rule, runs, looks, block.phi(rule, runs, looks)).reshape(10, 120)
    events = block.totals[0] + block.totals[2]
    rejects = (log_e >= -np.log(rule.alpha)) & (events >= 20) & block.enough(rule, runs, looks).reshape(10, 120)
    wanted = np.where(rejects.any(axis=1), (rejects.argmax(axis=1) + 1) * LOOK_S, np.inf)
    assert block.first(rule).tolist() == wanted.tolist()
    assert np.isfinite(wanted).sum() > 0


def test_a_fixed_dispersion_gives_the_verdicts_of_the_sequential_test() -> None:
    block = blocks(Load(1_000, 5), {"s": Stream(0.005, 2.0)}, 3, np.random.default_rng(2))["s"]
    test = EventShareTest(1.3, 0.002)
    for run in range(3):
        verdicts = []
        for at in range(60):
            counts = (int(each[run, at]) for each in block.totals)
            evidence = test.add(Evidence(), Look(*counts))
            verdicts.append(test.verdict(evidence, 1.0).word)
        first = block.first(Rule("s", 1.3, 0.002, dispersion="none"))[run]
        assert first == (verdicts.index("fail") + 1) * LOOK_S if "fail" in verdicts else np.isinf(first)


def test_bursts_have_the_variance_that_is_stated_for_the_canary() -> None:
    block = blocks(Load(20_000, 100), {"s": Stream(0.5, burst=Burst(1.0))}, 1, np.random.default_rng(1))["s"]
    share = block.steps[0][0] / (0.5 * block.steps[1][0])
    assert share.var() == pytest.approx(1.0, rel=0.35)


def test_cards_that_differ_spread_over_groups_and_chance_alone_does_not() -> None:
    streams = {"s": Stream(0.005, by_card=True)}
    at = np.arange(3), np.full(3, 359)
    spread = {}
    for cards in (0, 5_000):
        block = blocks(Load(500, 30, cards), streams, 3, np.random.default_rng(3))["s"]
        spread[cards] = float(np.median(block.over_groups(*at)))
    assert spread[0] < 1.4
    assert spread[5_000] > 2.5


@pytest.mark.parametrize("theta0", [1.0, 1.1])
def test_a_shadows_flips_are_judged_as_the_product_judges_them(theta0: float) -> None:
    flips = np.array([[0, 3, 60, 150], [0, 5, 20, 60], [0, 12, 90, 300]])
    ours = paired.log_e((flips[0], flips[1], flips[2]), theta0)
    for at, (up, down, kept) in enumerate(flips.T.tolist()):
        wanted = harm.find(Question(theta0, 0.002, 2.0, 0.05), Seen(flips=Flips(up, down, kept)), 1.5, True)
        assert ours[at] == pytest.approx(wanted.log_e)


def test_peers_see_what_they_are_built_to_see() -> None:
    doubled = blocks(Load(10_000, 10), {"s": Stream(0.005, 2.0)}, 2, np.random.default_rng(5))["s"]
    assert argo_like(doubled).tolist() == [240.0, 240.0]
    assert (z_test(doubled) <= 30).all()


def test_the_scenarios_judge_guards_that_the_product_has() -> None:
    names = {guard.name for guard in GUARDS}
    assert {"errors", "misses", "latency", "flag_up", "flag_down"} <= names
    assert sum(rule.alpha for rule in SIX) == pytest.approx(0.01)
    keys = [scenario.key for scenario in all_scenarios()]
    assert len(keys) == len(set(keys))
    rows = [measure.name for scenario in all_scenarios() for measure in scenario.measures]
    assert len(rows) == len(set(rows))
    assert all(
        scenario.runs >= 2_000
        for scenario in all_scenarios()
        for measure in scenario.measures
        if measure.statistic == "false"
    )


def test_the_stored_result_has_a_row_for_every_target() -> None:
    stored = json.loads((Path(__file__).parents[2] / "bench" / "results" / "statistics.json").read_text("utf-8"))
    every = [*all_scenarios(), *paired.scenarios()]
    wanted = [(scenario.key, measure.name) for scenario in every for measure in scenario.measures]
    assert [(row["scenario"], row["name"]) for row in stored["rows"]] == wanted
    assert {"name", "target", "bound", "achieved", "runs", "met"} <= set(stored["rows"][0])
