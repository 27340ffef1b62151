"""What each input contributed to a model's margin: the values, and the port that computes them.

Margin space is log-odds: `score = sigmoid(margin)`, and a margin is the base value plus the
contributions of all inputs (SHAP, Lundberg and Lee 2017, "local accuracy"). Contributions that do
not add up to their margin cannot be made: whatever computed them explained another model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError
from interlock.decision.decide import Vectors
from interlock.registry.bundle import Bundle

SUM_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-5
_REMEDY = "do not use the explanation; build the bundle again"


@dataclass(frozen=True)
class Contributions:
    """Contributions of a batch.

    Attributes:
        base: the margin that the model expects before it knows an input.
        values: float64 [n, width], log-odds, in the order of the model's inputs.
        margins: float64 [n], the native model's own margins.

    Raises:
        IntegrityError: a row and the base do not add up to the row's margin within 1e-4.
    """

    base: float
    values: npt.NDArray[np.float64]
    margins: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check local accuracy."""
        apart = np.abs(self.values.sum(axis=1) + self.base - self.margins)
        if not (apart <= SUM_TOLERANCE).all():  # a NaN is refused too
            raise IntegrityError("the contributions do not add up to the model's margin", _REMEDY)

    def check_scores(self, scores: npt.NDArray[np.float64]) -> None:
        """Check that the explained model is the one that gave these scores.

        Args:
            scores: float64 [n], as recorded.

        Raises:
            IntegrityError: a margin's sigmoid is not the score within 1e-5.
        """
        with np.errstate(over="ignore"):
            again = 1.0 / (1.0 + np.exp(-self.margins))
        if not (np.abs(again - scores) <= SCORE_TOLERANCE).all():
            raise IntegrityError("the native model does not give the recorded score: it is another model", _REMEDY)

    def importance(self, names: tuple[str, ...]) -> dict[str, float]:
        """Mean absolute contribution by input, greatest first: the model's global importances."""
        means = np.abs(self.values).mean(axis=0)
        # Six digits: enough to read, and the same on every machine.
        ranked = sorted(zip(names, means.round(6).tolist(), strict=True), key=lambda row: (-row[1], row[0]))
        return dict(ranked)


class Explainer(Protocol):
    """One native model, loaded for explanations."""

    def contributions(self, vectors: Vectors) -> Contributions:
        """Exact contributions for vectors, float32 [n, width].

        MUST be safe to call from any one thread at a time and MUST NOT change its argument.

        Raises:
            UsageError: the vectors have another shape.
            IntegrityError: the contributions do not add up.
        """
        ...


ExplainerFactory = Callable[[Bundle], Explainer]
"""From a checked bundle to its loaded native model; raises UsageError (it has none), IntegrityError (damaged, or the
native model of other inputs), UnreachableError (what would compute it is not installed)."""
