"""The oracle: the velocity arithmetic in plain Python, byte for byte what the script does.

`read` and `record` are pure: state bytes in, integers or state bytes out. Whatever else computes
velocities (the Lua script, SQL, the bulk loader) is tested against this file. It is written to
be read, not to be fast: every read scans every kept tile, and no running total is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct

from interlock.base.errors import IntegrityError, UsageError
from interlock.features import state
from interlock.features.definition import MAX_AMOUNT, Velocity, Window

_HEAD = Struct("<BIIHIH")  # u48 as u32 and u16
_WINDOW = Struct("<IBIIhIq")
_TILE = Struct("<BIIh")

Tiles = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class EntityState:
    """One entity: its applied sequence, its latest event time, and its kept tiles per window."""

    epoch: int
    seq: int
    high_ms: int
    tiles: tuple[Tiles, ...]


def read(velocity: Velocity, data: bytes | None, event_ms: int) -> tuple[int, ...]:
    """What a query at `event_ms` sees: per window count and sum, before its own event."""
    if data is None:
        return (0, 0) * len(velocity.windows)
    found = parse(velocity, data)
    values: list[int] = []
    for window, tiles in zip(velocity.windows, found.tiles, strict=True):
        newest = event_ms // _hop_ms(window)
        oldest = (event_ms - window.seconds * 1000) // _hop_ms(window)
        inside = [tile for index, tile in tiles.items() if oldest <= index <= newest]
        values += [sum(count for count, _ in inside), sum(total for _, total in inside)]
    return tuple(values)


def record(velocity: Velocity, data: bytes | None, event_ms: int, amount: int, epoch: int = 1) -> bytes:
    """The state after one more event.

    Args:
        velocity: the definition.
        data: the state before, or None for an entity never seen.
        event_ms: the event's time.
        amount: minor units.
        epoch: of a state that starts here.

    Raises:
        UsageError: the amount, or the tile's sum, is out of bounds.
    """
    if abs(amount) > MAX_AMOUNT:
        raise UsageError("an amount out of bounds", f"keep it within ±{MAX_AMOUNT} minor units")
    before = parse(velocity, data) if data is not None else EntityState(epoch, 0, 0, ({},) * len(velocity.windows))
    high = max(before.high_ms, event_ms)
    tiles = tuple(
        _add(dict(kept), window, velocity.lateness_s, high, event_ms, amount)
        for window, kept in zip(velocity.windows, before.tiles, strict=True)
    )
    return serialise(EntityState(before.epoch, before.seq + 1, high, tiles))


def fold(velocity: Velocity, events: Iterable[tuple[int, int]], epoch: int = 1) -> bytes | None:
    """The state after `(event_ms, amount)` pairs in order; None after none."""
    data: bytes | None = None
    for event_ms, amount in events:
        data = record(velocity, data, event_ms, amount, epoch)
    return data


def position(data: bytes) -> tuple[int, int]:
    """(epoch, seq) of the last event in a state."""
    _, epoch, low, high, _, _ = _HEAD.unpack_from(data)
    return epoch, low | high << 32


def parse(velocity: Velocity, data: bytes) -> EntityState:
    """Read a state.

    Raises:
        IntegrityError: it is none, or of another version or shape.
    """
    offset = state.closed_offset(velocity)
    if len(data) < offset or data[0] != state.VERSION:
        raise IntegrityError("not a velocity state of this version", "load the store again from a snapshot")
    _, epoch, seq_low, seq_high, high_low, high_high = _HEAD.unpack_from(data)
    heads = [_WINDOW.unpack_from(data, state.HEAD_SIZE + i * state.WINDOW_SIZE) for i in range(len(velocity.windows))]
    if offset + sum(head[1] for head in heads) * state.TILE_SIZE != len(data):
        raise IntegrityError("a velocity state of the wrong length", "load the store again from a snapshot")
    windows: list[Tiles] = []
    for newest, closed, count, low, high, _, _ in heads:
        tiles: Tiles = {}
        for _ in range(closed):
            index, tile_count, tile_low, tile_high = _TILE.unpack_from(data, offset)
            tiles[newest - (newest - index) % 256] = (tile_count, tile_low | tile_high << 32)
            offset += state.TILE_SIZE
        tiles[newest] = (count, low | high << 32)
        windows.append(tiles)
    return EntityState(epoch, seq_low | seq_high << 32, high_low | high_high << 32, tuple(windows))


def serialise(entity: EntityState) -> bytes:
    """The bytes of a state that has recorded at least one event."""
    parts = [_HEAD.pack(state.VERSION, entity.epoch, *_split(entity.seq), *_split(entity.high_ms))]
    bodies: list[bytes] = []
    for tiles in entity.tiles:
        indexes = sorted(tiles)
        newest = indexes.pop()
        count, total = tiles[newest]
        every = list(tiles.values())
        parts.append(
            _WINDOW.pack(
                newest, len(indexes), count, *_split(total), sum(c for c, _ in every), sum(t for _, t in every)
            )
        )
        bodies += [_TILE.pack(index % 256, tiles[index][0], *_split(tiles[index][1])) for index in indexes]
    return b"".join(parts + bodies)


def _add(tiles: Tiles, window: Window, lateness_s: int, high: int, event_ms: int, amount: int) -> Tiles:
    index = event_ms // _hop_ms(window)
    oldest = (high - (window.seconds + lateness_s) * 1000) // _hop_ms(window)
    if index >= oldest:
        count, total = tiles.get(index, (0, 0))
        tiles[index] = (count + 1, total + amount)
        if abs(total + amount) >= state.SUM_LIMIT:
            raise UsageError("a tile's sum out of bounds", "use smaller amounts, or a shorter hop")
    return {i: tile for i, tile in tiles.items() if i >= oldest}


def _split(value: int) -> tuple[int, int]:
    """A 48-bit integer as its low 32 bits and its (signed) high 16."""
    return value & 0xFFFF_FFFF, value >> 32


def _hop_ms(window: Window) -> int:
    return window.hop_seconds * 1000
