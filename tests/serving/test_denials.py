"""Denials on their way to the events: numbered, bounded, recorded once, also by the controller after this one."""

from __future__ import annotations

from tests.world import MemoryScorers

from interlock.apps.control.fleet import Fleet
from interlock.apps.control.memory import Memory
from interlock.apps.scorer.denials import MOST, Denials
from interlock.base.clock import ManualClock
from interlock.decision import admin
from interlock.decision.admin import Denial, Observed
from interlock.decision.counts import WorkerCounts
from interlock.serving.messages import Report, Totals, frame, words
from interlock.trust.memory import MemoryEventStore

NOW = 1_790_000_000_000_000_000


def denial(reason: str = "not granted") -> Denial:
    return Denial("shop1", "predict", "credit", reason, 3)


def test_numbers_ascend_also_when_the_clock_stands_still_or_goes_back() -> None:
    denials = Denials()
    for now in (NOW, NOW, NOW - 5, NOW + 1):
        denials.add([denial(), denial()], now)
    numbers = [each.number for each in denials.newest()]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == NOW


def test_a_supervisor_that_came_back_goes_on_above_its_predecessor() -> None:
    before, after = Denials(), Denials()
    before.add([denial()] * 5, NOW)
    after.add([denial()], NOW + 1_000_000)
    assert after.newest()[0].number > before.newest()[-1].number


def test_the_newest_are_kept() -> None:
    denials = Denials()
    denials.add([denial(str(place)) for place in range(MOST + 5)], NOW)
    assert [each.reason for each in denials.newest()] == [str(place) for place in range(5, MOST + 5)]


def test_each_is_recorded_once_whoever_controls() -> None:
    store, clock, denials = MemoryEventStore(), ManualClock(), Denials()
    fleet, memory = Fleet(MemoryScorers(clock, 1), store, clock, "controller"), Memory()
    denials.add([denial("a"), denial("b")], NOW)
    for _ in range(2):
        fleet.record_denials(Observed(1, {}, denials=denials.newest()), memory)
    denials.add([denial("c")], NOW + 9)
    fleet.record_denials(Observed(1, {}, denials=denials.newest()), Memory.of(store))
    events = store.after(0, ("access.denied",))
    assert [event.body["reason"] for event in events] == ["a", "b", "c"]
    assert (events[0].actor, events[0].object, events[0].outcome) == ("shop1", "service/credit", "refused")
    assert (events[0].time_ns, events[0].body["count"]) == (NOW, 3)


def test_they_travel_with_reports_and_observations() -> None:
    report = Report(WorkerCounts("w", "w", {}), {}, Totals(), denials=[denial()])
    assert words.decode(frame(report)[4:]) == report
    observed = Observed(1, {}, denials=[denial()])
    assert admin.reply(admin.frame(observed)[4:]) == observed
