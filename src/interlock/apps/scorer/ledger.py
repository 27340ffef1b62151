"""What all workers that ever lived have counted: no cumulative metric falls when one of them ends.

Kept are six sums per arm and version, and one sum of all totals of the workers that have ended. A
report names arms by generation; which version that was is remembered for the newest `GENERATIONS`
arms, far longer than a route reports after it has drained.
"""

from __future__ import annotations

from collections.abc import Iterable

from interlock.decision import counts
from interlock.decision.counts import WorkerCounts
from interlock.decision.table import RouteTable
from interlock.serving import metrics
from interlock.serving.messages import Report, Totals

GENERATIONS = 1_024


class Ledger:
    """One supervisor's; fed with every report in order."""

    def __init__(self) -> None:
        self._arms: dict[tuple[str, str, str], metrics.Sums] = {}
        self._versions: dict[str, str] = {}
        self._ended = Totals()

    def route(self, table: RouteTable) -> None:
        """Remember which versions the arms of a table are."""
        for arm in (*table.arms, *table.shadows):
            self._versions[counts.key(table.service, table.generation, arm.name)] = arm.version
        while len(self._versions) > GENERATIONS:
            del self._versions[next(iter(self._versions))]

    def heard(self, before: WorkerCounts | None, report: Report) -> None:
        """Take in what a worker has counted since its report before."""
        for key, grown in counts.delta(before, report.counts).arms.items():
            service, _, arm = counts.parse_key(key)
            name = service, arm, self._versions.get(key, arm)
            self._arms.setdefault(name, metrics.Sums()).add(grown)

    def ended(self, last: Report) -> None:
        """Keep the totals of a worker that has ended."""
        self._ended = metrics.plus([self._ended, last.totals])

    def page(self, live: Iterable[Report], gauges: dict[str, float]) -> str:
        """The metrics page; `live` are the last reports of the workers that live."""
        totals = metrics.plus([self._ended, *(report.totals for report in live)])
        return metrics.render(self._arms, totals, gauges)
