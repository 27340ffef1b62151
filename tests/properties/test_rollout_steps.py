"""The machine alone, fed anything in any order: the unlisted changes nothing, and the way back stays open."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError
from interlock.decision.table import BUCKETS
from interlock.rollout import policy
from interlock.rollout.plan import Plan
from interlock.rollout.routes import table
from interlock.rollout.states import FINAL, State
from interlock.rollout.step import fold, step
from interlock.rollout.values import (
    Aborted,
    Admitted,
    Begun,
    Latched,
    Looked,
    Observation,
    Outcome,
    Paused,
    Rejected,
    Resumed,
    Rollout,
    Superseded,
    Target,
)

A, B, F = ("sha256:" + letter * 64 for letter in "abf")
OLD, NEW = Target("1.0.0", A, F, "c0"), Target("1.1.0", B, F, "c1")
FIRST = Rollout(
    id="r1", service="fraud", commit="c1", folder=F, version="1.1.0", wish="w", salt="ab" * 32, started_ns=1, since_ns=1
)
WORDS = {
    "canary": "strategy: canary, steps: [{shadow: 2s}, {weight: 10, for: 2s}, {weight: 50, for: 2s}]",
    "blue-green": "strategy: blue-green, steps: [{shadow: 2s}]",
    "shadow": "strategy: shadow, steps: [{shadow: 2s}]",
    "parity": "strategy: parity, steps: [{shadow: 2s}, {weight: 50, for: 2s}]",
    "ab": "strategy: ab, steps: [], experiment: {split: 30, for: 4s}",
}


def plan(name: str, advance: str) -> Plan:
    text = "apiVersion: interlock.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {name: fraud}\n"
    text += f"spec: {{{WORDS[name]}, advance: {advance}, watch: {{for: 3s}}, deadline: 20s, hold: 15s}}\n"
    return policy.parse_policy(text, "rollout.yaml")


PLANS = [plan(name, advance) for name in WORDS for advance in ("timeline", "evidence")]
WORD = st.sampled_from(["", "", "", "errors"])
LOOKS = st.builds(
    Looked,
    breach=WORD,
    missing=WORD,
    candidate_requests=st.sampled_from([0, 100]),
    tau_ns=st.sampled_from([None, 1_000]),
    champion_ready=st.booleans(),
    unclear=WORD,
    winner=st.sampled_from(["", "candidate", "champion"]),
)
SEEN = st.one_of(
    LOOKS,
    LOOKS,
    st.builds(Outcome, n=st.integers(1, 14), ok=st.booleans()),
    st.sampled_from(["next", "next", "next"]),
    st.sampled_from(
        [
            Begun(),
            Rejected("no"),
            Aborted("ada", "enough"),
            Latched("other", "by hand", "ada", 5),
            Paused("ada", "wait"),
            Resumed("ada", "go"),
            Resumed("ada", "go", advance=True),
            Superseded("c2"),
        ]
    ),
)


def sound(rollout: Rollout) -> None:
    """Every table that is asked for covers all entities, and none has a candidate before its admission."""
    for effect in rollout.pending:
        if effect.kind == "set_route":
            routed = table(rollout, effect, 1, 60.0)
            if routed.arms:
                assert sum(high - low for arm in routed.arms for low, high in arm.ranges) == BUCKETS
            assert rollout.candidate is not None
    assert rollout.candidate is not None or rollout.state not in _SERVED


_SERVED = set(State) - {State.PROPOSED, State.CHECKING, State.REFUSED, State.SUPERSEDED}


def stepped(rollout: Rollout, seen: Any, now_ns: int) -> tuple[Rollout, Observation | None]:
    """One step, `next` being the outcome of the first pending effect; what is not listed changes nothing."""
    if seen == "next":
        seen = Outcome(rollout.pending[0].n) if rollout.pending else Looked(candidate_requests=1, tau_ns=1_000)
    try:
        changed, effects = step(rollout, seen, now_ns)
    except RefusedError:
        return rollout, None
    assert all(effect in changed.pending for effect in effects)
    if isinstance(seen, Looked) and not seen.champion_ready and rollout.champion and changed.state != rollout.state:
        assert rollout.state is State.LOADING or changed.state is not State.ROLLING_BACK, "back onto a broken champion"
    return changed, seen


def way_back(rollout: Rollout, now_ns: int) -> None:
    """From wherever it is, an abort and a latch lead to an end without the candidate."""
    if rollout.state in FINAL | {State.PROPOSED, State.REOPENED}:
        return
    for seen in (Aborted("ada", "enough"), Latched("other", "by hand", "ada", 5)):
        going, _ = step(rollout, seen, now_ns)
        if isinstance(seen, Latched) and going.state is State.CHECKING:
            continue
        assert going.state in {State.ROLLING_BACK, State.RETREATED, State.REFUSED}
        while going.pending:
            going, _ = step(going, Outcome(going.pending[0].n), now_ns)
        assert going.state in {State.ROLLED_BACK, State.REFUSED}
        assert going.shape in ("", "champion")


@settings(max_examples=120)
@given(
    st.sampled_from(PLANS),
    st.booleans(),
    st.lists(st.tuples(SEEN, st.sampled_from([0.0, 0.5, 3.0])), max_size=25),
)
def test_whatever_is_seen_tables_are_whole_the_way_back_is_open_and_the_journal_gives_the_state(
    plan: Plan, first: bool, story: list[tuple[Any, float]]
) -> None:
    rollout, now_ns, told = FIRST, 1, list[tuple[Observation, int]]()
    opening = [(Begun(), 0.0), (Admitted(NEW, plan, None if first else OLD, 4), 0.0), ("next", 0.0), ("next", 0.0)]
    for seen, pause_s in [*opening, *story]:
        now_ns += round(pause_s * NS_PER_S)
        rollout, taken = stepped(rollout, seen, now_ns)
        if taken is not None:
            told.append((taken, now_ns))
        sound(rollout)
        way_back(rollout, now_ns)
    assert fold(FIRST, told) == rollout
