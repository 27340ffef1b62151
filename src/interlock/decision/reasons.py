"""Reason codes: what a model's contributions mean in the words of its catalogue.

`explain/reasons.json` of a bundle: `{"schema": 1, "top": 3, "reasons": [{"code", "text",
"features": [...], "direction": "raises"}]}`. A feature belongs to one reason at most, so that no
contribution is told twice; the contributions of a reason's features are added, and the reason is
given when the sum raises the risk. Training refuses a catalogue that names what the model does
not take; a bundle without one (older than this file) is explained without codes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.base.errors import UsageError
from interlock.features.definition import Column, FeatureSet
from interlock.privacy import pan

FILE = "explain/reasons.json"
SCHEMA = 1
TOP = 3
RAISES = "raises"

_MOST = 10
_MAX_TEXT = 200
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,15}")

_TEXTS: Mapping[str, str] = {
    "card": "Unusual activity of this card",
    "terminal": "Unusual activity at this terminal",
    "device": "Unusual activity from this device",
    "ip": "Unusual activity from this network address",
    "amount": "An amount out of line with what is usual here",
    "time": "The time of day or the day of the week",
    "country": "The country of the payment",
    "mcc": "The merchant's category",
    "other": "Another property of the payment",
}
_INPUTS = {"amount": "amount", "mcc": "mcc", "country": "country"}


@dataclass(frozen=True)
class Meaning:
    """One row of a catalogue: a code, its words, and the features whose contributions it sums."""

    code: str
    text: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class Catalogue:
    """A model's reason codes; at most `top` of them are given for a decision."""

    meanings: tuple[Meaning, ...]
    top: int = TOP

    @classmethod
    def parse(cls, document: Any, names: Sequence[str]) -> Catalogue:
        """The catalogue in a document, for a model with these inputs.

        Raises:
            UsageError: another schema, a malformed row, a code twice, a feature twice or one that the model lacks.
        """
        try:
            schema, top = document["schema"], document["top"]
            rows = [_meaning(row) for row in document["reasons"]]
        except (KeyError, TypeError) as error:
            raise UsageError("not a catalogue of reasons", "give schema, top and reasons") from error
        if schema != SCHEMA or type(top) is not int or not 1 <= top <= _MOST or not rows:
            raise UsageError(
                "a catalogue of reasons of another schema or size", f"write schema {SCHEMA}, top 1 to {_MOST}"
            )
        _refuse_repeated("code", Counter(row.code for row in rows))
        _refuse_repeated("feature", Counter(name for row in rows for name in row.features))
        unknown = sorted({name for row in rows for name in row.features} - set(names))
        if unknown:
            raise UsageError(
                f"{len(unknown)} features of the catalogue of reasons are no inputs of the model",
                "name columns of the feature set",
            )
        return cls(tuple(rows), top)

    def to_json(self) -> dict[str, Any]:
        """The document that `parse` reads."""
        rows = [
            {"code": each.code, "text": each.text, "features": list(each.features), "direction": RAISES}
            for each in self.meanings
        ]
        return {"schema": SCHEMA, "top": self.top, "reasons": rows}


@dataclass(frozen=True)
class Reason:
    """A reason of one decision, and what it adds to the margin (log-odds)."""

    code: str
    text: str
    contribution: float


def reasons(catalogue: Catalogue, names: Sequence[str], contributions: Sequence[float]) -> list[Reason]:
    """The reasons that raised the risk most, strongest first; equal ones by code.

    Args:
        catalogue: of the model.
        names: the model's inputs, in vector order.
        contributions: to the margin, one per name.
    """
    by_name = dict(zip(names, contributions, strict=True))
    summed = [Reason(each.code, each.text, _sum(each, by_name)) for each in catalogue.meanings]
    raising = [each for each in summed if each.contribution > 0]
    return sorted(raising, key=lambda each: (-each.contribution, each.code))[: catalogue.top]


def default(features: FeatureSet) -> Catalogue:
    """The catalogue that training writes when it is given none: every column in exactly one reason."""
    groups: dict[str, list[str]] = {name: [] for name in _TEXTS}
    for column in features.columns:
        groups[_group(column)].append(column.name)
    return Catalogue(
        tuple(
            Meaning(f"R{place:02d}", _TEXTS[name], tuple(groups[name]))
            for place, name in enumerate(_TEXTS, start=1)
            if groups[name]
        )
    )


def _group(column: Column) -> str:
    if column.op in ("velocity", "share"):
        return column.source.partition(":")[0]
    if column.op == "amount_over_mean":
        return "amount"
    if column.op in ("hour", "weekday"):
        return "time"
    return _INPUTS.get(column.source, "other")


def _sum(meaning: Meaning, by_name: Mapping[str, float]) -> float:
    # In the catalogue's order: the same decision gives the same bits every time.
    return float(sum(by_name[name] for name in meaning.features))


def _meaning(row: Mapping[str, Any]) -> Meaning:
    code, text, features = row["code"], row["text"], row["features"]
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise UsageError("a reason's code is malformed", "use capitals, digits and _, such as R01")
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT or not text.isprintable() or pan.find(text):
        raise UsageError(
            "a reason's text is no plain sentence", f"write one printable line of at most {_MAX_TEXT} characters"
        )
    if not isinstance(features, list) or not features or not all(isinstance(name, str) for name in features):
        raise UsageError("a reason names no features", "list columns of the feature set")
    if row.get("direction", RAISES) != RAISES or set(row) - {"code", "text", "features", "direction"}:
        raise UsageError("a reason has an unknown key or direction", f"give code, text, features, direction: {RAISES}")
    return Meaning(code, text, tuple(features))


def _refuse_repeated(what: str, counted: Counter[str]) -> None:
    if counted and counted.most_common(1)[0][1] > 1:
        raise UsageError(f"a {what} stands twice in the catalogue of reasons", "name each once")
