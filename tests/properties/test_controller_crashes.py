"""Kill the controller before and after every call that changes something: the end is the same."""

from __future__ import annotations

import pytest
from tests.world import Behaviour, Crash, Killer, World

from interlock.apps.views import rollout as view
from interlock.rollout import journal

CASES = {
    "good": (Behaviour(), "{shadow: 1s}, {weight: 50, for: 1s}", "1.1.0"),
    "bad": (Behaviour(error_rate=0.5), "{weight: 50, for: 30s}", "1.0.0"),
}


def end(case: str, killer: Killer) -> tuple[object, ...]:
    behaviour, steps, expected = CASES[case]
    world = World(seed=3)
    world.release("1.0.0", watch=1)
    world.finish()
    world.restart(killer)
    world.release("1.1.0", behaviour, steps=steps, watch=2, deadline=600)
    try:
        world.finish()
    except Crash:
        world.check()
        world.restart()
        world.finish()
    assert world.serving() == expected
    found = journal.rollouts(view.read(world.store)).values()
    last = list(found)[-1]
    table = world.scorers.table
    assert table is not None
    return (
        [each.state for each in found],
        last.reason,
        table.settled,
        world.scorers.latch,
        sorted(world.scorers.loaded),
        world.git.tree(world.git.head()),
    )


@pytest.mark.process  # a hundred whole rollouts: too many for the unit set
@pytest.mark.parametrize("case", CASES)
def test_a_kill_around_any_effect_changes_nothing_about_the_end(case: str) -> None:
    watcher = Killer()
    undisturbed = end(case, watcher)
    assert len(watcher.calls) >= 15
    for number in range(len(watcher.calls)):
        for after in (False, True):
            assert end(case, Killer(number, after)) == undisturbed, f"{watcher.calls[number]} {number} {after}"
