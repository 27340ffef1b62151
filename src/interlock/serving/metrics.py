"""The scorer's metrics in Prometheus text format 0.0.4, summed over all workers that ever lived.

The mission's names (`fraud_…`: the service's name is the prefix) and our own; labels are service,
model_version, arm, status: none of them can hold what a caller sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from interlock.decision import counts
from interlock.decision.counts import ArmCounts
from interlock.serving.messages import Totals

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
Arms = Mapping[tuple[str, str, str], ArmCounts]
"""(service, arm, model version) → counts."""


def plus(totals: Iterable[Totals]) -> Totals:
    """The sum of several workers' counters."""
    responses: dict[str, int] = {}
    latency = [0] * (len(BUCKETS) + 1)
    sums = {"latency_sum": 0.0, "held": 0, "repeated": 0, "unrecorded": 0, "store_failures": 0}
    for each in totals:
        for status, number in each.responses.items():
            responses[status] = responses.get(status, 0) + number
        latency = [a + b for a, b in zip(latency, each.latency or [0] * len(latency), strict=True)]
        for name in sums:
            sums[name] += getattr(each, name)
    return Totals(
        responses,
        latency,
        sums["latency_sum"],
        int(sums["held"]),
        int(sums["repeated"]),
        int(sums["unrecorded"]),
        int(sums["store_failures"]),
    )


def render(arms: Arms, totals: Totals, gauges: Mapping[str, float]) -> str:
    """The page."""
    lines: list[str] = []
    services = sorted({service for service, _, _ in arms}) or ["fraud"]
    for service in services:
        name = service.replace("-", "_")
        own = {key: value for key, value in arms.items() if key[0] == service}
        _counter(lines, f"{name}_prediction_requests_total", "Transactions answered.", own, counts.REQUESTS)
        _counter(lines, f"{name}_flagged_total", "Decisions other than APPROVE.", own, counts.FLAGGED)
        _histogram(lines, f"{name}_prediction_latency_seconds", totals)
    for label, column in (
        ("errors", counts.ERRORS),
        ("misses", counts.MISSES),
        ("degraded", counts.DEGRADED),
        ("slow", counts.SLOW),
    ):
        _counter(lines, f"interlock_{label}_total", f"Transactions counted as {label}, by arm.", arms, column)
    lines.append("# HELP interlock_http_responses_total HTTP responses by status.")
    lines.append("# TYPE interlock_http_responses_total counter")
    lines += [
        f'interlock_http_responses_total{{status="{status}"}} {number}'
        for status, number in sorted(totals.responses.items())
    ]
    for label in ("held", "repeated", "unrecorded", "store_failures"):
        _plain(lines, f"interlock_{label}_total", "counter", getattr(totals, label))
    for label, value in gauges.items():
        _plain(lines, f"interlock_{label}", "gauge", value)
    return "\n".join(lines) + "\n"


def _counter(lines: list[str], name: str, text: str, arms: Arms, column: int) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
    for (service, arm, version), values in sorted(arms.items()):
        lines.append(f'{name}{{service="{service}",model_version="{version}",arm="{arm}"}} {values.total(column)}')


def _histogram(lines: list[str], name: str, totals: Totals) -> None:
    lines += [f"# HELP {name} From the first byte of a request to its reply.", f"# TYPE {name} histogram"]
    running = 0
    filled = totals.latency or [0] * (len(BUCKETS) + 1)
    for edge, number in zip((*BUCKETS, "+Inf"), filled, strict=True):
        running += number
        lines.append(f'{name}_bucket{{le="{edge}"}} {running}')
    lines += [f"{name}_sum {totals.latency_sum:.6f}", f"{name}_count {running}"]


def _plain(lines: list[str], name: str, kind: str, value: float) -> None:
    lines += [f"# TYPE {name} {kind}", f"{name} {value:g}"]
