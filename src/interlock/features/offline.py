"""Velocities of a whole history: the same integers that the store would have answered.

`compute` takes events in their applied order. With an engine (`adapters.duckdb`) it counts runs of
events for entities whose time never goes back, and asks the engine about the others by generated
SQL; without one it runs the reducer, which is the truth and slow. `build_states` makes the store's
states after a history, vectorised; they equal the reducer's byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError, UsageError
from interlock.features import reducer, sql, state
from interlock.features.definition import MAX_AMOUNT, FeatureSet, Velocity, Window

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Events:
    """A history in applied order.

    Attributes:
        entities: per kind, the n tokens (any array of strings or integers).
        event_ms: int64 [n], edge time.
        amount: int64 [n], minor units.
    """

    entities: Mapping[str, npt.NDArray[Any]]
    event_ms: Ints
    amount: Ints

    def __post_init__(self) -> None:
        """Refuse columns of different length and amounts out of bounds."""
        sizes = {len(self.event_ms), len(self.amount), *(len(tokens) for tokens in self.entities.values())}
        if len(sizes) != 1:
            raise UsageError("event columns of different length", "pass one value per event in every column")
        if len(self.amount) and int(np.abs(self.amount).max()) > MAX_AMOUNT:
            raise UsageError("an amount out of bounds", f"keep amounts within ±{MAX_AMOUNT} minor units")


class Engine(Protocol):
    """Runs a generated query over one table called `events`."""

    def query(self, text: str, events: Mapping[str, Ints], columns: Sequence[str]) -> list[Ints]:
        """The named result columns as int64 arrays of equal length."""
        ...


def compute(feature_set: FeatureSet, events: Events, engine: Engine | None = None) -> Ints:
    """What each event saw, int64 [n, feature_set.value_count], rows in the events' order."""
    parts = []
    for velocity in feature_set.velocities:
        codes = _codes(events, velocity.entity)
        parts.append(compute_one(velocity, codes, events.event_ms, events.amount, engine))
    return np.concatenate(parts, axis=1)


def compute_one(velocity: Velocity, codes: Ints, event_ms: Ints, amount: Ints, engine: Engine | None = None) -> Ints:
    """`compute` of one velocity: entities do not see each other, so any whole ones may be computed apart.

    Args:
        velocity: the definition.
        codes: int64 [n], the events' entities as integers.
        event_ms: int64 [n], edge time.
        amount: int64 [n], minor units.
        engine: see `compute`.

    Returns:
        int64 [n, 2 * windows].
    """
    if engine is None:
        return _by_reducer(velocity, codes, event_ms, amount)
    return _by_engine(engine, velocity, codes, event_ms, amount)


def pieces(codes: Ints, size: int) -> Iterator[Ints]:
    """Places of the events of some whole entities at a time, for `compute_one`.

    Args:
        codes: int64 [n], the events' entities, in applied order.
        size: events in a piece; more only to keep the last entity whole.

    Yields:
        int64 [k], in applied order within each entity.
    """
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True]) + 1
    start = 0
    while start < len(codes):
        end = int(ends[np.searchsorted(ends, min(start + size, len(codes)))])
        yield order[start:end]
        start = end


def recent(feature_set: FeatureSet, events: Events, since_ms: int) -> npt.NDArray[np.bool_]:
    """bool [n]: which events an event at `since_ms` or later may see; the others change nothing for it."""
    horizon_ms = max(velocity.horizon_s for velocity in feature_set.velocities) * 1000
    return events.event_ms >= since_ms - horizon_ms


def _codes(events: Events, kind: str) -> Ints:
    if kind not in events.entities:
        raise UsageError("the events lack an entity of the feature set", f"add the tokens of {kind}")
    return np.unique(events.entities[kind], return_inverse=True)[1].astype(np.int64)


def _by_reducer(velocity: Velocity, codes: Ints, event_ms: Ints, amount: Ints) -> Ints:
    out = np.empty((len(codes), 2 * len(velocity.windows)), np.int64)
    states: dict[int, bytes] = {}
    for row, (code, at, value) in enumerate(zip(codes.tolist(), event_ms.tolist(), amount.tolist(), strict=True)):
        before = states.get(code)
        out[row] = reducer.read(velocity, before, at)
        states[code] = reducer.record(velocity, before, at, value)
    return out


def _by_engine(engine: Engine, velocity: Velocity, codes: Ints, event_ms: Ints, amount: Ints) -> Ints:
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    back = (ranked[1:] == ranked[:-1]) & (np.diff(event_ms[order]) < 0)
    late = np.isin(codes, ranked[1:][back]) if back.any() else np.zeros(len(codes), bool)
    out = np.empty((len(codes), 2 * len(velocity.windows)), np.int64)
    steady = order[~late[order]]
    out[steady] = _in_order(velocity, codes[steady], event_ms[steady], amount[steady])
    if late.any():
        seq = sequence_in(codes, order)
        table = {"entity": codes[late], "seq": seq[late], "event_ms": event_ms[late], "amount": amount[late]}
        out[late] = _query(engine, velocity, sql.general(velocity), table)
    return out


def _in_order(velocity: Velocity, codes: Ints, event_ms: Ints, amount: Ints) -> Ints:
    """What events saw, sorted by entity, of entities whose time never goes back.

    Then the late-event conditions of the predicate are void, and what an event sees of a window is the
    run of its entity's events from the window's oldest tile up to itself: two places in one ascending
    list of (entity, tile), and a difference of running sums.
    """
    out = np.empty((len(codes), 2 * len(velocity.windows)), np.int64)
    if not len(codes):
        return out
    own = np.arange(len(codes))
    sums = np.r_[0, np.cumsum(amount)]
    _, entity = np.unique(codes, return_inverse=True)
    for i, window in enumerate(velocity.windows):
        tile = event_ms // (window.hop_seconds * 1000)
        tile -= tile.min()
        width = int(tile.max()) + 1
        if (int(entity[-1]) + 1) * width >= 2**63:
            raise UsageError("more entities and time than one pass counts", "compute it in shorter histories")
        floor = entity * width
        oldest = np.maximum(tile - window.seconds // window.hop_seconds, 0)
        first = np.searchsorted(floor + tile, floor + oldest)
        out[:, 2 * i] = own - first
        out[:, 2 * i + 1] = sums[own] - sums[first]
    return out


def _query(engine: Engine, velocity: Velocity, text: str, table: Mapping[str, Ints]) -> Ints:
    entity, number, *values = engine.query(text, table, ["entity", "seq", *sql.value_names(velocity)])
    mine, theirs = np.lexsort((table["seq"], table["entity"])), np.lexsort((number, entity))
    same = len(mine) == len(theirs) and np.array_equal(table["entity"][mine], entity[theirs])
    if not same or not np.array_equal(table["seq"][mine], number[theirs]):
        raise IntegrityError("the engine lost or invented rows", "compute without an engine, and report this")
    # Rows come back in any order: carry them over by (entity, seq).
    found = np.empty((len(mine), len(values)), np.int64)
    found[mine] = np.column_stack(values)[theirs]
    return found


def sequence_in(codes: Ints, order: Ints) -> Ints:
    """Per event its 1-based number within its entity; `order` sorts the codes stably."""
    seq = np.empty(len(codes), np.int64)
    ranked = codes[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(codes) else np.empty(0, np.int64)
    lengths = np.diff(np.r_[starts, len(codes)])
    seq[order] = np.arange(1, len(codes) + 1) - np.repeat(starts, lengths)
    return seq


def build_states(feature_set: FeatureSet, events: Events, epoch: int = 1) -> Iterator[tuple[str, str, bytes]]:
    """`(kind, token, state)` of every entity after the history, ready for `OnlineStore.load`."""
    for velocity in feature_set.velocities:
        if velocity.entity not in events.entities:
            raise UsageError("the events lack an entity of the feature set", f"add the tokens of {velocity.entity}")
        tokens, codes = np.unique(events.entities[velocity.entity], return_inverse=True)
        built = _states(velocity, codes.astype(np.int64), len(tokens), events, epoch)
        for token, data in zip(tokens.tolist(), built, strict=True):
            yield velocity.entity, token.decode() if isinstance(token, bytes) else str(token), data


def _states(velocity: Velocity, codes: Ints, entities: int, events: Events, epoch: int) -> Iterator[bytes]:
    high = np.zeros(entities, np.int64)
    np.maximum.at(high, codes, events.event_ms)
    heads = np.zeros(entities, _head_type(velocity))
    heads["version"], heads["epoch"] = state.VERSION, epoch
    _put48(heads, "seq", np.bincount(codes, minlength=entities))
    _put48(heads, "high", high)
    bodies = [_window(velocity, i, window, codes, high, events, heads) for i, window in enumerate(velocity.windows)]
    plain = heads.tobytes()
    size = heads.dtype.itemsize
    for entity in range(entities):
        parts = [plain[entity * size : (entity + 1) * size]]
        parts += [data[bounds[entity] : bounds[entity + 1]] for data, bounds in bodies]
        yield b"".join(parts)


def _window(
    velocity: Velocity, number: int, window: Window, codes: Ints, high: Ints, events: Events, heads: npt.NDArray[Any]
) -> tuple[bytes, list[int]]:  # long: the columns it joins
    """Fill one window's head; return all closed tiles and, per entity, the byte where its own start."""
    hop = window.hop_seconds * 1000
    index = events.event_ms // hop
    kept = index >= ((high - (window.seconds + velocity.lateness_s) * 1000) // hop)[codes]
    entity, tile, amount = codes[kept], index[kept], events.amount[kept]
    order = np.lexsort((tile, entity))
    entity, tile, amount = entity[order], tile[order], amount[order]
    starts = np.flatnonzero(np.r_[True, (entity[1:] != entity[:-1]) | (tile[1:] != tile[:-1])])
    counts = np.diff(np.r_[starts, len(entity)])
    sums = np.add.reduceat(amount, starts)
    entity, tile = entity[starts], tile[starts]
    if int(np.abs(sums).max()) >= state.SUM_LIMIT:
        raise UsageError("a tile's sum out of bounds", "use smaller amounts, or a shorter hop")
    newest = np.r_[entity[1:] != entity[:-1], True]
    tiles = np.bincount(entity, minlength=len(high))
    totals = np.zeros(len(high), np.int64)
    np.add.at(totals, entity, sums)
    heads[f"open{number}"] = tile[newest]
    heads[f"closed{number}"] = tiles - 1
    heads[f"count{number}"] = counts[newest]
    _put48(heads, f"sum{number}", sums[newest])
    heads[f"events{number}"] = np.bincount(entity, weights=counts, minlength=len(high)).astype(np.int64)
    heads[f"total{number}"] = totals
    packed = np.zeros(int((~newest).sum()), _TILE_TYPE)
    packed["index"], packed["count"] = tile[~newest] % 256, counts[~newest]
    _put48(packed, "sum", sums[~newest])
    return packed.tobytes(), (np.r_[0, np.cumsum(tiles - 1)] * state.TILE_SIZE).tolist()


_TILE_TYPE = np.dtype([("index", "u1"), ("count", "<u4"), ("sum_low", "<u4"), ("sum_high", "<i2")])


def _head_type(velocity: Velocity) -> np.dtype[Any]:
    fields = [
        ("version", "u1"),
        ("epoch", "<u4"),
        ("seq_low", "<u4"),
        ("seq_high", "<i2"),
        ("high_low", "<u4"),
        ("high_high", "<i2"),
    ]
    for i in range(len(velocity.windows)):
        fields += [
            (f"open{i}", "<u4"),
            (f"closed{i}", "u1"),
            (f"count{i}", "<u4"),
            (f"sum{i}_low", "<u4"),
            (f"sum{i}_high", "<i2"),
            (f"events{i}", "<u4"),
            (f"total{i}", "<i8"),
        ]
    return np.dtype(fields)


def _put48(rows: npt.NDArray[Any], name: str, values: npt.NDArray[Any]) -> None:
    """A 48-bit integer as its low 32 bits and its high 16."""
    rows[f"{name}_low"], rows[f"{name}_high"] = values & 0xFFFF_FFFF, values >> 32
