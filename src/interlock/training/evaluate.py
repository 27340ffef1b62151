"""What the exported model does on a period it has not seen: figures, segments, gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.analysis import performance
from interlock.training.checks import Check, at_least, at_most
from interlock.training.config import GateChoice

Scores = NDArray[np.float32]
Labels = NDArray[np.bool_]


def metrics(scores: Scores, labels: Labels) -> dict[str, float]:
    """The figures of one period."""
    bins = performance.calibration(scores, labels)
    weights = np.array([row["count"] for row in bins]) / len(labels)
    gaps = np.array([abs(row["score"] - row["rate"]) for row in bins])
    return {
        "roc_auc": performance.roc_auc(scores, labels),
        "pr_auc": performance.average_precision(scores, labels),
        "recall_at_fpr_1": performance.recall_at_fpr(scores, labels, 0.01),
        "recall_at_precision_50": performance.recall_at_precision(scores, labels, 0.5),
        "brier": performance.brier(scores, labels),
        "calibration_gap": float((weights * gaps).sum()),
        "positives": float(labels.sum()),
        "rows": float(len(labels)),
    }


def at_cuts(scores: Scores, labels: Labels, thresholds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Confusion counts, flag share, precision and recall at every cut point."""
    rows = []
    for cut in thresholds["cuts"]:
        counts = performance.confusion(scores, labels, cut["at"])
        flagged = counts["tp"] + counts["fp"]
        rows.append(
            {
                **cut,
                **counts,
                "share": flagged / len(labels),
                "precision": counts["tp"] / flagged if flagged else 0.0,
                "recall": counts["tp"] / max(1, counts["tp"] + counts["fn"]),
            }
        )
    return rows


def by_group(scores: Scores, labels: Labels, groups: Mapping[str, NDArray[Any]], cut: float) -> list[dict[str, Any]]:
    """Per value of each reported group: rows, approval rate, false-positive rate, recall at the first cut."""
    rows = []
    for name, values in groups.items():
        for value in np.unique(values):
            inside = values == value
            counts = performance.confusion(scores[inside], labels[inside], cut)
            genuine, fraud = counts["fp"] + counts["tn"], counts["tp"] + counts["fn"]
            rows.append(
                {
                    "group": name,
                    "value": str(value),
                    "rows": int(inside.sum()),
                    "approval_rate": (counts["tn"] + counts["fn"]) / int(inside.sum()),
                    "false_positive_rate": counts["fp"] / genuine if genuine else None,
                    "recall": counts["tp"] / fraud if fraud else None,
                }
            )
    return rows


def gate(found: Mapping[str, float], gates: GateChoice) -> list[Check]:
    """Judge the figures."""
    return [
        at_least("ROC-AUC", found["roc_auc"], gates.min_roc_auc),
        at_least("average precision", found["pr_auc"], gates.min_average_precision),
        at_least("recall at 1 % false positives", found["recall_at_fpr_1"], gates.min_recall_at_fpr_1),
        at_most("calibration gap", found["calibration_gap"], gates.max_calibration_gap),
    ]
