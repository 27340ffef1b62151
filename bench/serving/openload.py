"""Open-loop load at a constant rate, coordinated omission corrected.

Contract. Request k is due at k / rate after the start, whatever the server does, and its latency
counts from that moment, also while it waits here for a free connection. What is due is sent in
turns of a millisecond, one request at a time on each connection. A request that has no good reply
`GRACE_S` after the last one was due has failed. Nothing is retried.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from bench.serving import arithmetic
from bench.serving.cpu import Meter
from bench.serving.httpload import Connection, Load
from bench.serving.tally import Job

GRACE_S = 3.0
TURN_S = 0.001


class OpenLoop:
    """One run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._load = Load(job)
        self._tally = self._load.tally
        self._free: deque[Connection] = deque(self._load.connections.values())
        self._taken: set[Connection] = set()
        self._total = arithmetic.due(job.rate, int((job.warm_s + job.measure_s) * 1e9) - 1)
        self._start_ns = 0
        self._late = 0

    def run(self) -> dict[str, Any]:
        """Warm up, measure, wait for what is missing."""
        job, tally = self._job, self._tally
        self._start_ns = time.monotonic_ns()
        tally.since_ns = self._start_ns + int(job.warm_s * 1e9)
        unmeasured = arithmetic.due(job.rate, int(job.warm_s * 1e9) - 1)
        meter: Meter | None = None
        end_ns = self._start_ns + int((job.warm_s + job.measure_s) * 1e9)
        while (now := time.monotonic_ns()) < end_ns:
            if meter is None and now >= tally.since_ns:
                meter = Meter(job.groups)
            self._turn(now)
        reading = (meter or Meter(job.groups)).read()
        while self._missing() and time.monotonic_ns() < end_ns + GRACE_S * 1e9:
            self._turn(time.monotonic_ns())
        if missing := self._missing():
            tally.fail("no reply", missing)
        found = tally.result(reading)
        return {
            **found,
            "rate": job.rate,
            "scheduled": self._total - unmeasured,
            "answered": found["requests"],
            "failed": found["errors"],
            "max_ms": round(max(tally.found_ns, default=0) / 1e6, 3),
            "waited_for_a_connection": self._late,
            "marked": tally.marked,
        }

    def _missing(self) -> int:
        under_way = sum(len(each.waiting) for each in self._load.connections.values())
        return under_way + self._total - self._load.number

    def _turn(self, now_ns: int) -> None:
        wanted = min(self._total, arithmetic.due(self._job.rate, now_ns - self._start_ns))
        load = self._load
        while load.number < wanted:
            if not self._free:
                self._late += 1
                break
            due_ns = self._start_ns + arithmetic.scheduled_ns(self._job.rate, load.number)
            connection = self._free.popleft()
            self._taken.add(connection)
            connection.send(load.make(load.number), [due_ns])
            load.number += 1
        self._receive(now_ns)

    def _receive(self, turn_ns: int) -> None:
        """Sleep out the turn, then read everything that came meanwhile."""
        left_s = TURN_S - (time.monotonic_ns() - turn_ns) / 1e9
        if left_s > 0:
            time.sleep(left_s)
        for handle, _ in self._load.poll.poll(0):
            connection = self._load.connections[handle]
            done = connection.receive(time.monotonic_ns())
            if done < 0 or connection.closing:
                connection = self._load.renew(handle)
            if connection in self._taken and not connection.waiting:
                self._taken.remove(connection)
                self._free.append(connection)
