"""What the controller has read from the workers' counters, for one rollout.

Contract. Counters are cumulative per worker; this adds up their differences, so that a replaced
worker's earlier counts stay. A reset, a missing worker, unreadable counts or no reading at all is
reported as *missing*, never read as quiet traffic. What came since the look that was kept before waits
in `addition`; `keep` closes it. A new controller takes the kept additions (`restore`) and goes on by
difference from them: that is exact, also for generations and workers that nobody reports any more.
Counts of generations before `first` belong to earlier rollouts and are not taken.

Counts are never changed in place, so that a `copy` is cheap.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import numpy as np

from interlock.base.clock import NS_PER_S
from interlock.base.errors import IntegrityError
from interlock.decision.counts import (
    COUNTS,
    REQUESTS,
    TIME_EDGES,
    ArmCounts,
    Ints,
    ShadowCounts,
    WorkerCounts,
    parse_key,
)
from interlock.decision.table import CANDIDATE, CHAMPION
from interlock.rollout import kept
from interlock.rollout.guards import GUARDS, Arms, Series
from interlock.rollout.kept import Addition, Cell
from interlock.rollout.plan import Slo
from interlock.rollout.slo import Sample, Totals
from interlock.rollout.slo import kept as needed

STEP_S = 5
"""Length of one step of the series over which dispersion is estimated."""
SAMPLE_S = 1
"""Least distance of two samples for the limits of a policy."""
QUANTILE = 0.95

_Counts = ArmCounts | ShadowCounts
_Place = tuple[str, str, bool]
"""(worker, key of the counts, paired)."""


class Evidence:
    """Cumulative counts of one rollout, by generation."""

    def __init__(self, service: str, first: int = 0, slos: Sequence[Slo] = ()) -> None:
        self._service = service
        self._first = first
        self._slos = tuple(slos)
        self.number = 0
        """Of the addition that was kept last."""
        self.digest = ""
        """Of all that was kept."""
        self._resets: dict[str, str] = {}
        self._positions: dict[_Place, tuple[str, _Counts]] = {}
        self._totals: dict[tuple[str, bool], _Counts] = {}
        self._steps: Ints = np.zeros((0, 1 + 2 * len(COUNTS)), np.int64)
        self._samples: tuple[Sample, ...] = ()
        self._added: dict[tuple[_Place, str], _Counts] = {}
        self._new_steps: tuple[tuple[int, ...], ...] = ()
        self._new_samples: tuple[tuple[int, bool, tuple[int, ...], tuple[int, ...]], ...] = ()

    def copy(self) -> Evidence:
        """The same evidence; what is fed to one does not reach the other."""
        other = copy.copy(self)
        for name in ("_resets", "_positions", "_totals", "_added"):
            setattr(other, name, dict(getattr(self, name)))
        return other

    def feed(self, counts: Sequence[WorkerCounts], workers: int, now_ns: int) -> str:
        """Take one reading; returns what is missing from it, or an empty string."""
        missing = "" if len(counts) >= workers else f"{workers - len(counts)} of {workers} workers are silent"
        for one in counts:
            try:
                missing = self._take(one) or missing
            except (IntegrityError, ValueError) as error:
                missing = f"the counters of worker {one.worker} cannot be read: {error}"
        if workers == 0:
            missing = "no worker is alive"
        if not len(self._steps) or now_ns - int(self._steps[-1, 0]) >= STEP_S * NS_PER_S:
            self._step(self._champion_now(now_ns))
        if self._slos and self._sample_due(now_ns, not missing):
            self._sample(self._sample_now(now_ns, not missing))
        return missing

    # --- what guards and limits take ---------------------------------------------------------

    def arms(self) -> dict[int, Arms]:
        """Counts by generation, where the champion met a candidate or a shadow."""
        candidates = self._generations(CANDIDATE)
        paired = ((parse_key(name), each) for (name, _), each in self._totals.items() if isinstance(each, ShadowCounts))
        shadows = {generation: each for (_, generation, arm), each in paired if arm == CANDIDATE}
        return {
            generation: Arms(champion, candidates.get(generation), shadows.get(generation))
            for generation, champion in sorted(self._generations(CHAMPION).items())
            if generation in candidates or generation in shadows
        }

    def candidate_requests(self, generation: int) -> int:
        """Requests that the candidate has answered under a generation."""
        counts = self._generations(CANDIDATE).get(generation)
        return 0 if counts is None else counts.total(REQUESTS)

    def tau(self, generation: int, samples: int) -> int | None:
        """The champion's p95 of model time under a generation, ns; None below `samples` calls.

        The upper edge of the bin that holds the quantile: fixed edges, nothing interpolated.
        """
        counts = self._generations(CHAMPION).get(generation)
        if counts is None:
            return None
        times = counts.times.sum(axis=0)
        total = int(times.sum())
        if total < samples:
            return None
        bin_number = int(np.searchsorted(np.cumsum(times), QUANTILE * total))
        return TIME_EDGES[min(bin_number, len(TIME_EDGES) - 1)]

    def series(self) -> dict[str, Series]:
        """The champion over time, per guard."""
        if len(self._steps) < 2:
            return {}
        change = np.diff(self._steps[:, 1:], axis=0)
        half, whole = change[:, : len(COUNTS)], change[:, len(COUNTS) :]
        return {
            guard.name: Series(half[:, guard.count], whole[:, guard.count], half[:, REQUESTS], whole[:, REQUESTS])
            for guard in GUARDS
        }

    def samples(self, now_ns: int, seen: bool) -> list[Sample]:
        """Both arms over time, up to the present reading."""
        return [*self._samples, self._sample_now(now_ns, seen)]

    # --- keeping and restoring ---------------------------------------------------------------

    def addition(self) -> Addition:
        """What came since the addition that was kept before."""
        cells = tuple(
            Cell(worker, life, name, paired, counts.pack())
            for ((worker, name, paired), life), counts in self._added.items()
        )
        return Addition(dict(self._resets), cells, self._new_steps, self._new_samples)

    def keep(self, text: str) -> None:
        """The present addition, packed as `text`, is stored."""
        self.number += 1
        self.digest = kept.chained(self.digest, text)
        self._added, self._new_steps, self._new_samples = {}, (), ()

    def restore(self, text: str) -> None:
        """Take the next kept addition.

        Raises:
            IntegrityError: it is damaged.
        """
        addition = kept.unpack(text)
        for cell in addition.cells:
            place = (cell.worker, cell.name, cell.paired)
            difference: _Counts = (ShadowCounts if cell.paired else ArmCounts).unpack(cell.packed)
            life, before = self._positions.get(place, ("", None))
            self._positions[place] = cell.life, _sum(before if life == cell.life else None, difference)
            self._total(cell.name, cell.paired, difference)
        self._resets = dict(addition.resets)
        for step in addition.steps:
            self._step(step)
        for at_ns, seen, champion, candidate in addition.samples:
            last = self._samples[-1] if self._samples else Sample(0)
            self._sample(Sample(at_ns, _changed(last.champion, champion), _changed(last.candidate, candidate), seen))
        self.keep(text)

    # --- one reading -------------------------------------------------------------------------

    def _take(self, one: WorkerCounts) -> str:
        """Add what is new in a worker's counters; returns what is wrong with them."""
        wrong = ""
        before = self._resets.get(one.worker)
        if before is not None and before != one.reset_id:
            wrong = f"the counters of worker {one.worker} were reset"
        self._resets[one.worker] = one.reset_id
        for paired, packed in ((False, one.arms), (True, one.shadows)):
            for name, data in packed.items():
                service, generation, _ = parse_key(name)
                if service == self._service and generation >= self._first:
                    counts: _Counts = (ShadowCounts if paired else ArmCounts).unpack(data)
                    wrong = self._advance((one.worker, name, paired), one.reset_id, counts) or wrong
        return wrong

    def _advance(self, place: _Place, reset_id: str, current: _Counts) -> str:
        if isinstance(current, ShadowCounts) and not math.isfinite(current.largest):
            return f"worker {place[0]} reports a score difference that is no number"
        life, before = self._positions.get(place, ("", None))
        began, _, number = life.rpartition("#")
        difference, shrank = current, False
        if before is None or began != reset_id:
            life = f"{reset_id}#0"
        else:
            since = current.since(before)  # type: ignore[arg-type]
            shrank = since is None
            if since is None:
                life = f"{reset_id}#{int(number) + 1}"
            elif _nothing(since):
                return ""
            else:
                difference = since
        self._positions[place] = life, current
        self._added[place, life] = _sum(self._added.get((place, life)), difference)
        self._total(place[1], place[2], difference)
        return f"the counters of worker {place[0]} were reset" if shrank else ""

    def _total(self, name: str, paired: bool, difference: _Counts) -> None:
        self._totals[name, paired] = _sum(self._totals.get((name, paired)), difference)

    def _champion_now(self, now_ns: int) -> tuple[int, ...]:
        total = np.zeros((2, len(COUNTS)), np.int64)
        for counts in self._generations(CHAMPION).values():
            groups = counts.values.sum(axis=0)
            total += np.stack([groups[::2].sum(axis=0), groups.sum(axis=0)])
        return (now_ns, *total.reshape(-1).tolist())

    def _step(self, step: tuple[int, ...]) -> None:
        self._steps = np.concatenate([self._steps, np.array([step], np.int64)])
        self._new_steps = (*self._new_steps, step)

    def _sample_due(self, now_ns: int, seen: bool) -> bool:
        """One a second, and each at which a reading begins or ceases to fail: a gap is never lost."""
        last = self._samples[-1] if self._samples else None
        return last is None or last.seen is not seen or now_ns - last.at_ns >= SAMPLE_S * NS_PER_S

    def _sample_now(self, now_ns: int, seen: bool) -> Sample:
        champion, candidate = (_totals(self._generations(arm).values()) for arm in (CHAMPION, CANDIDATE))
        return Sample(now_ns, champion, candidate, seen)

    def _sample(self, sample: Sample) -> None:
        last = self._samples[-1] if self._samples else Sample(0)
        changes = _changes(last.champion, sample.champion), _changes(last.candidate, sample.candidate)
        self._new_samples = (*self._new_samples, (sample.at_ns, sample.seen, *changes))
        self._samples = tuple(needed((*self._samples, sample), self._slos, sample.at_ns))

    def _generations(self, arm: str) -> dict[int, ArmCounts]:
        parsed = ((parse_key(name), each) for (name, _), each in self._totals.items() if isinstance(each, ArmCounts))
        return {generation: counts for (_, generation, which), counts in parsed if which == arm}


def _sum(before: _Counts | None, difference: _Counts) -> _Counts:
    return difference if before is None else before.plus(difference)  # type: ignore[arg-type]


def _nothing(difference: _Counts) -> bool:
    if isinstance(difference, ShadowCounts):
        return not (difference.pairs or difference.errors or difference.misses)
    return not (difference.values.any() or difference.times.any() or difference.scores.any())


def _totals(arms: Iterable[ArmCounts]) -> Totals:
    total = ArmCounts()
    for arm in arms:
        total = total.plus(arm)
    return Totals.of(total)


def _changes(old: Totals, new: Totals) -> tuple[int, ...]:
    """Places and by how much they changed, alternating."""
    change = np.array(new.counts + new.times) - np.array(old.counts + old.times)
    places = np.flatnonzero(change)
    return tuple(np.stack([places, change[places]], axis=1).reshape(-1).tolist())


def _changed(old: Totals, changes: tuple[int, ...]) -> Totals:
    cells = list(old.counts + old.times)
    for place, by in zip(changes[::2], changes[1::2], strict=True):
        if not 0 <= place < len(cells):
            raise IntegrityError("a sample of another version", "run the version that wrote it")
        cells[place] += by
    return Totals(tuple(cells[: len(COUNTS)]), tuple(cells[len(COUNTS) :]))
