"""Cut points by flag budget, chosen on the exported model's scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.base.errors import RefusedError
from interlock.training.config import ThresholdChoice


def choose(scores: NDArray[np.float32], choice: ThresholdChoice) -> dict[str, Any]:
    """A threshold set whose share of flagged rows is at most the budget.

    Args:
        scores: float32 [n] of a period the model was not trained on.
        choice: budget and how the flagged ones divide.

    Returns:
        `thresholds.json`: cut points that ascend strictly, as exact float32 values.

    Raises:
        RefusedError: the scores take too few values to cut them so.
    """
    budget = choice.flag_budget * choice.flag_factor
    shares = (
        ("STEP_UP", budget),
        ("REVIEW", budget * choice.review_share),
        ("DECLINE", budget * choice.decline_share),
    )
    cuts: list[dict[str, Any]] = []
    for (decision, share), stricter in zip(shares, (*shares[1:], None), strict=True):
        if stricter and stricter[1] == share:
            continue  # an equal share goes to the stricter decision whole
        at = _cut(scores, share)
        if cuts and at <= cuts[-1]["at"]:
            # Too coarse scores for two cuts: the stricter one moves up, never down into more refusals.
            at = float(np.nextafter(np.float32(cuts[-1]["at"]), np.float32(np.inf)))
        cuts.append({"at": at, "decision": decision})
    if cuts[0]["at"] > 1.0:
        raise RefusedError(
            f"no cut flags {budget:.2%} of the test rows: too many share the highest score",
            "raise the budget, or train a model that ranks more finely",
        )
    return {"schema": 1, "cuts": cuts}


def _cut(scores: NDArray[np.float32], share: float) -> float:
    """The lowest score value whose share of rows at or above it is at most `share`."""
    values, counts = np.unique(scores, return_counts=True)
    above = np.cumsum(counts[::-1])[::-1] / len(scores)
    allowed = np.flatnonzero(above <= share)
    return float(values[allowed[0]]) if len(allowed) else float(np.nextafter(np.float32(1), np.float32(2)))
