"""The scorer's metrics in Prometheus text format 0.0.4, summed over all workers that ever lived.

The mission's names (`fraud_…`: the service's name is the prefix) and our own; labels are service,
model_version, arm, status: none of them can hold what a caller sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Protocol

from interlock.decision import counts
from interlock.decision.counts import ArmCounts
from interlock.serving.messages import Totals

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_PLAIN = ("held", "repeated", "unrecorded", "store_failures", "shed", "expired", "pinned", "unrouted", "denied")
_GRPC = "grpc-"


class Counted(Protocol):
    """What `ArmCounts` offers and `Sums` too."""

    def total(self, count: int) -> int:
        """The sum of one count."""
        ...


class Sums:
    """The six sums of an arm, which is all that is kept of a version that has left."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values = [0] * len(counts.COUNTS)

    def add(self, grown: ArmCounts) -> None:
        """Take in what an arm has counted since the last time."""
        for count in range(len(self._values)):
            self._values[count] += grown.total(count)

    def total(self, count: int) -> int:
        """The sum of one count."""
        return self._values[count]


Arms = Mapping[tuple[str, str, str], Counted]
"""(service, arm, model version) → counts."""


def plus(totals: Iterable[Totals]) -> Totals:
    """The sum of several workers' counters."""
    responses: Counter[str] = Counter()
    latency: dict[str, list[int]] = {}
    seconds: Counter[str] = Counter()
    plain: Counter[str] = Counter()
    for each in totals:
        responses.update(each.responses)
        seconds.update(each.latency_sum)  # a Counter adds seconds as well
        for label, filled in each.latency.items():
            known = latency.get(label, [0] * len(filled))
            latency[label] = [a + b for a, b in zip(known, filled, strict=True)]
        plain.update({name: getattr(each, name) for name in _PLAIN})
    return Totals(dict(responses), latency, dict(seconds), **{name: plain[name] for name in _PLAIN})


def render(arms: Arms, totals: Totals, gauges: Mapping[str, float]) -> str:
    """The page."""
    lines: list[str] = []
    services = sorted({service for service, _, _ in arms}) or ["fraud"]
    for service in services:
        name = _name(service)
        own = {key: value for key, value in arms.items() if key[0] == service}
        _counter(lines, f"{name}_prediction_requests_total", "Transactions answered.", own, counts.REQUESTS)
        _counter(lines, f"{name}_flagged_total", "Decisions other than APPROVE.", own, counts.FLAGGED)
        _histogram(lines, f"{name}_prediction_latency_seconds", service, totals)
    for label, column in (
        ("errors", counts.ERRORS),
        ("misses", counts.MISSES),
        ("degraded", counts.DEGRADED),
        ("slow", counts.SLOW),
    ):
        _counter(lines, f"interlock_{label}_total", f"Transactions counted as {label}, by arm.", arms, column)
    for kind, label in (("http", "status"), ("grpc", "code")):
        lines.append(f"# HELP interlock_{kind}_responses_total {kind} responses by {label}.")
        lines.append(f"# TYPE interlock_{kind}_responses_total counter")
        lines += [
            f'interlock_{kind}_responses_total{{{label}="{name.removeprefix(_GRPC)}"}} {number}'
            for name, number in sorted(totals.responses.items())
            if name.startswith(_GRPC) == (kind == "grpc")
        ]
    for label in _PLAIN:
        _plain(lines, f"interlock_{label}_total", "counter", getattr(totals, label))
    for label, value in gauges.items():
        _plain(lines, f"interlock_{label}", "gauge", value)
    return "\n".join(lines) + "\n"


def _counter(lines: list[str], name: str, text: str, arms: Arms, column: int) -> None:
    lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
    for (service, arm, version), values in sorted(arms.items()):
        labels = f'service="{service}",model_version="{_escaped(version)}",arm="{arm}"'
        lines.append(f"{name}{{{labels}}} {values.total(column)}")


def _histogram(lines: list[str], name: str, service: str, totals: Totals) -> None:
    lines += [f"# HELP {name} From the first byte of a request to its reply.", f"# TYPE {name} histogram"]
    for label, filled in sorted(totals.latency.items()):
        owner, _, version = label.partition("|")
        if owner != service:
            continue
        labels = f'service="{service}",model_version="{_escaped(version)}"'
        for edge, number in zip((*BUCKETS, "+Inf"), accumulate(filled), strict=True):
            lines.append(f'{name}_bucket{{{labels},le="{edge}"}} {number}')
        lines.append(f"{name}_sum{{{labels}}} {totals.latency_sum.get(label, 0.0):.6f}")
        lines.append(f"{name}_count{{{labels}}} {sum(filled)}")


def _plain(lines: list[str], name: str, kind: str, value: float) -> None:
    # Not `:g`, which rounds to six digits: a large counter would stand still and then jump.
    lines += [f"# TYPE {name} {kind}", f"{name} {int(value) if value == int(value) else value}"]


def _name(service: str) -> str:
    """A service's name as the start of a metric's: letters, digits, underscore, no digit first."""
    name = service.replace("-", "_")
    return f"_{name}" if name[0].isdigit() else name


def _escaped(value: str) -> str:
    """A label's value as the text format wants it."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
