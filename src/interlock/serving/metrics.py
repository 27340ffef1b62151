"""The scorer's metrics in Prometheus text format 0.0.4, summed over all workers that ever lived.

The mission's names (`fraud_…`: the service's name is the prefix) and our own; labels are service,
model_version, arm, status: none of them can hold what a caller sent. `FAMILIES` is the whole list,
from which the reference page is written too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from interlock.base.clock import NS_PER_S
from interlock.decision import counts
from interlock.decision.counts import ArmCounts, ShadowCounts
from interlock.serving.messages import Totals

BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_PLAIN = (
    "held",
    "repeated",
    "unrecorded",
    "store_failures",
    "shed",
    "expired",
    "pinned",
    "unrouted",
    "denied",
    "score_cache_hits",
    "spans_dropped",
    "cpu_seconds",
)
_GRPC = "grpc-"

_MERGED = tuple(8 * octave for octave in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 20))
"""Edges of `counts.TIME_EDGES` that the page keeps, 8 µs to 1 s: 194 bins an arm are for judging, not for scraping."""
MODEL_BUCKETS = tuple(counts.TIME_EDGES[edge] / NS_PER_S for edge in _MERGED)
_STARTS = (0, *(edge + 1 for edge in _MERGED))
_MIDDLES = np.array(
    [counts.TIME_EDGES[0] / 2, *(edge * 2 ** (1 / 16) for edge in counts.TIME_EDGES[:-1]), counts.TIME_EDGES[-1]]
)
"""Nanoseconds that stand for a bin in the sum: its geometric middle, at most 4.5 % from any time in it."""


class Family(NamedTuple):
    """A metric; `{service}` in a name stands for the service's own (`-` becomes `_`)."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


_ARM = ("service", "model_version", "arm")
_LATENCY = Family(
    "{service}_prediction_latency_seconds",
    "histogram",
    ("service", "model_version"),
    "From the first byte of a request to its reply.",
)
_OF_SERVICE = {
    counts.REQUESTS: Family("{service}_prediction_requests_total", "counter", _ARM, "Transactions answered."),
    counts.FLAGGED: Family("{service}_flagged_total", "counter", _ARM, "Decisions other than APPROVE."),
}
_OF_ARM = {
    column: Family(f"interlock_{label}_total", "counter", _ARM, f"Transactions counted as {label}, by arm.")
    for label, column in (
        ("errors", counts.ERRORS),
        ("misses", counts.MISSES),
        ("degraded", counts.DEGRADED),
        ("slow", counts.SLOW),
        ("nulls", counts.NULLS),
    )
}
_MODEL_TIME = Family(
    "interlock_model_seconds",
    "histogram",
    _ARM,
    "Time of model calls, one entry a call whatever its batch; the sum is estimated from finer bins, within 4.5 %.",
)
_OF_SHADOW = {
    name: Family(f"interlock_shadow_{name}_total", "counter", _ARM, text)
    for name, text in (
        ("pairs", "Transactions scored by a shadow beside the answer."),
        ("up", "Pairs in which the shadow was stricter than the answer."),
        ("down", "Pairs in which the shadow was milder than the answer."),
        ("errors", "Transactions at which a shadow raised."),
        ("misses", "Transactions that a shadow did not score in time."),
    )
}
_FARTHEST = Family(
    "interlock_shadow_score_difference_max",
    "gauge",
    _ARM,
    "The largest difference between a shadow's score and that of the answer, since the supervisor began.",
)
_RESPONSES = {
    kind: Family(f"interlock_{kind}_responses_total", "counter", (label,), f"{kind} responses by {label}.")
    for kind, label in (("http", "status"), ("grpc", "code"))
}
_COUNTERS = {
    name: Family(f"interlock_{name}_total", "counter", (), text)
    for name, text in (
        ("held", "Duplicates that waited for the attempt which holds their transaction."),
        ("repeated", "Duplicates answered with the stored reply."),
        ("unrecorded", "Decisions answered although they could not be written."),
        ("store_failures", "Ticks in which the online store did not answer."),
        ("shed", "Transactions refused because too many were waiting."),
        ("expired", "Transactions whose caller's deadline passed before their turn."),
        ("pinned", "Decisions by a version that the caller named."),
        ("unrouted", "Transactions of a segment whose service did not answer here: the one that was asked decided."),
        ("denied", "Requests that the gate turned away."),
        ("score_cache_hits", "Scores that were known already."),
        ("spans_dropped", "Spans of sampled requests that reached no collector."),
        ("cpu_seconds", "CPU time of the workers, user and system."),
    )
}
_GAUGES = {
    name: Family(f"interlock_{name}", "gauge", (), text)
    for name, text in (
        ("workers", "Workers that take requests."),
        ("inflight", "Requests to score that have come and are not answered yet."),
        ("queue_length", "Transactions waiting for a tick."),
        ("queue_age_seconds", "Age of the transaction that has waited longest for a tick."),
        ("open_connections", "Open connections."),
        ("store_degraded", "1 while a worker's online store does not answer."),
        ("retreated_services", "Services that a retreat holds to their champion."),
        (
            "cost_per_1000_decisions",
            "CPU time of the workers at scoring.cpu_hour_price for 1,000 decisions, over the last one to two minutes; "
            "absent without a price or a decision.",
        ),
    )
}
FAMILIES: tuple[Family, ...] = (
    *_OF_SERVICE.values(),
    _LATENCY,
    *_OF_ARM.values(),
    _MODEL_TIME,
    *_OF_SHADOW.values(),
    _FARTHEST,
    *_RESPONSES.values(),
    *_COUNTERS.values(),
    *_GAUGES.values(),
)


class Sums:
    """The sums of an arm and its merged model times, which is all that is kept of a version that has left.

    Attributes:
        times: model calls by bucket of `MODEL_BUCKETS`, the last is +Inf.
        seconds: their estimated sum.
    """

    __slots__ = ("_values", "seconds", "times")

    def __init__(self) -> None:
        self._values = [0] * len(counts.COUNTS)
        self.times = [0] * len(_STARTS)
        self.seconds = 0.0

    def add(self, grown: ArmCounts) -> None:
        """Take in what an arm has counted since the last time."""
        for count in range(len(self._values)):
            self._values[count] += grown.total(count)
        bins = grown.times.sum(axis=0)
        self.times = [a + b for a, b in zip(self.times, np.add.reduceat(bins, _STARTS).tolist(), strict=True)]
        self.seconds += float(bins @ _MIDDLES) / NS_PER_S

    def total(self, count: int) -> int:
        """The sum of one count."""
        return self._values[count]


Arms = Mapping[tuple[str, str, str], Sums]
"""(service, arm, model version) → sums."""
Shadows = Mapping[tuple[str, str, str], ShadowCounts]
"""The same of shadows."""


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


def render(arms: Arms, totals: Totals, gauges: Mapping[str, float], shadows: Shadows = MappingProxyType({})) -> str:
    """The page; gauges by their names without the prefix."""
    lines: list[str] = []
    for prefix, services in _prefixes(arms, totals).items():
        own = {key: value for key, value in arms.items() if key[0] in services}
        for column, family in _OF_SERVICE.items():
            _counter(lines, family, prefix, own, column)
        _latency(lines, prefix, services, totals)
    for column, family in _OF_ARM.items():
        _counter(lines, family, "", arms, column)
    _announce(lines, _MODEL_TIME)
    for (service, arm, version), sums in sorted(arms.items()):
        labels = _labels(service, version, arm)
        _histogram(lines, _MODEL_TIME.name, labels, MODEL_BUCKETS, sums.times, sums.seconds)
    _compared(lines, shadows)
    for kind, family in _RESPONSES.items():
        _announce(lines, family)
        lines += [
            f'{family.name}{{{family.labels[0]}="{name.removeprefix(_GRPC)}"}} {number}'
            for name, number in sorted(totals.responses.items())
            if name.startswith(_GRPC) == (kind == "grpc")
        ]
    for name, family in _COUNTERS.items():
        _plain(lines, family, getattr(totals, name))
    for name, value in gauges.items():
        _plain(lines, _GAUGES[name], value)
    return "\n".join(lines) + "\n"


def _prefixes(arms: Arms, totals: Totals) -> dict[str, list[str]]:
    """Services by the name of their metrics; the mission's own where there is none yet.

    Two of them may share one (`card-risk` and `card_risk`): a name is announced once.
    """
    found: dict[str, list[str]] = {}
    named = {service for service, _, _ in arms} | {label.partition("|")[0] for label in totals.latency}
    for service in sorted(named) or ["fraud"]:
        found.setdefault(_name(service), []).append(service)
    return found


def _announce(lines: list[str], family: Family, prefix: str = "") -> str:
    name = family.name.replace("{service}", prefix)
    lines += [f"# HELP {name} {family.text}", f"# TYPE {name} {family.kind}"]
    return name


def _counter(lines: list[str], family: Family, prefix: str, arms: Arms, column: int) -> None:
    name = _announce(lines, family, prefix)
    for (service, arm, version), values in sorted(arms.items()):
        lines.append(f"{name}{{{_labels(service, version, arm)}}} {values.total(column)}")


def _compared(lines: list[str], shadows: Shadows) -> None:
    for each, family in (*_OF_SHADOW.items(), ("largest", _FARTHEST)):
        _announce(lines, family)
        for (service, arm, version), found in sorted(shadows.items()):
            lines.append(f"{family.name}{{{_labels(service, version, arm)}}} {getattr(found, each)}")


def _latency(lines: list[str], prefix: str, services: Sequence[str], totals: Totals) -> None:
    name = _announce(lines, _LATENCY, prefix)
    for label, filled in sorted(totals.latency.items()):
        service, _, version = label.partition("|")
        if service in services:
            _histogram(lines, name, _labels(service, version), BUCKETS, filled, totals.latency_sum.get(label, 0.0))


def _histogram(
    lines: list[str], name: str, labels: str, edges: Sequence[float], filled: Sequence[int], seconds: float
) -> None:
    for edge, number in zip((*edges, "+Inf"), accumulate(filled), strict=True):
        lines.append(f'{name}_bucket{{{labels},le="{edge}"}} {number}')
    lines.append(f"{name}_sum{{{labels}}} {seconds:.6f}")
    lines.append(f"{name}_count{{{labels}}} {sum(filled)}")


def _plain(lines: list[str], family: Family, value: float) -> None:
    name = _announce(lines, family)
    # Not `:g`, which rounds to six digits: a large counter would stand still and then jump.
    lines.append(f"{name} {int(value) if value == int(value) else value}")


def _labels(service: str, version: str, arm: str = "") -> str:
    more = f',arm="{arm}"' if arm else ""
    return f'service="{service}",model_version="{_escaped(version)}"{more}'


def _name(service: str) -> str:
    """A service's name as the start of a metric's: letters, digits, underscore, no digit first."""
    name = service.replace("-", "_")
    return f"_{name}" if name[0].isdigit() else name


def _escaped(value: str) -> str:
    """A label's value as the text format wants it."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
