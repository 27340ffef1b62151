"""The velocities of a batch: what each event saw, from the history snapshot on, in event order.

Contract. The order is that of the event times, ties in the input's order; each event's clock is its
event time. A transaction id that was answered within the reply window is not counted again, as
online. The result lies in the input's order, a file per kind of entity, so that row groups are
scored apart. Memory: the columns of all rows as integers, one kind of entity's tokens, and the
values of a million events: entities do not see each other, so they are computed by the piece.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from interlock.adapters.arrow import work
from interlock.apps.job.score_plan import Desk, Plan
from interlock.apps.job.score_units import ANSWERS, REPEATS, taken_file, values_file
from interlock.base.clock import NS_PER_MS
from interlock.base.files import replacing, sync_file
from interlock.features.definition import FeatureSet
from interlock.features.offline import Engine, Events, compute_one, pieces, recent
from interlock.serving.bulk import first_answers

STEP = "velocities"
_PIECE = 1_000_000
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
    again = np.flatnonzero(answers != np.arange(len(answers)))
    counted = np.delete(order, again)  # the rows that are events, in event order
    history = _recent(features, before(), event_ms)
    skipped = 0 if history is None else len(history.event_ms)
    event_ms, amounts = _numbers(paths, history, counted)
    for velocity in features.velocities:
        codes = _codes(paths, velocity.entity, history, counted)
        names.append(values_file(velocity.entity))
        with _matrix(desk.folder / names[-1], (len(order), 2 * len(velocity.windows))) as out:
            for rows in pieces(codes, _PIECE):
                values = compute_one(velocity, codes[rows], event_ms[rows], amounts[rows], engine)
                ours = rows >= skipped
                out[counted[rows[ours] - skipped]] = values[ours]
            out[order[again]] = out[order[answers[again]]]
    first = np.empty(len(order), np.int64)
    first[order] = order[answers]
    with replacing(desk.folder / ANSWERS, 0o600) as file:
        np.save(file, first, allow_pickle=False)
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


def _numbers(paths: Sequence[Path], before: Events | None, counted: Ints) -> tuple[Ints, Ints]:
    """Times (ms) and amounts of the history's events and then the batch's, in event order."""
    event_ms = work.numbers(paths, "event_ns")[counted] // NS_PER_MS
    amounts = work.numbers(paths, "amount")[counted]
    if before is None:
        return event_ms, amounts
    return np.concatenate([before.event_ms, event_ms]), np.concatenate([before.amount, amounts])


def _codes(paths: Sequence[Path], kind: str, before: Events | None, counted: Ints) -> Ints:
    """The entities of the same events, as integers."""
    if before is None:
        return work.codes(paths, kind)[counted]
    codes = work.codes(paths, kind, before.entities[kind])
    skipped = len(before.event_ms)
    return np.concatenate([codes[:skipped], codes[skipped:][counted]])


@contextlib.contextmanager
def _matrix(path: Path, shape: tuple[int, int]) -> Iterator[Ints]:
    """Integers on the disk, filled in any order; the file appears when the block ends well."""
    if not shape[0]:  # nothing can be mapped
        with replacing(path, 0o600) as file:
            np.save(file, np.empty(shape, np.int64), allow_pickle=False)
        yield np.empty(shape, np.int64)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    mapped = np.lib.format.open_memmap(temporary, "w+", np.int64, shape)
    yield mapped
    mapped.flush()
    del mapped
    temporary.chmod(0o600)
    sync_file(temporary)
    temporary.rename(path)
