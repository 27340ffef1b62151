"""Is the data fit to train on? Each check gives a named verdict; the worst decides.

A *leak* is a single input that all but separates the label: real features of fraud do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.analysis.performance import roc_auc
from interlock.base.errors import RefusedError
from interlock.base.verdict import Verdict, worst
from interlock.training.config import GateChoice


@dataclass(frozen=True)
class Check:
    """One judged quantity."""

    name: str
    verdict: Verdict
    value: float
    limit: float
    finding: str

    def to_json(self) -> dict[str, Any]:
        """For card and log."""
        return {
            "name": self.name,
            "verdict": self.verdict.word,
            "value": self.value,
            "limit": self.limit,
            "finding": self.finding,
        }


def check_data(
    vectors: NDArray[np.float32], labels: NDArray[np.bool_], names: tuple[str, ...], gates: GateChoice
) -> list[Check]:
    """Judge the training rows: enough frauds, a plausible rate, finite values, no leak."""
    positives, rate = int(labels.sum()), float(labels.mean())
    broken = float((~np.isfinite(vectors)).mean(axis=0).max())
    found = [
        at_least("enough positives", positives, gates.min_positives),
        at_least("label rate not too low", rate, gates.min_label_rate),
        at_most("label rate not too high", rate, gates.max_label_rate),
        at_most("missing or infinite values", broken, gates.max_missing_share),
    ]
    if 0 < positives < len(labels):
        found.append(_leakage(vectors, labels, names, gates.max_single_feature_auc))
    constant = [name for name, spread in zip(names, np.ptp(vectors, axis=0).tolist(), strict=True) if spread == 0]
    found.append(
        Check(
            "inputs that vary",
            Verdict.PASS if len(constant) < len(names) else Verdict.FAIL,
            len(constant),
            len(names) - 1,
            ", ".join(constant) or "all",
        )
    )
    return found


def _leakage(vectors: NDArray[np.float32], labels: NDArray[np.bool_], names: tuple[str, ...], limit: float) -> Check:
    best, who = 0.0, ""
    for column, name in enumerate(names):
        values = np.nan_to_num(vectors[:, column].astype(np.float64))
        area = roc_auc(values, labels)
        area = max(area, 1 - area)
        if area > best:
            best, who = area, name
    return Check("no input alone separates the label", Verdict.FAIL if best > limit else Verdict.PASS, best, limit, who)


def at_least(name: str, value: float, limit: float) -> Check:
    """PASS when value >= limit."""
    return Check(
        name, Verdict.PASS if value >= limit else Verdict.FAIL, float(value), float(limit), f"{value:g} ≥ {limit:g}"
    )


def at_most(name: str, value: float, limit: float) -> Check:
    """PASS when value <= limit."""
    return Check(
        name, Verdict.PASS if value <= limit else Verdict.FAIL, float(value), float(limit), f"{value:g} ≤ {limit:g}"
    )


def require(checks: list[Check], what: str) -> None:
    """Stop the training unless every check passed.

    Raises:
        RefusedError: naming what failed.
    """
    if worst(check.verdict for check in checks) is Verdict.PASS:
        return
    failed = [check for check in checks if check.verdict is not Verdict.PASS]
    raise RefusedError(
        f"{what}: " + "; ".join(f"{check.name} {check.verdict.word} ({check.finding})" for check in failed),
        "correct the data or the model; a limit is changed in the gates of the configuration, in review",
    )
