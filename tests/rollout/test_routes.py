"""The table that an effect asks for: who decides segments while versions change."""

from __future__ import annotations

import pytest
from tests.world import Behaviour, World

from interlock.decision.table import Segments
from interlock.rollout.routes import table
from interlock.rollout.states import State
from interlock.rollout.values import Effect, Rollout, Target

A, B, F = ("sha256:" + c * 64 for c in "abf")
OLD, NEW = Segments("country", {"FR": "fraud-fr"}), Segments("country", {"DE": "fraud-de"})


def rollout(champion: bool = True) -> Rollout:
    return Rollout(
        id="r1",
        service="fraud",
        commit="c",
        folder=F,
        version="1.1.0",
        wish="w",
        salt="ab" * 32,
        started_ns=1,
        state=State.CANARY,
        champion=Target("1.0.0", A, F, "c", OLD) if champion else None,
        candidate=Target("1.1.0", B, F, "c", NEW),
        latch="r1",
    )


def segments(one: Rollout, shape: str, share: int = 0) -> Segments | None:
    return table(one, Effect(1, "set_route", generation=2, shape=shape, share=share), 1, 60.0).segments


@pytest.mark.parametrize("shape", ["baseline", "shadow", "split", "champion"])
def test_the_champions_routing_rules_until_the_candidate_has_settled(shape: str) -> None:
    assert segments(rollout(), shape, 1_000) == OLD


def test_the_candidates_routing_comes_with_its_settling() -> None:
    assert segments(rollout(), "settled", 10_000) == NEW


def test_a_first_release_brings_its_routing_and_takes_it_along_when_it_goes() -> None:
    assert segments(rollout(champion=False), "split", 10_000) == NEW
    assert segments(rollout(champion=False), "champion") is None


def test_routing_changes_once_its_release_has_settled_and_a_bad_candidate_changes_none() -> None:
    old, new = ({"field": "country", "services": {"FR": name}} for name in ("fraud-fr", "fraud-south"))
    world = World(1)
    world.release("1.0.0", routing=old)
    world.finish()
    assert world.table.segments == Segments(**old)
    world.release("1.1.0", Behaviour(flag_rate=0.4), routing=new)
    world.run(4)
    assert world.table.segments == Segments(**old)
    world.restart()
    world.finish()
    assert (world.serving(), world.table.segments) == ("1.0.0", Segments(**old))
    world.release("1.2.0", routing=new)
    world.finish()
    assert (world.serving(), world.table.segments) == ("1.2.0", Segments(**new))
    world.release("1.3.0")
    world.finish()
    assert world.table.segments is None
