"""What processes cost: CPU time of whole process trees, resident memory, how busy the machine was.

CPU time comes from each process's CPU clock (nanoseconds, threads that ended included) and from
what it has collected of children that ended (ticks of 10 ms). Linux only.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """A process and all that live below it."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_ns(pid: int) -> int:
    """CPU time of one living process and of its children that ended (0: it is gone)."""
    try:
        own = time.clock_gettime_ns((~pid << 3) | 2)  # clock_getcpuclockid(3): CPUCLOCK_SCHED of the process
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return own + (int(fields[13]) + int(fields[14])) * _TICK_NS


def trees_ns(roots: list[int]) -> dict[int, int]:
    """CPU time by process, of several trees."""
    return {pid: cpu_ns(pid) for root in roots for pid in tree(root)}


def spent_ns(before: dict[int, int], after: dict[int, int]) -> int:
    """CPU time between two readings; a process that ended in between is in its parent's."""
    # A child that was there before and is gone now appears in its parent with its whole life.
    gone = sum(value for pid, value in before.items() if pid not in after)
    return sum(value - before.get(pid, 0) for pid, value in after.items()) - gone


def resident_mb(pids: list[int]) -> dict[int, float]:
    """Resident memory by process, in MiB."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found[pid] = round(pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576, 1)
    return found


def busy_ns() -> int:
    """CPU time that the whole machine has spent on anything (idle, waiting and stolen time excluded)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) * _TICK_NS


class Meter:
    """Readings at the start and the end of a measured phase.

    Args:
        groups: name → root processes, such as `server` and `store`; the reader itself is `generator`.
    """

    def __init__(self, groups: dict[str, list[int]]) -> None:
        self._groups = {**groups, "generator": [os.getpid()]}
        self._before = {name: trees_ns(roots) for name, roots in self._groups.items()}
        self._busy = busy_ns()
        self._started = time.monotonic_ns()

    def read(self) -> dict[str, Any]:
        """CPU by group and by process since the start, memory now, and what others took meanwhile."""
        elapsed = time.monotonic_ns() - self._started
        after = {name: trees_ns(roots) for name, roots in self._groups.items()}
        spent = {name: spent_ns(self._before[name], after[name]) for name in after}
        others = max(0, busy_ns() - self._busy - sum(spent.values()))
        return {
            "cpu_ns": spent,
            "by_process_ns": {
                name: {pid: value - self._before[name].get(pid, 0) for pid, value in pids.items()}
                for name, pids in after.items()
            },
            "rss_mb": {name: resident_mb(list(pids)) for name, pids in after.items()},
            "elapsed_s": round(elapsed / 1e9, 3),
            "other_cores": round(others / elapsed, 2),
        }
