"""Limits that hold whatever the champion does, at once or sustained, judged on samples of counters.

Contract. A sample is what both arms had counted at one reading, cumulative over the rollout. Shares
and quantiles are taken from differences of two samples, so that numerator and denominator come from
the same readings, and a quantile is the upper edge of a fixed bin. What cannot be seen is
*inconclusive*, never a pass: only the newest samples without a gap are looked at, and a gap is a
reading that failed, a count that fell, or more than 5 s between two samples or since the newest.

* At once (`for_s` 0): over the shortest time until now in which the candidate had 20 such events (200
  model calls for a quantile), at most 60 s. Fewer than 20 calls in all that time are inconclusive.
* Sustained: the time is cut into five parts, and every one must exceed the limit; so one good second
  does not hide a bad minute. Exceeded, but not for long enough yet, is inconclusive.
* Relative: the limit is that many times the champion's value in the same time.
* An absolute limit that the champion exceeds as well, by at least half as much, is an incident and not
  the candidate's doing: inconclusive, and the reason says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.base.verdict import Verdict
from interlock.decision.counts import COUNTS, REQUESTS, TIME_EDGES, ArmCounts
from interlock.rollout.plan import Slo

MIN_EVENTS = 20
MIN_CALLS = 20
QUANTILE_CALLS = 200
QUANTILE = 0.95
WINDOW_S = 60.0
PARTS = 5
STALE_S = 5.0
P95 = "p95"


@dataclass(frozen=True)
class Totals:
    """What one arm has counted.

    Attributes:
        counts: sums by column of `counts.COUNTS`.
        times: model calls by bin of `counts.TIME_EDGES`.
    """

    counts: tuple[int, ...] = (0,) * len(COUNTS)
    times: tuple[int, ...] = (0,) * (len(TIME_EDGES) + 1)

    @classmethod
    def of(cls, arm: ArmCounts | None) -> Totals:
        """The sums of an arm's counts; of an arm that has counted nothing yet, zeros."""
        if arm is None:
            return cls()
        return cls(tuple(arm.values.sum(axis=(0, 1)).tolist()), tuple(arm.times.sum(axis=0).tolist()))

    @cached_property
    def calls(self) -> int:
        """Model calls in all."""
        return sum(self.times)

    def since(self, old: Totals) -> Totals:
        """What came after `old`."""
        return Totals(
            tuple(new - before for new, before in zip(self.counts, old.counts, strict=True)),
            tuple(new - before for new, before in zip(self.times, old.times, strict=True)),
        )

    def fell(self, old: Totals) -> bool:
        """Whether a count is smaller than before: then they are not one series."""
        pairs = zip(self.counts, old.counts, strict=True)
        return self.calls < old.calls or any(new < before for new, before in pairs)


NOTHING = Totals()


@dataclass(frozen=True)
class Sample:
    """Both arms at one reading, cumulative; `seen` False: the reading failed or a source was reset."""

    at_ns: int
    champion: Totals = NOTHING
    candidate: Totals = NOTHING
    seen: bool = True

    @classmethod
    def of(cls, at_ns: int, champion: ArmCounts | None, candidate: ArmCounts | None, seen: bool = True) -> Sample:
        """A sample of two arms' counts."""
        return cls(at_ns, Totals.of(champion), Totals.of(candidate), seen)


@dataclass(frozen=True)
class SloLook:
    """One limit at one look.

    Attributes:
        name: of the limit, such as `p95 > 1.2 x for 300 s`.
        verdict: fail, inconclusive or pass.
        value: the candidate's share, or milliseconds; of a relative limit the ratio. None: not known.
        limit: what it may not exceed.
        over_s: seconds that were looked at.
        reason: why it is inconclusive; else empty.
    """

    name: str
    verdict: str
    value: float | None
    limit: float
    over_s: float
    reason: str = ""


def judge(samples: Sequence[Sample], slos: Sequence[Slo], now_ns: int) -> tuple[SloLook, ...]:
    """Every limit, on samples in the order of their times.

    Args:
        samples: the readings of this rollout, oldest first; `kept` tells which are still needed.
        slos: the policy's limits.
        now_ns: wall time.
    """
    clean = _without_gap(samples) if slos else ()
    return tuple(_judge_one(clean, slo, now_ns) for slo in slos)


def breached(looks: Sequence[SloLook]) -> tuple[str, ...]:
    """Names of the limits that are exceeded."""
    return tuple(look.name for look in looks if look.verdict == Verdict.FAIL.word)


def unclear(looks: Sequence[SloLook]) -> tuple[str, ...]:
    """Names of the limits of which it is not known that they are kept."""
    return tuple(look.name for look in looks if look.verdict != Verdict.PASS.word)


def kept(samples: Sequence[Sample], slos: Sequence[Slo], now_ns: int) -> list[Sample]:
    """The samples that a judgement may still need: the longest time of a limit, and one before it."""
    longest = max([WINDOW_S, *(slo.for_s for slo in slos)])
    old = [place for place, sample in enumerate(samples) if now_ns - sample.at_ns >= longest * NS_PER_S]
    return list(samples[old[-1] :] if old else samples)


def name(slo: Slo) -> str:
    """What a limit is called in verdicts and reasons."""
    sustained = f" for {slo.for_s:g} s" if slo.for_s else ""
    unit = " x" if slo.relative else " ms" if slo.metric == P95 else ""
    return f"{slo.metric} > {slo.above:g}{unit}{sustained}"


@dataclass(frozen=True)
class _Value:
    """A limit's quantity over one stretch of time; `why`: it is not known."""

    candidate: float = 0.0
    champion: float = 0.0
    ratio: float = 0.0
    events: int = 0
    why: str = ""


def _judge_one(clean: Sequence[Sample], slo: Slo, now_ns: int) -> SloLook:
    if not clean or now_ns - clean[-1].at_ns > STALE_S * NS_PER_S:
        return _look(slo, Verdict.INCONCLUSIVE, None, 0.0, "no counters")
    return _sustained(clean, slo) if slo.for_s else _at_once(clean, slo)


def _without_gap(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The newest samples between which nothing is missing."""
    first = len(samples)
    for place in range(len(samples) - 1, -1, -1):
        if not samples[place].seen or (first < len(samples) and _gap(samples[place], samples[first])):
            break
        first = place
    return samples[first:]


def _gap(old: Sample, new: Sample) -> bool:
    if new.at_ns - old.at_ns > STALE_S * NS_PER_S:
        return True
    return new.champion.fell(old.champion) or new.candidate.fell(old.candidate)


def _at_once(samples: Sequence[Sample], slo: Slo) -> SloLook:
    last, wanted = samples[-1], QUANTILE_CALLS if slo.metric == P95 else MIN_EVENTS
    first = last
    for sample in reversed(samples[:-1]):
        if last.at_ns - sample.at_ns > WINDOW_S * NS_PER_S or _events(first.candidate, last.candidate, slo) >= wanted:
            break
        first = sample
    value, over_s = _value(first, last, slo), (last.at_ns - first.at_ns) / NS_PER_S
    if value.why:
        return _look(slo, Verdict.INCONCLUSIVE, None, over_s, value.why)
    if not _exceeds(value, slo):
        return _look(slo, Verdict.PASS, value, over_s)
    if value.events < wanted:
        return _look(slo, Verdict.INCONCLUSIVE, value, over_s, "exceeded by few events")
    return _failed(slo, value, over_s)


def _sustained(samples: Sequence[Sample], slo: Slo) -> SloLook:
    last, whole_ns = samples[-1], round(slo.for_s * NS_PER_S)
    edges = [_at(samples, last.at_ns - whole_ns * part // PARTS) for part in range(PARTS + 1)]
    newest: _Value | None = None
    for part, (end, start) in enumerate(pairwise(edges)):
        over_s = slo.for_s * part / PARTS
        if start is None or end is None:
            return _look(slo, Verdict.INCONCLUSIVE, newest, over_s, "too short a time without a gap")
        value = _value(start, end, slo)
        if value.why:
            return _look(slo, Verdict.INCONCLUSIVE, newest, over_s, value.why)
        newest = newest or value
        if not _exceeds(value, slo):
            verdict, why = (Verdict.INCONCLUSIVE, "exceeded, not for long enough yet") if part else (Verdict.PASS, "")
            return _look(slo, verdict, newest, over_s, why)
    whole = _value(edges[-1] or last, last, slo)
    if whole.events < MIN_EVENTS:
        return _look(slo, Verdict.INCONCLUSIVE, whole, slo.for_s, "exceeded by few events")
    return _failed(slo, whole, slo.for_s)


def _at(samples: Sequence[Sample], at_ns: int) -> Sample | None:
    """The newest sample that is not younger than an instant."""
    place = bisect_right(samples, at_ns, key=lambda sample: sample.at_ns)
    return samples[place - 1] if place else None


def _value(first: Sample, last: Sample, slo: Slo) -> _Value:
    """The quantity of a limit between two samples."""
    candidate, champion = last.candidate.since(first.candidate), last.champion.since(first.champion)
    wanted = QUANTILE_CALLS if slo.metric == P95 and not slo.for_s else MIN_CALLS
    calls = [sum(each.times) if slo.metric == P95 else each.counts[REQUESTS] for each in (candidate, champion)]
    if calls[0] < wanted:
        return _Value(why="too few calls of the candidate")
    if slo.relative and calls[1] < wanted:
        return _Value(why="too few calls of the champion")
    ours, theirs = _quantity(candidate, slo), _quantity(champion, slo) if calls[1] >= wanted else 0.0
    # A champion without a single event is taken to have had one: no ratio is infinite.
    return _Value(ours, theirs, ours / max(theirs, 1 / max(calls[1], 1)), _events(first.candidate, last.candidate, slo))


def _quantity(totals: Totals, slo: Slo) -> float:
    if slo.metric != P95:
        return totals.counts[COUNTS.index(slo.metric)] / totals.counts[REQUESTS]
    place = int(np.searchsorted(np.cumsum(totals.times), QUANTILE * sum(totals.times)))
    return TIME_EDGES[min(place, len(TIME_EDGES) - 1)] / NS_PER_MS


def _events(old: Totals, new: Totals, slo: Slo) -> int:
    if slo.metric == P95:
        return sum(new.times) - sum(old.times)
    column = COUNTS.index(slo.metric)
    return new.counts[column] - old.counts[column]


def _exceeds(value: _Value, slo: Slo) -> bool:
    return (value.ratio if slo.relative else value.candidate) > slo.above


def _failed(slo: Slo, value: _Value, over_s: float) -> SloLook:
    if not slo.relative and value.champion > slo.above and 2 * value.champion >= value.candidate:
        return _look(slo, Verdict.INCONCLUSIVE, value, over_s, "the champion exceeds it too: an incident")
    return _look(slo, Verdict.FAIL, value, over_s)


def _look(slo: Slo, verdict: Verdict, value: _Value | None, over_s: float, reason: str = "") -> SloLook:
    shown = None if value is None else round(value.ratio if slo.relative else value.candidate, 6)
    return SloLook(name(slo), verdict.word, shown, slo.above, over_s, reason)
