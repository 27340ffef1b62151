"""One definition of the features, online and offline.

A `FeatureSet` is all there is to know: which velocities are kept for which entity, and which
columns a vector has, in order. The Redis script, the Python reducer, the SQL and the vector
are all derived from it; its digest names it in bundles and decisions.

The predicate (see `reducer`): event *e* counts for query *q* in window (W, h) iff they share the
entity, seq(e) < seq(q), floor((tq-W)/h) <= floor(te/h) <= floor(tq/h), and
floor(te/h) >= floor((hw-W-L)/h), where hw is the entity's latest event time when q was applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from interlock.base.canonical import canonical, digest_of, sha256_hex
from interlock.base.errors import UsageError

ENTITY_KINDS = ("card", "terminal", "device", "ip")
AGGREGATIONS = ("count", "sum")
MAX_TILES = 250  # a tile's index is stored modulo 256
MAX_AMOUNT = 10**12  # minor units; 140 such amounts still fit a tile's 48-bit sum

_SCHEMA = 1
_OPERATIONS = ("input", "equals", "hour", "weekday", "velocity", "amount_over_mean", "share")


@dataclass(frozen=True)
class Window:
    """A sawtooth window: `seconds` long, counted in tiles of `hop_seconds`."""

    seconds: int
    hop_seconds: int

    def __post_init__(self) -> None:
        """Refuse windows that tiles cannot count exactly."""
        if self.hop_seconds < 1 or self.seconds < self.hop_seconds or self.seconds % self.hop_seconds:
            raise UsageError("a window must be a whole number of hops", "choose a hop that divides the window")

    @property
    def label(self) -> str:
        """`1m`, `24h`, `7d`: used in column names."""
        for unit, size, least in (("d", 86_400, 172_800), ("h", 3_600, 3_600), ("m", 60, 60)):
            if self.seconds >= least and self.seconds % size == 0:
                return f"{self.seconds // size}{unit}"
        return f"{self.seconds}s"

    def tiles(self, lateness_s: int) -> int:
        """The most tiles that can be kept at once."""
        return (self.seconds + lateness_s) // self.hop_seconds + 2


WINDOWS = (
    Window(60, 1),
    Window(600, 10),
    Window(3_600, 60),
    Window(86_400, 900),
    Window(604_800, 10_800),
)


@dataclass(frozen=True)
class Velocity:
    """Counts and sums of one entity's recent events.

    Attributes:
        name: unique in the feature set.
        entity: one of `ENTITY_KINDS`.
        value: the summed input, int64 minor units.
        aggs: what is kept per window.
        windows: ascending by length.
        lateness_s: how far behind the entity's latest event tiles are kept.
        version: of this velocity's meaning.
        owner: the person or team that answers for it.
    """

    name: str
    entity: str
    value: str = "amount"
    aggs: tuple[str, ...] = AGGREGATIONS
    windows: tuple[Window, ...] = WINDOWS
    lateness_s: int = 5
    version: int = 1
    owner: str = "fraud-features"

    def __post_init__(self) -> None:
        """Refuse what the tile arithmetic cannot hold."""
        if self.entity not in ENTITY_KINDS:
            raise UsageError("unknown entity in a velocity", f"use one of {', '.join(ENTITY_KINDS)}")
        if self.aggs != AGGREGATIONS or self.value != "amount":
            raise UsageError("a velocity keeps count and sum of the amount", "declare aggs=('count', 'sum')")
        if not self.windows or self.lateness_s < 0:
            raise UsageError("a velocity needs a window and a lateness >= 0", "declare both")
        if any(w.tiles(self.lateness_s) > MAX_TILES for w in self.windows):
            raise UsageError(f"a window has more than {MAX_TILES} tiles", "choose a longer hop or less lateness")

    @property
    def horizon_s(self) -> int:
        """After so much silence nothing of the entity counts any more."""
        return max(w.seconds + w.hop_seconds for w in self.windows) + self.lateness_s


@dataclass(frozen=True)
class Column:
    """One column of the vector.

    Attributes:
        name: unique in the feature set.
        op: `input` (a number), `equals` (1 if the input is `argument`), `hour`, `weekday` (UTC, edge clock),
            `velocity` (count or sum of an entity's window), `amount_over_mean` (amount / mean of a window),
            `share` (count of a window / count of the window named by `argument`).
        source: the input's name, or `entity:agg:window`.
        argument: see `op`.
        default: value when the input is missing or the divisor is 0.
        dtype: always float32.
    """

    name: str
    op: str
    source: str = ""
    argument: str = ""
    default: int = -1
    dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuse unknown operations and types."""
        if self.op not in _OPERATIONS or self.dtype != "float32":
            raise UsageError("unknown column operation or type", f"use float32 and one of {', '.join(_OPERATIONS)}")


@dataclass(frozen=True)
class FeatureSet:
    """A versioned set of velocities and the ordered columns of its vector."""

    name: str
    version: int
    velocities: tuple[Velocity, ...]
    columns: tuple[Column, ...]
    owner: str = "fraud-features"
    currencies: tuple[str, ...] = ("EUR",)

    def __post_init__(self) -> None:
        """Refuse sets that are ambiguous or name what is not there."""
        kinds = [v.entity for v in self.velocities]
        if not kinds or kinds != [k for k in ENTITY_KINDS if k in kinds]:
            raise UsageError("one velocity per entity, in the fixed order", f"order them as {', '.join(ENTITY_KINDS)}")
        if not self.columns or len({c.name for c in self.columns}) != len(self.columns):
            raise UsageError("column names must be present and unique", "rename or add a column")
        if len(self.currencies) != 1:
            raise UsageError("sums never mix currencies", "declare exactly one currency")
        for column in self.columns:
            self._check(column)

    def _check(self, column: Column) -> None:
        if column.op in ("velocity", "amount_over_mean", "share"):
            self.offset(column.source)
        if column.op == "share":
            self.offset(column.argument)

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """The kinds of entity, in the fixed order."""
        return tuple(v.entity for v in self.velocities)

    @cached_property
    def width(self) -> int:
        """Columns of a vector."""
        return len(self.columns)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in vector order."""
        return tuple(c.name for c in self.columns)

    @cached_property
    def value_count(self) -> int:
        """int64 values the store returns per transaction."""
        return sum(2 * len(v.windows) for v in self.velocities)

    def offset(self, source: str) -> int:
        """Index of `entity:agg:window` among the store's values.

        Raises:
            UsageError: the set keeps no such value.
        """
        entity, _, rest = source.partition(":")
        agg, _, label = rest.partition(":")
        start = 0
        for velocity in self.velocities:
            labels = [w.label for w in velocity.windows]
            if velocity.entity == entity and agg in AGGREGATIONS and label in labels:
                return start + 2 * labels.index(label) + AGGREGATIONS.index(agg)
            start += 2 * len(labels)
        raise UsageError("a column names a velocity that the set does not keep", "declare the velocity")

    @cached_property
    def digest(self) -> str:
        """`sha256:` of the RFC 8785 form."""
        return digest_of(canonical(self.to_json()))

    @cached_property
    def set_hash(self) -> str:
        """8 hex digits that name the online state: of the velocities alone.

        Feature sets that differ in columns share their state; ones that count differently never do.
        """
        return sha256_hex(canonical([_velocity_json(v) for v in self.velocities]))[:8]

    def to_json(self) -> dict[str, Any]:
        """The set as plain data; `from_json` gives it back."""
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "version": self.version,
            "owner": self.owner,
            "currencies": list(self.currencies),
            "velocities": [_velocity_json(v) for v in self.velocities],
            "columns": [
                {
                    "name": c.name,
                    "op": c.op,
                    "source": c.source,
                    "argument": c.argument,
                    "default": c.default,
                    "dtype": c.dtype,
                }
                for c in self.columns
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FeatureSet:
        """The set that `to_json` wrote.

        Raises:
            UsageError: it is of another schema, or malformed.
        """
        if data.get("schema") != _SCHEMA:
            raise UsageError("a feature set of an unknown schema", f"this version reads schema {_SCHEMA}")
        try:
            found = cls(
                name=str(data["name"]),
                version=int(data["version"]),
                owner=str(data["owner"]),
                currencies=tuple(data["currencies"]),
                velocities=tuple(_velocity_of(v) for v in data["velocities"]),
                columns=tuple(Column(**c) for c in data["columns"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("a malformed feature set", "take it from FeatureSet.to_json") from error
        return found


def _velocity_json(velocity: Velocity) -> dict[str, Any]:
    return {
        "name": velocity.name,
        "entity": velocity.entity,
        "value": velocity.value,
        "aggs": list(velocity.aggs),
        "windows": [[w.seconds, w.hop_seconds] for w in velocity.windows],
        "lateness_s": velocity.lateness_s,
        "version": velocity.version,
        "owner": velocity.owner,
    }


def _velocity_of(data: Mapping[str, Any]) -> Velocity:
    plain = dict(data)
    plain["aggs"] = tuple(plain["aggs"])
    plain["windows"] = tuple(Window(*w) for w in plain["windows"])
    return Velocity(**plain)


def velocity_columns(velocities: tuple[Velocity, ...]) -> tuple[Column, ...]:
    """One column per value the store returns, in its order."""
    return tuple(
        Column(f"{v.entity}_{agg}_{w.label}", "velocity", f"{v.entity}:{agg}:{w.label}", default=0)
        for v in velocities
        for w in v.windows
        for agg in v.aggs
    )


def feature_set(name: str, version: int, entities: tuple[str, ...], home_country: str = "FR") -> FeatureSet:
    """The standard set for any subset of the entities: velocities, request columns and ratios."""
    velocities = tuple(Velocity(f"{kind}_velocity", kind) for kind in entities)
    request = (
        Column("amount", "input", "amount"),
        Column("hour", "hour"),
        Column("weekday", "weekday"),
        Column("mcc", "input", "mcc"),
        Column("country_is_home", "equals", "country", home_country),
    )
    ratios = tuple(
        column
        for kind in entities
        for column in (
            Column(f"{kind}_amount_over_mean_24h", "amount_over_mean", f"{kind}:sum:24h"),
            Column(f"{kind}_amount_over_mean_7d", "amount_over_mean", f"{kind}:sum:7d"),
            Column(f"{kind}_share_1h_of_24h", "share", f"{kind}:count:1h", f"{kind}:count:24h"),
            Column(f"{kind}_share_24h_of_7d", "share", f"{kind}:count:24h", f"{kind}:count:7d"),
        )
    )
    return FeatureSet(name, version, velocities, request + velocity_columns(velocities) + ratios)


FRAUD = feature_set("fraud", 1, ENTITY_KINDS)
"""The default feature set: four entities, five windows, 40 integers, 61 columns."""
