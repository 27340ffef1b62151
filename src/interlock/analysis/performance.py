"""How well scores rank and separate: ROC-AUC, average precision, recall, calibration.

All functions take `scores` float[n] and `labels` bool or 0/1 [n] of the same length, hold no
state and treat equal scores as one threshold (ties never depend on the row order). They raise
ValueError where a quantity is undefined: no positive, no negative, or nothing at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _ranked(scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Distinct thresholds descending, with cumulative true and false positives at each."""
    scores = np.asarray(scores, np.float64)
    labels = np.asarray(labels, bool)
    if scores.shape != labels.shape or scores.ndim != 1 or not len(scores):
        raise ValueError("scores and labels must be two equally long, non-empty rows")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], labels[order]
    last = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])
    positives = np.cumsum(hits)[last].astype(np.float64)
    return ranked[last], positives, (last + 1) - positives


def roc_auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve (trapezoids; ties count half)."""
    _, positives, negatives = _ranked(scores, labels)
    if not positives[-1] or not negatives[-1]:
        raise ValueError("ROC-AUC needs both classes")
    tpr, fpr = np.r_[0, positives / positives[-1]], np.r_[0, negatives / negatives[-1]]
    return float(np.sum((tpr[1:] + tpr[:-1]) / 2 * np.diff(fpr)))


def average_precision(scores: Array, labels: Array) -> float:
    """Average precision: sum of precision times the step in recall, without interpolation."""
    _, positives, negatives = _ranked(scores, labels)
    if not positives[-1]:
        raise ValueError("average precision needs a positive")
    precision = positives / (positives + negatives)
    return float(np.sum(np.diff(np.r_[0, positives / positives[-1]]) * precision))


def recall_at_precision(scores: Array, labels: Array, precision: float) -> float:
    """The highest recall among thresholds whose precision is at least `precision` (0 if none)."""
    _, positives, negatives = _ranked(scores, labels)
    if not positives[-1]:
        raise ValueError("recall needs a positive")
    good = positives / (positives + negatives) >= precision
    return float((positives[good] / positives[-1]).max()) if good.any() else 0.0


def recall_at_fpr(scores: Array, labels: Array, fpr: float) -> float:
    """The highest recall among thresholds whose false-positive rate is at most `fpr`."""
    _, positives, negatives = _ranked(scores, labels)
    if not positives[-1] or not negatives[-1]:
        raise ValueError("recall at a false-positive rate needs both classes")
    good = negatives / negatives[-1] <= fpr
    return float((positives[good] / positives[-1]).max()) if good.any() else 0.0


def confusion(scores: Array, labels: Array, cut: float) -> dict[str, int]:
    """Counts at `score >= cut`: tp, fp, fn, tn."""
    flagged, labels = np.asarray(scores) >= cut, np.asarray(labels, bool)
    return {
        "tp": int((flagged & labels).sum()),
        "fp": int((flagged & ~labels).sum()),
        "fn": int((~flagged & labels).sum()),
        "tn": int((~flagged & ~labels).sum()),
    }


def calibration(scores: Array, labels: Array, bins: int = 10) -> list[dict[str, float]]:
    """Mean score beside the observed rate, in bins of equal count: rows {count, score, rate}."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, bool)
    parts = np.array_split(np.argsort(scores, kind="stable"), bins)
    return [
        {"count": float(len(part)), "score": float(scores[part].mean()), "rate": float(labels[part].mean())}
        for part in parts
        if len(part)
    ]


def brier(scores: Array, labels: Array) -> float:
    """Mean squared distance between score and label."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels, np.float64)) ** 2))
