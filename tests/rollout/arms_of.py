"""Arms with given counts, for tests of guards."""

from __future__ import annotations

import numpy as np

from interlock.decision.counts import COUNTS, GROUPS, REQUESTS, SCORE_EDGES, TIME_EDGES, ArmCounts


def arm(
    requests: int, share: tuple[int, int] = (0, GROUPS), model_us: float | None = None, batch: int = 0, **events: int
) -> ArmCounts:
    """So many requests and events, spread evenly over card groups from `share[0]` up to `share[1]`."""
    made = ArmCounts()
    groups = np.arange(*share)
    for name, number in {"requests": requests, **events}.items():
        column = COUNTS.index(name) if name != "requests" else REQUESTS
        np.add.at(made.values[batch, :, column], groups[np.arange(number) % len(groups)], 1)
    if model_us is not None:
        made.times[batch, int(np.searchsorted(TIME_EDGES, model_us * 1_000, side="right"))] += requests
    return made


def scored(made: ArmCounts, scores: np.ndarray) -> ArmCounts:
    """The same with these scores counted."""
    np.add.at(made.scores, np.searchsorted(SCORE_EDGES, scores, side="right"), 1)
    return made
