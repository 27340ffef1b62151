"""What one process does with one row group: check and tokenise it, or score it.

Contract. A unit's files depend on the plan and the unit alone, never on which process makes them,
in what order, or how often. The plan's steps by unit: `take` (raw rows to tokens; card numbers end
here), `score` (tokens and velocities to scores), `vectors` (ready vectors to scores).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.adapters.arrow import columns, sink, work
from interlock.adapters.arrow.source import Part, Source
from interlock.apps.job.score_plan import Desk, Plan, Unit, read
from interlock.base.clock import NS_PER_MS
from interlock.decision.decide import Model
from interlock.features.definition import FeatureSet
from interlock.privacy.token import Tokeniser
from interlock.serving import bulk
from interlock.settings import Settings, load
from interlock.wiring import job

ANSWERS = "answers.npy"
REPEATS = "repeats.parquet"


def values_file(kind: str) -> str:
    """The velocities of one kind of entity, int64 [kept rows, 2 * windows], in the input's order."""
    return f"values-{kind}.npy"


def taken_file(number: int) -> str:
    """The tokenised rows of a unit."""
    return f"taken-{number:06d}.parquet"


def scored_file(number: int) -> str:
    """The scored rows of a unit."""
    return f"scored-{number:06d}.parquet"


def rejects_file(number: int) -> str:
    """The rejected rows of a unit."""
    return f"rejects-{number:06d}.parquet"


class Hand:
    """One process's tools for a plan; each is opened when it is first needed.

    Args:
        folder: the work folder, with the plan in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plan: Plan = read(folder)
        self._desk = Desk(folder)
        self._units = self._plan.units

    def do(self, step: str, number: int, start: int = 0) -> dict[str, Any]:
        """Do a step of a unit; returns what is noted of it.

        Args:
            step: `take`, `score` or `vectors`.
            number: of the unit.
            start: for `score`, the place of its first kept row among all.
        """
        unit = self._units[number]
        steps: Mapping[str, Callable[[], tuple[list[str], dict[str, Any]]]] = {
            "take": lambda: self._take(unit),
            "score": lambda: self._score(unit, start),
            "vectors": lambda: self._vectors(unit),
        }
        files, facts = steps[step]()
        return self._desk.finish(f"{step}-{number:06d}", files, facts)

    def _take(self, unit: Unit) -> tuple[list[str], dict[str, Any]]:
        table = self._read(unit)
        found = bulk.take(columns.raw(table), self._features.currencies, self._tokeniser)
        sink.write(self._folder / taken_file(unit.number), sink.taken(found.inputs, found.event_ns))
        self._reject(unit, [each.row for each in found.rejected], [each.reason for each in found.rejected])
        facts = {"kept": len(found.event_ns), "rejected": len(found.rejected)}
        return [taken_file(unit.number), rejects_file(unit.number)], facts

    def _score(self, unit: Unit, start: int) -> tuple[list[str], dict[str, Any]]:
        ids, inputs, event_ns = work.inputs(self._folder / taken_file(unit.number))
        rows = slice(start, start + len(event_ns))
        values = np.hstack([self._array(values_file(kind))[rows] for kind in self._features.entities])
        answers = self._array(ANSWERS)[rows]
        repeated = np.flatnonzero(answers != np.arange(rows.start, rows.stop))
        if len(repeated):
            event_ns = event_ns.copy()
            self._as_first(inputs, event_ns, repeated, start)
        scored = bulk.score_columns(self._model, self._features, inputs, values, event_ns // NS_PER_MS)
        return self._write(unit, ids, scored, {"repeated": len(repeated)})

    def _as_first(
        self, inputs: dict[str, Any], event_ns: npt.NDArray[np.int64], repeated: npt.NDArray[np.intp], start: int
    ) -> None:
        """A repeated transaction gets the reply of the first: so it is scored from the first one's fields."""
        rows, firsts = work.repeats(self._folder / REPEATS)
        place = np.searchsorted(rows, repeated + start)
        for name, values in inputs.items():
            for row, at in zip(repeated.tolist(), place.tolist(), strict=True):
                values[row] = firsts[name][at]
        event_ns[repeated] = np.asarray(firsts["event_ns"])[place]

    def _vectors(self, unit: Unit) -> tuple[list[str], dict[str, Any]]:
        table = self._read(unit)
        vectors = columns.vectors(table, self._features.names)
        ids = columns.plain(table.column("transaction_id"))
        wrong = bulk.refusals(ids, vectors)
        self._reject(unit, list(wrong), list(wrong.values()))
        kept = np.array([row for row in range(len(ids)) if row not in wrong], np.intp)
        scored = bulk.score_vectors(self._model, vectors[kept])
        files, facts = self._write(unit, [ids[row] for row in kept.tolist()], scored, {"repeated": 0})
        return [*files, rejects_file(unit.number)], facts | {"kept": len(kept), "rejected": len(wrong)}

    def _write(
        self, unit: Unit, ids: Any, scored: bulk.Scored, facts: dict[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        plan = self._plan
        schema = sink.output_schema(self._features.width if plan.with_vectors else None)
        batch = sink.scored_batch(ids, scored, (plan.version, plan.bundle, plan.threshold_set), schema)
        sink.write(self._folder / scored_file(unit.number), batch)
        found, counts = np.unique(np.asarray(scored.decisions, "U16"), return_counts=True)
        decisions = dict(zip(found.tolist(), counts.tolist(), strict=True))
        return [scored_file(unit.number)], facts | {"decisions": decisions}

    def _reject(self, unit: Unit, rows: list[int], reasons: list[str]) -> None:
        places = [unit.start + row for row in rows]
        table = sink.rejects(self._plan.parts[unit.part].name, places, reasons)
        sink.write(self._folder / rejects_file(unit.number), table)

    def _read(self, unit: Unit) -> Any:
        part = self._plan.parts[unit.part]
        return self._source.read(Part(part.name, part.path, part.size, part.mtime_ns), unit.group, self._plan.columns)

    def _array(self, name: str) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.load(self._folder / name, mmap_mode="r", allow_pickle=False)
        return found

    @cached_property
    def _settings(self) -> Settings:
        return load(Path(self._plan.home))

    @cached_property
    def _source(self) -> Source:
        return Source(self._plan.source)

    @cached_property
    def _tokeniser(self) -> Tokeniser:
        return job.tokeniser(self._settings)

    @cached_property
    def _model(self) -> Model:
        return job.open_bundle(self._settings, self._plan.bundle)

    @cached_property
    def _features(self) -> FeatureSet:
        return FeatureSet.from_json(self._model.manifest["feature_set"])
