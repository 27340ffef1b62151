"""What all workers that ever lived have counted: no cumulative metric falls when one of them ends.

Kept are the sums per arm and version, and one sum of all totals of the workers that have ended. A
report names arms by generation; which version that was is remembered for the newest `GENERATIONS`
arms, far longer than a route reports after it has drained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from interlock.base.clock import NS_PER_S
from interlock.decision import counts
from interlock.decision.counts import ShadowCounts
from interlock.decision.table import RouteTable
from interlock.serving import metrics
from interlock.serving.messages import Report, Totals

GENERATIONS = 1_024
_WINDOW_NS = 60 * NS_PER_S
_HOUR_S = 3_600


class Tally:
    """Sums for the metrics page; they never fall.

    Args:
        cpu_hour_price: of one CPU for one hour; None: costs are not told.
    """

    def __init__(self, cpu_hour_price: float | None = None) -> None:
        self._arms: dict[tuple[str, str, str], metrics.Sums] = {}
        self._shadows: dict[tuple[str, str, str], ShadowCounts] = {}
        self._versions: dict[str, str] = {}
        self._retired = Totals()
        self._price = cpu_hour_price
        self._spent = Spent()

    def remember(self, table: RouteTable) -> None:
        """Learn which versions the arms of a table are."""
        for arm in (*table.arms, *table.shadows):
            self._versions[counts.key(table.service, table.generation, arm.name)] = arm.version
        while len(self._versions) > GENERATIONS:
            del self._versions[next(iter(self._versions))]

    def add(self, before: Report | None, report: Report, now_ns: int) -> None:
        """Take in what a worker has counted since its report before; monotonic time."""
        old = before.totals if before else Totals()
        decisions = report.totals.pinned - old.pinned
        delta = counts.delta(before.counts if before else None, report.counts)
        for key, grown in delta.arms.items():
            self._arms.setdefault(self._name(key), metrics.Sums()).add(grown)
            decisions += grown.total(counts.REQUESTS)
        for key, compared in delta.shadows.items():
            name = self._name(key)
            self._shadows[name] = self._shadows.get(name, ShadowCounts()).plus(compared)
        self._spent.add(now_ns, report.totals.cpu_seconds - old.cpu_seconds, decisions)

    def _name(self, key: str) -> tuple[str, str, str]:
        service, _, arm = counts.parse_key(key)
        return service, arm, self._versions.get(key, arm)

    def retire(self, report: Report) -> None:
        """Keep the totals of a worker that has ended."""
        self._retired = metrics.plus([self._retired, report.totals])

    def page(self, live: Iterable[Report], gauges: Mapping[str, float]) -> str:
        """The metrics page."""
        reports = list(live)
        found = dict(gauges) | {
            "inflight": float(sum(report.inflight for report in reports)),
            "queue_length": float(sum(report.queued for report in reports)),
            "queue_age_seconds": max((report.queue_age_s for report in reports), default=0.0),
            "open_connections": float(sum(report.connections for report in reports)),
            "store_degraded": float(any(report.degraded for report in reports)),
        }
        cost = None if self._price is None else self._spent.per_1000(self._price)
        if cost is not None:
            found["cost_per_1000_decisions"] = cost
        totals = metrics.plus([self._retired, *(each.totals for each in reports)])
        return metrics.render(self._arms, totals, found, self._shadows)


class Spent:
    """CPU seconds and decisions of the last one to two minutes."""

    def __init__(self) -> None:
        self._before = self._now = (0.0, 0)
        self._since_ns = 0

    def add(self, now_ns: int, cpu_s: float, decisions: int) -> None:
        """So much more; monotonic time."""
        age_ns = now_ns - self._since_ns
        if age_ns >= _WINDOW_NS:
            self._before = self._now if age_ns < 2 * _WINDOW_NS else (0.0, 0)
            self._now, self._since_ns = (0.0, 0), now_ns
        self._now = self._now[0] + cpu_s, self._now[1] + decisions

    def per_1000(self, cpu_hour_price: float) -> float | None:
        """What 1,000 decisions cost; None: there was none."""
        cpu_s, decisions = self._before[0] + self._now[0], self._before[1] + self._now[1]
        return cpu_s / _HOUR_S * cpu_hour_price / decisions * 1_000 if decisions else None
