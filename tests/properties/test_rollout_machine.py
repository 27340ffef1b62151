"""Random lives of a deployment, drawn and shrunk by Hypothesis: what must hold, holds at every instant and in the end.

`tests/lives.py` says what may happen and what is checked; `python -m bench.rollout_world` plays a thousand rollouts.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests import lives
from tests.lives import BEHAVIOURS, FAULTS, POLICIES, SERVICES, Act, Life

AT_S = st.floats(0, 30).map(lambda at: round(2 * at) / 2)
RELEASES = st.builds(
    Act,
    AT_S,
    st.sampled_from(["release", "release", "release", "unapproved"]),
    st.sampled_from(SERVICES),
    st.builds("{} {}".format, st.sampled_from(sorted(BEHAVIOURS)), st.sampled_from(sorted(POLICIES))),
)
QUESTIONS = st.builds(
    Act,
    AT_S,
    st.just("ask"),
    st.sampled_from(SERVICES),
    st.sampled_from(["abort", "pause", "resume", "advance", "rollback"]),
)
STRIKES = st.builds(
    Act,
    AT_S,
    st.sampled_from(sorted(set(FAULTS) - {"ask"})),
    st.sampled_from(SERVICES),
    st.sampled_from(["before", "after"]),
    st.integers(0, 13),
    st.sampled_from([0.5, 2.0, 7.0, 12.0]),
)
ACTS = st.lists(st.one_of(RELEASES, QUESTIONS, STRIKES), min_size=2, max_size=10)


@settings(max_examples=8)
@given(ACTS, st.integers(0, 1000))
def test_whatever_happens_the_promises_hold(acts: list[Act], seed: int) -> None:
    lives.play(Life(seed, tuple(sorted(acts, key=lambda act: act.at_s))))
