"""A load generator's job and what came of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.serving import arithmetic

_EXAMPLES = 3


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        address: host and port.
        kind: one of `payloads.KINDS`, or `grpc`.
        target: the request target.
        run: goes into transaction ids.
        must: what every reply's body holds.
        mark: replies that hold this are counted apart.
        connections: how many.
        pipeline: requests under way on each, closed loop.
        rate: requests a second, open loop (0: closed loop).
        warm_s: sent before anything is measured.
        measure_s: measured.
        groups: process ids to watch, by name.
    """

    address: tuple[str, int]
    kind: str
    target: str
    run: str
    must: str = ""
    mark: str = ""
    connections: int = 64
    pipeline: int = 1
    rate: float = 0.0
    warm_s: float = 2.0
    measure_s: float = 8.0
    groups: dict[str, list[int]] = field(default_factory=dict)


class Tally:
    """Outcomes: latencies of the measured phase, failures of the whole run."""

    def __init__(self) -> None:
        self.found_ns: list[int] = []
        self.failed: Counter[str] = Counter()
        self.examples: list[str] = []
        self.marked = 0
        self.since_ns: float = math.inf
        """Replies to requests that were sent (or due) before this are not measured."""

    def took(self, started_ns: int, now_ns: int) -> None:
        """A good reply came."""
        if started_ns >= self.since_ns:
            self.found_ns.append(now_ns - started_ns)

    def fail(self, kind: str, count: int = 1, example: bytes = b"") -> None:
        """Count failures, warm-up included: a server that fails there is not fit to be measured."""
        self.failed[kind] += count
        if example and len(self.examples) < _EXAMPLES:
            self.examples.append(example.decode("latin-1"))

    def result(self, reading: dict[str, Any]) -> dict[str, Any]:
        """Figures of the phase that a meter has read."""
        return {
            "requests": len(self.found_ns),
            "rps": round(len(self.found_ns) / reading["elapsed_s"], 1),
            **arithmetic.latencies(self.found_ns),
            "errors": sum(self.failed.values()),
            "failures": {kind: count for kind, count in self.failed.items() if count},
            "examples": self.examples,
            **reading,
        }
