"""A supervisor's start and end become events, once, whoever controls."""

from __future__ import annotations

from tests.world import MemoryScorers

from interlock.apps.control.fleet import Fleet
from interlock.apps.control.memory import Memory
from interlock.base.clock import ManualClock
from interlock.decision.admin import Observed
from interlock.trust.memory import MemoryEventStore

FIRST, SECOND = 1_790_000_000_000_000_000, 1_790_000_900_000_000_000


def test_each_supervisor_is_told_once_and_its_predecessor_has_ended() -> None:
    store, clock = MemoryEventStore(), ManualClock()
    fleet, memory = Fleet(MemoryScorers(clock, 1), store, clock, "controller"), Memory()
    for _ in range(2):
        fleet.record_start(Observed(2, {}, began_ns=FIRST), memory)
    fleet.record_start(Observed(2, {}, began_ns=FIRST), Memory.of(store))
    fleet.record_start(Observed(2, {}, began_ns=SECOND), Memory.of(store))
    told = [(event.type, event.body["began"]) for event in store.after(0)]
    assert told == [
        ("scorer.started", str(FIRST)),
        ("scorer.stopped", str(FIRST)),
        ("scorer.started", str(SECOND)),
    ]
    assert Memory.of(store).scorer_began == SECOND


def test_a_supervisor_that_does_not_say_when_it_began_is_no_event() -> None:
    store, clock = MemoryEventStore(), ManualClock()
    Fleet(MemoryScorers(clock, 1), store, clock, "controller").record_start(Observed(2, {}), Memory())
    assert store.after(0) == []
