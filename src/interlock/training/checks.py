"""Is the data fit to train on? Each check gives a named verdict; the worst decides.

A *leak* is a single input that all but separates the label: real features of fraud do not.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        at_most("repeated rows", _repeated(vectors), gates.max_repeated_share),
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


def check_shift(
    train: NDArray[np.float32], test: NDArray[np.float32], columns: Mapping[str, int], limit: float
) -> Check:
    """Judge how far the test period's inputs have moved from the training period's.

    Args:
        train: float32 [n, width].
        test: float32 [m, width].
        columns: which columns to compare, by name.
        limit: highest population stability index (below 0.1: alike; above 0.25: another population).
    """
    found = {name: _stability(train[:, column], test[:, column]) for name, column in columns.items()}
    who = max(found, key=lambda name: found[name], default="")
    worst_one = found.get(who, 0.0)
    verdict = Verdict.FAIL if worst_one > limit else Verdict.PASS
    return Check("inputs are distributed alike in training and test", verdict, worst_one, limit, who)


def _stability(train: NDArray[np.float32], test: NDArray[np.float32]) -> float:
    """Population stability index over the training period's bins."""
    edges = _edges(train, 10)
    shares = []
    for values in (train, test):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        shares.append((counts + 0.5) / (len(values) + 0.5 * (len(edges) + 1)))
    expected, found = shares
    return float(np.sum((found - expected) * np.log(found / expected)))


def _edges(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Cut points between bins: each value its own bin when there are few, else quantiles."""
    distinct = np.unique(values)
    if len(distinct) <= 4 * bins:
        return distinct[1:]
    cuts, counts = np.unique(np.quantile(values, np.arange(1, bins) / bins).astype(np.float32), return_counts=True)
    # A value that fills a bin by itself gets one to itself.
    return np.unique(np.concatenate([cuts, np.nextafter(cuts[counts > 1], np.float32(np.inf))]))


def _repeated(vectors: NDArray[np.float32]) -> float:
    """Share of rows that equal an earlier one in every input: a flood of copies."""
    rows = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.dtype.itemsize * vectors.shape[1])))
    return 1 - len(np.unique(rows)) / len(vectors)


def _leakage(vectors: NDArray[np.float32], labels: NDArray[np.bool_], names: tuple[str, ...], limit: float) -> Check:
    best, who = 0.0, ""
    for column, name in enumerate(names):
        area = _alone(np.nan_to_num(vectors[:, column]), labels)
        if area > best:
            best, who = area, name
    return Check("no input alone separates the label", Verdict.FAIL if best > limit else Verdict.PASS, best, limit, who)


def _alone(values: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """How well one input ranks the label: as it is, turned round, or by the label rate of its bins.

    The bins find a leak that hides in the middle of the range or in a code. Their rates come from
    one half of the rows and are judged on the other, so that noise does not look like a leak.
    """
    area = roc_auc(values, labels)
    best = max(area, 1 - area)
    half = np.random.default_rng(0).permutation(len(values))
    known, judged = half[::2], half[1::2]
    if 0 < labels[judged].sum() < len(judged):
        edges = _edges(values[known], 64)
        bins = np.searchsorted(edges, values, side="right")
        frauds = np.bincount(bins[known], labels[known], len(edges) + 1)
        rates = frauds / np.maximum(np.bincount(bins[known], minlength=len(edges) + 1), 1)
        best = max(best, roc_auc(rates[bins[judged]], labels[judged]))
    return best


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
