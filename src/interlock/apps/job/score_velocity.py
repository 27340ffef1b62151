"""The velocities of a batch: what each event saw, from the history snapshot on, in event order.

Contract. The order is that of the event times, ties in the input's order; each event's clock is its
event time. A transaction id that was answered within the reply window is not counted again, as
online. The result lies in the input's order, a file per kind of entity, so that row groups are
scored apart. Memory: the columns of all rows as integers, and one velocity's values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.adapters.arrow import work
from interlock.apps.job.score_plan import Desk, Plan
from interlock.apps.job.score_units import ANSWERS, REPEATS, taken_file, values_file
from interlock.base.clock import NS_PER_MS
from interlock.base.files import replacing
from interlock.features.definition import FeatureSet
from interlock.features.offline import Engine, Events, compute_each, recent
from interlock.serving.bulk import first_answers

STEP = "velocities"
Ints = npt.NDArray[np.int64]


def velocities(
    plan: Plan, desk: Desk, features: FeatureSet, engine: Engine, before: Callable[[], Events | None]
) -> dict[str, Any]:
    """Write what every kept row saw; done once for a plan.

    Args:
        plan: the batch.
        desk: its work folder, with every unit taken.
        features: the model's feature set.
        engine: computes.
        before: reads the history's events, or gives None.
    """
    known = desk.finished(STEP)
    if known is not None:
        return known
    paths = [desk.folder / taken_file(unit.number) for unit in plan.units]
    times = work.numbers(paths, "event_ns")
    order = np.argsort(times, kind="stable")
    event_ms = times[order] // NS_PER_MS
    answers = first_answers(work.codes(paths, "transaction_id")[order], event_ms, plan.window_s * 1000)
    names = [_repeats(desk.folder, paths, order, answers)]
    fresh = np.flatnonzero(answers == np.arange(len(answers)))
    history = _recent(features, before(), event_ms)
    events, skipped = _joined(features, history, paths, order[fresh], (event_ms[fresh], work.numbers(paths, "amount")))
    # Place among the fresh ones of the row whose reply each row gets.
    answered = np.searchsorted(fresh, answers)
    for velocity, values in compute_each(features, events, engine):
        out = np.empty((len(order), values.shape[1]), np.int64)
        out[order] = values[skipped:][answered]
        names.append(values_file(velocity.entity))
        _save(desk.folder / names[-1], out)
    first = np.empty(len(order), np.int64)
    first[order] = order[answers]
    _save(desk.folder / ANSWERS, first)
    return desk.finish(STEP, [*names, ANSWERS], {"history_events": skipped})


def _repeats(folder: Path, paths: Sequence[Path], order: Ints, answers: Ints) -> str:
    again = np.flatnonzero(answers != np.arange(len(answers)))
    rows, firsts = order[again], order[answers[again]]
    sort = np.argsort(rows)
    work.note_repeats(folder / REPEATS, paths, rows[sort], firsts[sort])
    return REPEATS


def _recent(features: FeatureSet, before: Events | None, event_ms: Ints) -> Events | None:
    if before is None or not len(event_ms):
        return None
    kept = recent(features, before, int(event_ms[0]))
    tokens = {kind: before.entities[kind][kept] for kind in features.entities}
    return Events(tokens, before.event_ms[kept], before.amount[kept])


def _joined(
    features: FeatureSet, before: Events | None, paths: Sequence[Path], rows: Ints, columns: tuple[Ints, Ints]
) -> tuple[Events, int]:
    """History and batch as one sequence of events, and how many are history."""
    event_ms, amounts = columns
    skipped = 0 if before is None else len(before.event_ms)
    entities = {}
    for kind in features.entities:
        codes = work.codes(paths, kind, None if before is None else before.entities[kind])
        entities[kind] = np.concatenate([codes[:skipped], codes[skipped:][rows]])
    if before is not None:
        event_ms = np.concatenate([before.event_ms, event_ms])
        amounts = np.concatenate([before.amount, amounts[rows]])
    else:
        amounts = amounts[rows]
    return Events(entities, event_ms, amounts), skipped


def _save(path: Path, values: Ints) -> None:
    with replacing(path, 0o600) as file:
        np.save(file, values, allow_pickle=False)
