"""Lives under random faults: a few here; a thousand rollouts with `python -m bench.rollout_world`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests import lives
from tests.lives import Act, Life


@pytest.mark.parametrize("seed", [2])
def test_whatever_strikes_a_life_ends_with_what_git_or_a_recorded_reason_says(seed: int) -> None:
    played = lives.play(lives.draw(seed, releases=3))
    assert played.rollouts >= 5
    assert sum(count for end, count in played.ends.items() if end != "held") == played.rollouts


def test_a_life_is_its_seed() -> None:
    assert lives.draw(7) == lives.draw(7)
    assert lives.draw(7) != lives.draw(8)


def test_every_fault_is_drawn_sometimes() -> None:
    drawn = {act.what for seed in range(60) for act in lives.draw(seed).acts}
    assert drawn == {*lives.FAULTS, "release", "unapproved"}


def test_a_life_that_fails_is_shrunk_to_what_breaks_it() -> None:
    life = Life(1, tuple(Act(float(at), what) for at, what in enumerate("abcdefgh")))

    def breaks(life: Life) -> str:
        return "c after f" if {"c", "f"} <= {act.what for act in life.acts} else ""

    assert lives.shrink(life, breaks) == replace(life, acts=(life.acts[2], life.acts[5]))
