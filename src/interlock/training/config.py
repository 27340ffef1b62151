"""What to train: a strict YAML file.

```
service: fraud
version: 1.1.0
snapshot: {table: transactions}           # the newest version, or version: N
user: ada                                 # who trains: an id of people.json
ticket: RISK-1
purpose: candidate                        # or research
trainer: {name: xgboost, rounds: 120, max_depth: 6}
split: {train_days: 3, gap_days: 0.5, test_days: 1.5}
thresholds: {flag_budget: 0.02}           # or {from: 1.1.0, flag_factor: 10}: same model, other cuts
gates: {min_roc_auc: 0.75}
```
Every mapping refuses keys it does not know and names those it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from interlock.base import strict_yaml
from interlock.base.errors import UsageError
from interlock.registry.version import parse as parse_version

PURPOSES = ("candidate", "research")


@dataclass(frozen=True)
class SnapshotChoice:
    """Which dataset snapshot: `table` below the home's tables, `version` (None: the newest)."""

    table: str = "transactions"
    version: int | None = None


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

    def to_json(self) -> dict[str, Any]:
        """The whole configuration, defaults included."""
        return dataclasses.asdict(self) | {"trainer": dict(self.trainer)}


_GROUPS: dict[str, type] = {
    "snapshot": SnapshotChoice,
    "split": SplitChoice,
    "thresholds": ThresholdChoice,
    "gates": GateChoice,
}
_T = TypeVar("_T")


def parse(text: str, source: str) -> TrainConfig:
    """The configuration in a YAML text.

    Raises:
        UsageError: with line and remedy.
    """
    found = strict_yaml.load(text, source)
    if not isinstance(found, strict_yaml.Mapping):
        raise UsageError(f"{source}: not a mapping", "write service, version, user, ticket, …")
    given: dict[str, Any] = dict(found)
    for name, kind in _GROUPS.items():
        if name in given:
            given[name] = _group(kind, given[name], source, name)
    if isinstance(given.get("trainer"), dict):
        # A plain dictionary: the reader's own mapping cannot be copied by `asdict`.
        given["trainer"] = {"name": "xgboost", **given["trainer"]}
    config = _build(TrainConfig, given, source, "")
    _check(config, source)
    return config


def _group(kind: type[_T], given: Any, source: str, name: str) -> _T:
    if not isinstance(given, dict):
        raise UsageError(f"{source}: {name} is no mapping", "write {key: value}")
    renamed = {("of" if kind is ThresholdChoice and key == "from" else key): value for key, value in given.items()}
    return _build(kind, renamed, source, f"{name}.")


def _build(kind: type[_T], given: Mapping[str, Any], source: str, prefix: str) -> _T:
    known = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in given if key not in known]
    if unknown:
        raise UsageError(f"{source}: unknown key {prefix}{unknown[0]}", f"known: {', '.join(known)}")
    required = [
        name
        for name, each in known.items()
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if given.get(name) is None]
    if missing:
        raise UsageError(f"{source}: {prefix}{missing[0]} is missing", "add it")
    return kind(**given)


def _check(config: TrainConfig, source: str) -> None:
    parse_version(str(config.version))
    for name in ("service", "user", "ticket", "version"):
        if not isinstance(getattr(config, name), str):
            raise UsageError(f"{source}: {name} is no text", "put it in quotes")
    if config.purpose not in PURPOSES:
        raise UsageError(f"{source}: unknown purpose", f"use one of {', '.join(PURPOSES)}")
    split, cuts = config.split, config.thresholds
    if split.test_days <= 0 or split.gap_days < 0 or split.warmup_days < 0:
        raise UsageError(f"{source}: a period of the split is negative or empty", "give positive days")
    if not 0 < cuts.flag_budget * cuts.flag_factor < 1 or not 0 < cuts.decline_share <= cuts.review_share <= 1:
        raise UsageError(f"{source}: the thresholds' shares do not fit", "0 < decline_share <= review_share <= 1")
