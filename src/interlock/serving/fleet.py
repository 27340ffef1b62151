"""Which workers should live: a pure table of states and events. Acts on nothing.

A worker is *starting* until it is ready, *serving* until it is asked to leave, hangs, falls silent
or ends, *leaving* until it ends. One that is to be replaced, or in which a model call hangs, still
answers: it is *retiring*, serves on, and leaves when its successor is ready, giving it its idle
connections, so that nobody's request is lost. One that is silent cannot be asked, and is killed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError

STARTING, SERVING, RETIRING, LEAVING = "starting", "serving", "retiring", "leaving"

# (state, event) -> (state after, what to do). None: the worker is forgotten.
TRANSITIONS: dict[tuple[str, str], tuple[str | None, tuple[str, ...]]] = {
    (STARTING, "ready"): (SERVING, ("relieve",)),
    (STARTING, "late"): (LEAVING, ("spawn", "kill")),
    (STARTING, "unfit"): (LEAVING, ("spawn", "kill")),
    (STARTING, "ended"): (None, ("spawn",)),
    (STARTING, "stop"): (LEAVING, ("terminate",)),
    (SERVING, "silent"): (LEAVING, ("spawn", "kill")),
    (SERVING, "hung"): (RETIRING, ("spawn",)),
    (SERVING, "replace"): (RETIRING, ("spawn",)),
    (SERVING, "ended"): (None, ("spawn",)),
    (SERVING, "stop"): (LEAVING, ("terminate",)),
    (RETIRING, "relieved"): (LEAVING, ("hand_over",)),
    (RETIRING, "hung"): (RETIRING, ()),
    (RETIRING, "replace"): (RETIRING, ()),
    (RETIRING, "silent"): (LEAVING, ("kill",)),
    (RETIRING, "ended"): (None, ()),
    (RETIRING, "stop"): (LEAVING, ("terminate",)),
    (LEAVING, "late"): (LEAVING, ("kill",)),
    (LEAVING, "ended"): (None, ()),
    (LEAVING, "stop"): (LEAVING, ()),
}


@dataclass(frozen=True)
class Worker:
    """One worker as the supervisor sees it: since when in its state, and when it was last heard of."""

    name: str
    state: str
    since_ns: int
    heard_ns: int

    @property
    def serves(self) -> bool:
        """Whether it takes requests, and so must have every table."""
        return self.state in (SERVING, RETIRING)


def apply(worker: Worker, event: str, now_ns: int) -> tuple[Worker | None, tuple[str, ...]]:
    """The worker after an event, and what to do about it.

    Raises:
        UsageError: the event is not listed for its state; nothing changes.
    """
    found = TRANSITIONS.get((worker.state, event))
    if found is None:
        raise UsageError(f"a worker that is {worker.state} has no event {event}", "this is a defect: report it")
    state, actions = found
    return (None if state is None else replace(worker, state=state, since_ns=now_ns)), actions


def heard(worker: Worker, now_ns: int) -> Worker:
    """The worker after it said something."""
    return replace(worker, heard_ns=now_ns)


def overdue(worker: Worker, now_ns: int, start_s: float, silence_s: float, leave_s: float = float("inf")) -> str | None:
    """The event that the passing of time brings, if any: a worker may start, be silent and leave for so long."""
    limits = {STARTING: start_s, LEAVING: leave_s}
    if worker.state in limits:
        return "late" if now_ns - worker.since_ns > limits[worker.state] * NS_PER_S else None
    return "silent" if now_ns - worker.heard_ns > silence_s * NS_PER_S else None
