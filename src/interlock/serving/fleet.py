"""Which workers should live: a pure table of states and events. Acts on nothing.

A worker is *starting* until it is ready, *serving* until it is asked to leave, hangs, falls silent
or ends, *leaving* until it ends. A replacement is started before its predecessor is told to leave;
a worker that is silent or hung is killed, since it cannot be asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError

STARTING, SERVING, LEAVING = "starting", "serving", "leaving"

# (state, event) -> (state after, what to do). None: the worker is forgotten.
TRANSITIONS: dict[tuple[str, str], tuple[str | None, tuple[str, ...]]] = {
    (STARTING, "ready"): (SERVING, ("serve",)),
    (STARTING, "late"): (LEAVING, ("spawn", "kill")),
    (STARTING, "ended"): (None, ("spawn",)),
    (STARTING, "stop"): (LEAVING, ("terminate",)),
    (SERVING, "silent"): (LEAVING, ("spawn", "kill")),
    (SERVING, "hung"): (LEAVING, ("spawn", "kill")),
    (SERVING, "ended"): (None, ("spawn",)),
    (SERVING, "stop"): (LEAVING, ("terminate",)),
    (LEAVING, "ended"): (None, ()),
    (LEAVING, "stop"): (LEAVING, ()),
}


@dataclass(frozen=True)
class Worker:
    """One worker as the supervisor sees it."""

    name: str
    state: str
    since_ns: int
    heard_ns: int


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


def overdue(worker: Worker, now_ns: int, start_s: float, silence_s: float) -> str | None:
    """The event that the passing of time brings, if any."""
    if worker.state == STARTING and now_ns - worker.since_ns > start_s * NS_PER_S:
        return "late"
    if worker.state == SERVING and now_ns - worker.heard_ns > silence_s * NS_PER_S:
        return "silent"
    return None
