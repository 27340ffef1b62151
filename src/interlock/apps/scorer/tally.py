"""What all workers of a supervisor have ever counted: cumulative, whoever ended meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from interlock.decision import counts
from interlock.decision.table import RouteTable
from interlock.serving import metrics
from interlock.serving.messages import Report, Totals

GENERATIONS = 1_024
"""Arms of so many tables are known by name: far longer than a route reports after it has drained."""


class Tally:
    """Sums for the metrics page; they never fall."""

    def __init__(self) -> None:
        self._arms: dict[tuple[str, str, str], metrics.Sums] = {}
        self._versions: dict[str, str] = {}
        self._retired: list[Totals] = []

    def remember(self, table: RouteTable) -> None:
        """Learn which versions the arms of a table are."""
        for arm in (*table.arms, *table.shadows):
            self._versions[counts.key(table.service, table.generation, arm.name)] = arm.version
        while len(self._versions) > GENERATIONS:
            del self._versions[next(iter(self._versions))]

    def add(self, before: Report | None, report: Report) -> None:
        """Take in what a worker has counted since its report before."""
        for key, grown in counts.delta(before.counts if before else None, report.counts).arms.items():
            service, _, arm = counts.parse_key(key)
            name = service, arm, self._versions.get(key, arm)
            self._arms.setdefault(name, metrics.Sums()).add(grown)

    def retire(self, report: Report) -> None:
        """Keep the totals of a worker that has ended."""
        self._retired = [metrics.plus([*self._retired, report.totals])]

    def page(self, live: Iterable[Report], gauges: Mapping[str, float]) -> str:
        """The metrics page."""
        reports = list(live)
        found = dict(gauges) | {
            "queued_transactions": float(sum(report.queued for report in reports)),
            "open_connections": float(sum(report.connections for report in reports)),
            "store_degraded": float(any(report.degraded for report in reports)),
        }
        return metrics.render(self._arms, metrics.plus([*self._retired, *(each.totals for each in reports)]), found)
