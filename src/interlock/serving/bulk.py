"""Transactions in bulk: the checks, vectors, scores and decisions of the scorer, column by column.

Contract. Nothing here is a second way to do a thing: a raw row passes the very check of the wire
(`serving.wire.v1`), vectors come from `features.vector`, and `decision.decide.decide` decides. So
a row gets the bits that the scorer would have given it, if its velocities and its edge time are
the same. A row that breaks a rule is left out and told with its place and the rule, never with a
value. Card numbers become tokens before `take` returns.

Columns come and go as plain sequences and arrays: whoever reads files (`adapters.arrow`) makes
them, so that no table format is known here. No file, no clock and no randomness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol, get_type_hints

import msgspec
import numpy as np
import numpy.typing as npt

from interlock.base.clock import NS_PER_S
from interlock.base.errors import UsageError
from interlock.decision.decide import Model, Vectors, decide
from interlock.features.definition import FeatureSet
from interlock.features.vector import assemble_columns
from interlock.privacy import pan
from interlock.serving.wire import v1

Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]
Ints = npt.NDArray[np.int64]

BATCH = 4_096
"""Rows in one call of the model. It changes no score: ONNX Runtime on one thread gives a row the same
bits alone and in any batch (tests/serving/test_bulk.py)."""

EVENT_NS = "event_ns"
"""The event time as int64 nanoseconds, when a source has instants and no text; `NO_TIME` where it is null."""
NO_TIME = np.iinfo(np.int64).min
ENTITIES: Mapping[str, str] = {"card": "pan", "terminal": "terminal_id", "device": "device_id", "ip": "ip"}
"""Kind of entity → the field that names it."""

_CHUNK = 1_024
_LAST_NS = 4_102_444_800 * NS_PER_S  # the year 2100; a state's tiles end in 2106
_PLACE = re.compile(r"instances\[\d+\]\.?")
_Token = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


def _with_token() -> type[msgspec.Struct]:
    """`v1.Stated` with a card's token in place of its number: the same fields, the same rules."""
    hints = get_type_hints(v1.Stated, include_extras=True)
    fields: list[Any] = [("card", _Token)]
    fields += [
        (each.name, hints[each.name], *(() if each.required else (each.default,)))
        for each in msgspec.structs.fields(v1.Stated)
        if each.name != "pan"
    ]
    return msgspec.defstruct("Tokenised", fields, kw_only=True, forbid_unknown_fields=True, frozen=True)


Tokenised = _with_token()
_ID: Any = get_type_hints(v1.Stated, include_extras=True)["transaction_id"]
FIELDS = frozenset(v1.Stated.__struct_fields__) | {"card", EVENT_NS}
"""Columns that `take` reads; `pan` or `card`, `event_time` or `event_ns`."""
OPTIONAL = frozenset(each.name for each in msgspec.structs.fields(v1.Stated) if not each.required)


class Tokeniser(Protocol):
    """What `privacy.token.Tokeniser` offers."""

    def card(self, text: str) -> str:
        """Token of a card number; UsageError if it is none."""
        ...

    def entity(self, kind: str, value: str) -> str:
        """Token of another entity."""
        ...


@dataclass(frozen=True)
class Rejected:
    """A row that breaks a rule: its place among the rows, and the rule."""

    row: int
    reason: str


@dataclass(frozen=True)
class Taken:
    """The rows that keep the rules, tokenised, in their order.

    Attributes:
        inputs: by name `transaction_id`, the four entities' tokens, `amount` (int64), `currency`, `mcc`, `country`.
        event_ns: int64 [m], each event's time: its edge clock.
        rejected: the other rows.
    """

    inputs: dict[str, Any]
    event_ns: Ints
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class Scored:
    """float32 [n, width] vectors, float32 [n] scores, n decisions."""

    vectors: Vectors
    scores: Vectors
    decisions: list[str]


def take(columns: Columns, currencies: Sequence[str], tokeniser: Tokeniser) -> Taken:
    """Check and tokenise raw transactions.

    Args:
        columns: of `FIELDS`, n values each; None for a null. Other columns are not looked at.
        currencies: what the service accepts.
        tokeniser: under the home's key, so that tokens are those of the scorer and of snapshots.

    Raises:
        UsageError: a column is missing.
    """
    given = {name: _plain(values) for name, values in columns.items() if name in FIELDS and name != EVENT_NS}
    tokens = "card" in given
    refuse_missing(columns)
    rejected: dict[int, str] = {}
    found = _checked(given, Tokenised if tokens else v1.Stated, currencies, rejected)
    times = _instants(columns.get(EVENT_NS), given.get("event_time"), found, rejected)
    cards = given["card"] if tokens else _cards(given["pan"], tokeniser, found, rejected)
    kept = [row for row in found if row not in rejected]
    inputs: dict[str, Any] = {
        name: [given[name][row] for row in kept] if name in given else [None] * len(kept)
        for name in ("transaction_id", "currency", "mcc", "country")
    }
    inputs["amount"] = np.array([given["amount"][row] for row in kept], np.int64)
    inputs["card"] = [cards[row] for row in kept]
    for kind in ("terminal", "device", "ip"):
        inputs[kind] = _tokens(kind, [given[ENTITIES[kind]][row] for row in kept], tokeniser)
    told = tuple(Rejected(row, rejected[row]) for row in sorted(rejected))
    return Taken(inputs, np.array([times[row] for row in kept], np.int64), told)


def refuse_missing(names: Sequence[str] | Mapping[str, Any]) -> None:
    """Refuse raw columns that are not enough, or name the card twice.

    Raises:
        UsageError: naming what is missing.
    """
    if "pan" in names and "card" in names:
        raise UsageError("transactions with pan and card", "give card numbers, or their tokens")
    missing = [name for name in sorted(FIELDS - OPTIONAL - {"pan", "card", EVENT_NS}) if name not in names]
    missing += ["pan (or card)"] * ("pan" not in names and "card" not in names)
    missing += ["event_time"] * ("event_time" not in names and EVENT_NS not in names)
    if missing:
        raise UsageError(f"transactions without {', '.join(missing)}", "add the columns")


def score_columns(
    model: Model,
    features: FeatureSet,
    columns: Columns,
    values: Ints,
    edge_ms: Ints,
) -> Scored:
    """Vectors, scores and decisions of transactions whose velocities are known.

    Args:
        model: the version that answers.
        features: its feature set.
        columns: the request's fields by name, n each; `amount` as integers.
        values: int64 [n, features.value_count], what each event saw (`features.offline`).
        edge_ms: int64 [n], each event's edge time.

    Raises:
        UsageError: shapes that do not fit.
        IntegrityError: the model returned something that is no score.
    """
    vectors = np.empty((len(edge_ms), features.width), np.float32)
    for start in range(0, len(edge_ms), BATCH):
        part = slice(start, start + BATCH)
        inputs = {name: values_[part] for name, values_ in columns.items()}
        vectors[part] = assemble_columns(features, inputs, np.asarray(inputs["amount"]), values[part], edge_ms[part])
    return score_vectors(model, vectors)


def score_vectors(model: Model, vectors: Vectors, batch: int = BATCH) -> Scored:
    """Scores and decisions of vectors, float32 [n, model.width], `batch` rows a call.

    Raises:
        UsageError: the vectors have another shape or type.
        IntegrityError: the model returned something that is no score.
    """
    scores = np.empty(len(vectors), np.float32)
    decisions: list[str] = []
    for start in range(0, len(vectors), batch):
        found = decide(model, vectors[start : start + batch])
        scores[start : start + batch] = found.scores
        decisions += found.decisions
    return Scored(vectors, scores, decisions)


def refusals(ids: Sequence[Any], vectors: Vectors) -> dict[int, str]:
    """Of ready vectors, the rows that the wire would refuse, with the rule.

    Args:
        ids: n transaction ids.
        vectors: float32 [n, width], NaN for a null.
    """
    usable = np.isfinite(vectors).all(axis=1)
    found = {row: "a feature is null, NaN or infinite" for row in np.flatnonzero(~usable).tolist()}
    for start in range(0, len(ids), _CHUNK):
        chunk = list(ids[start : start + _CHUNK])
        if _id_refusal(chunk) is None:
            continue
        for row, one in enumerate(chunk, start):
            reason = _id_refusal([one])
            if reason is not None:
                found[row] = reason
    return found


def _id_refusal(ids: list[Any]) -> str | None:
    try:
        msgspec.convert(ids, list[_ID])
    except msgspec.ValidationError as error:
        return f"transaction_id: {v1.malformed(error, '').message.replace(' - at `$[0]`', '')}"
    return "transaction_id holds a card number" if any(pan.find(one) for one in ids) else None


def first_answers(ids: Ints, event_ms: Ints, window_ms: int) -> Ints:
    """Per row the row whose reply it gets: itself, or an earlier one of the same transaction id.

    The claim of `features.online`: an id that was answered less than `window_ms` ago gets that reply
    again and is not counted; later it is a new transaction.

    Args:
        ids: integer codes of the transaction ids, in event order.
        event_ms: int64 [n], ascending.
        window_ms: how long a reply is kept.

    Returns:
        int64 [n].
    """
    answers = np.arange(len(ids), dtype=np.int64)
    if not len(ids):
        return answers
    open_until: dict[int, tuple[int, int]] = {}
    for row in np.flatnonzero(np.bincount(ids)[ids] > 1).tolist():
        code, at = int(ids[row]), int(event_ms[row])
        first, until = open_until.get(code, (row, at))
        if at < until:
            answers[row] = first
        else:
            open_until[code] = (row, at + window_ms)
    return answers


def parse_instant(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time.

    Raises:
        ValueError: there is no such time.
    """
    head, tail = text[:19], text[19:]
    fraction = ""
    if tail.startswith("."):
        digits = len(tail) - len(tail[1:].lstrip("0123456789"))
        fraction, tail = tail[1:digits], tail[digits:]
    seconds = datetime.fromisoformat(head + tail).timestamp()
    return int(seconds) * NS_PER_S + int(fraction.ljust(9, "0"))


def _plain(values: Sequence[Any] | npt.NDArray[Any]) -> list[Any]:
    found: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return found


def _checked(
    given: Mapping[str, list[Any]], kind: type[msgspec.Struct], currencies: Sequence[str], rejected: dict[int, str]
) -> list[int]:
    """Rows that the wire would take; the reasons for the others go to `rejected`."""
    names = [name for name in kind.__struct_fields__ if name in given]
    found: list[int] = []
    for start in range(0, len(given["transaction_id"]), _CHUNK):
        cells = zip(*(given[name][start : start + _CHUNK] for name in names), strict=True)
        chunk = [dict(zip(names, each, strict=True)) for each in cells]
        if _refusal(chunk, kind, currencies) is None:
            found += range(start, start + len(chunk))
            continue
        for row, one in enumerate(chunk, start):
            reason = _refusal([one], kind, currencies)
            if reason is None:
                found.append(row)
            else:
                rejected[row] = reason
    return found


def _refusal(rows: list[dict[str, Any]], kind: type[msgspec.Struct], currencies: Sequence[str]) -> str | None:
    try:
        parsed: Any = msgspec.convert(rows, list[kind])  # type: ignore[valid-type]
        v1.check(parsed, currencies, len(rows))
    except msgspec.ValidationError as error:
        return v1.malformed(error, "correct it").message.replace("`$[0]", "`$")
    except UsageError as error:
        return _PLACE.sub("", error.message)
    return None


def _instants(
    exact: Sequence[Any] | npt.NDArray[Any] | None,
    texts: Sequence[str | None] | None,
    rows: list[int],
    rejected: dict[int, str],
) -> dict[int, int]:
    """Row → its time; a row without one cannot be placed among the others."""
    found: dict[int, int] = {}
    for row in rows:
        try:
            at = int(exact[row]) if exact is not None else parse_instant(texts[row] or "")  # type: ignore[index]
        except ValueError:
            at = NO_TIME
        if 0 <= at < _LAST_NS:
            found[row] = at
        else:
            rejected[row] = "event_time is missing, or no time between 1970 and 2100"
    return found


def _cards(pans: list[Any], tokeniser: Tokeniser, rows: list[int], rejected: dict[int, str]) -> dict[int, str]:
    known: dict[str, str | UsageError] = {}
    found: dict[int, str] = {}
    for row in rows:
        token = known.get(pans[row])
        if token is None:
            token = known[pans[row]] = _or_error(tokeniser.card, pans[row])
        if isinstance(token, UsageError):
            rejected[row] = token.message
        else:
            found[row] = token
    return found


def _or_error(make: Callable[[str], str], value: str) -> str | UsageError:
    try:
        return make(value)
    except UsageError as error:
        return error


def _tokens(kind: str, values: list[str], tokeniser: Tokeniser) -> list[str]:
    known = {value: tokeniser.entity(kind, value) for value in set(values)}
    return [known[value] for value in values]
