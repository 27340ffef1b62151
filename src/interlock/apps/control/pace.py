"""When the reconciler's next turn is due: at the end of a step or of work beside it, else after a pause.

A turn that comes early costs a look at the fleet; one that comes late is time that a release waits
for nothing. `Runner` wakes the loop whenever a load, an inverse commit or a look at the branch has
ended; `pause_s` ends the pause with the step that is under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from interlock.base.clock import NS_PER_S
from interlock.rollout.states import State
from interlock.rollout.values import Rollout

SHORTEST_S = 0.005
"""A pause is at least this long, whatever the clocks say."""


class Runner(ThreadPoolExecutor):
    """Threads for what a turn must not wait for; sets `wake` at the end of each piece of work."""

    def __init__(self, threads: int, wake: threading.Event) -> None:
        super().__init__(threads, thread_name_prefix="effect")
        self._wake = wake

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it on one of the threads."""
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self._wake.set())
        return future


def pause_s(rollouts: Iterable[Rollout], now_ns: int, most_s: float) -> float:
    """Seconds until the next turn: to the nearest end of a step, at most `most_s`."""
    ends = [end for rollout in rollouts if (end := _ends_ns(rollout)) > now_ns]
    return max(SHORTEST_S, min([most_s, *((end - now_ns) / NS_PER_S for end in ends)]))


def _ends_ns(rollout: Rollout) -> int:
    """When the step under way has had its time; 0: none is."""
    plan = rollout.plan
    if plan is None or rollout.pending:
        return 0
    if rollout.state is State.SHADOW:
        return rollout.since_ns + round(plan.shadow_s * NS_PER_S)
    if rollout.state is State.CANARY and rollout.index < len(plan.steps):
        return rollout.since_ns + round(plan.steps[rollout.index].for_s * NS_PER_S)
    return rollout.since_ns + round(plan.watch_s * NS_PER_S) if rollout.state is State.WATCHING else 0
