"""What to train: a strict YAML file.

```
service: fraud
version: 1.1.0
snapshot: {table: transactions}           # the newest version, or version: N, or file: history.parquet
user: ada                                 # who trains: an id of people.json
ticket: RISK-1
purpose: candidate                        # or research
rows: 60000                               # at most so many training rows, drawn with the seed
trainer: {name: xgboost, rounds: 120, max_depth: 6}
split: {train_days: 3, gap_days: 0.5, test_days: 1.5}
thresholds: {flag_budget: 0.02}           # or {from: 1.1.0, flag_factor: 10}: same model, other cuts
gates: {min_roc_auc: 0.75}
reasons: [{code: R01, text: Many payments with this card, features: [card_count_1m, card_count_10m]}]
top_reasons: 3                            # reason codes per decision; without `reasons`: a default catalogue
```
Every mapping refuses keys it does not know and names those it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

import msgspec

from interlock.base import strict_yaml
from interlock.base.errors import UsageError
from interlock.registry.version import parse as parse_version

PURPOSES = ("candidate", "research")


@dataclass(frozen=True)
class SnapshotChoice:
    """Which dataset snapshot.

    Attributes:
        table: below the home's tables.
        version: of the table; None: the newest.
        file: raw transactions (Parquet or CSV, relative to the configuration) that become the
            table's next version first, as tokens; the same file is taken in once.
    """

    table: str = "transactions"
    version: int | None = None
    file: str | None = None


@dataclass(frozen=True)
class SplitChoice:
    """A split in time, in days of the snapshot's clock.

    Attributes:
        test_days: length of the test period, at the end.
        gap_days: between training and test, so that training labels are mature.
        train_days: length of the training period before the gap; None: all there is.
        warmup_days: days at the start that only fill the windows.
    """

    test_days: float = 1.0
    gap_days: float = 0.5
    train_days: float | None = None
    warmup_days: float = 0.0


@dataclass(frozen=True)
class ThresholdChoice:
    """How the cut points are chosen, on the exported model's scores of the test period.

    Attributes:
        flag_budget: share of transactions that may be flagged at all.
        review_share: share of the flagged ones that get at least REVIEW.
        decline_share: share of the flagged ones that get DECLINE.
        flag_factor: multiplies the budget (a release of thresholds alone).
        of: a version whose model is taken over unchanged; None: train one.
    """

    flag_budget: float = 0.02
    review_share: float = 0.6
    decline_share: float = 0.3
    flag_factor: float = 1.0
    of: str | None = None


@dataclass(frozen=True)
class GateChoice:
    """What a model must reach on the test period, and what its data must look like."""

    min_roc_auc: float = 0.70
    min_average_precision: float = 0.05
    min_recall_at_fpr_1: float = 0.05
    max_calibration_gap: float = 0.05
    min_positives: int = 50
    max_single_feature_auc: float = 0.995
    max_missing_share: float = 0.05
    max_repeated_share: float = 0.05
    max_input_shift: float = 0.25
    min_label_rate: float = 0.0005
    max_label_rate: float = 0.5


@dataclass(frozen=True)
class TrainConfig:
    """One training."""

    service: str
    version: str
    user: str
    ticket: str
    purpose: str = "candidate"
    seed: int = 7
    features: str = "fraud"
    rows: int | None = None
    snapshot: SnapshotChoice = SnapshotChoice()
    split: SplitChoice = SplitChoice()
    thresholds: ThresholdChoice = ThresholdChoice()
    gates: GateChoice = GateChoice()
    trainer: Mapping[str, Any] = field(default_factory=lambda: {"name": "xgboost"})
    reasons: list[dict[str, str | list[str]]] | None = None
    top_reasons: int = 3

    def to_json(self) -> dict[str, Any]:
        """The whole configuration, defaults included."""
        return dataclasses.asdict(self) | {"trainer": dict(self.trainer)}


_GROUPS = (SnapshotChoice, SplitChoice, ThresholdChoice, GateChoice)
_T = TypeVar("_T")


def parse(text: str, source: str) -> TrainConfig:
    """The configuration in a YAML text.

    Raises:
        UsageError: with line and remedy.
    """
    found = strict_yaml.load(text, source)
    if not isinstance(found, strict_yaml.Mapping):
        raise UsageError(f"{source}: not a mapping", "write service, version, user, ticket, …")
    config = _build(TrainConfig, found, source, "")
    _check(config, source)
    return config


def _build(kind: type[_T], given: strict_yaml.Mapping, source: str, prefix: str) -> _T:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in given.items():
        where = f"{source}:{given.lines[key]}"
        name = "of" if (kind, key) == (ThresholdChoice, "from") else key
        if name not in hints:
            raise UsageError(f"{where}: unknown key {prefix}{key}", f"known: {', '.join(hints)}")
        values[name] = _value(hints[name], value, where, f"{prefix}{key}")
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        without_default = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if without_default and values.get(each.name) is None:
            raise UsageError(f"{source}: {prefix}{each.name} is missing", "add it")
    return kind(**values)


def _value(hint: Any, value: Any, where: str, name: str) -> Any:
    if hint in _GROUPS or name == "trainer":
        if not isinstance(value, strict_yaml.Mapping):
            raise UsageError(f"{where}: {name} is no mapping", "write {key: value}")
        # The trainer's own mapping becomes a plain dictionary, which `asdict` can copy.
        return (
            {"name": "xgboost", **value}
            if name == "trainer"
            else _build(hint, value, where.rpartition(":")[0], f"{name}.")
        )
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {name}: {error}", "write a value of that type; text in quotes") from error


def _check(config: TrainConfig, source: str) -> None:
    parse_version(config.version)
    if config.purpose not in PURPOSES:
        raise UsageError(f"{source}: unknown purpose", f"use one of {', '.join(PURPOSES)}")
    if config.snapshot.file is not None and config.snapshot.version is not None:
        raise UsageError(f"{source}: the snapshot names a file and a version", "keep one of the two")
    if config.rows is not None and config.rows < 1:
        raise UsageError(f"{source}: rows must be at least 1", "leave it out to train on all of them")
    split, cuts = config.split, config.thresholds
    if split.test_days <= 0 or split.gap_days < 0 or split.warmup_days < 0:
        raise UsageError(f"{source}: a period of the split is negative or empty", "give positive days")
    if not 0 < cuts.flag_budget * cuts.flag_factor < 1 or not 0 < cuts.decline_share <= cuts.review_share <= 1:
        raise UsageError(f"{source}: the thresholds' shares do not fit", "0 < decline_share <= review_share <= 1")
