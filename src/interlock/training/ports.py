"""What training needs from outside: a trainer, an exporter, a tracker.

A trainer MUST give the same bytes for the same data, parameters, seed and threads. An exporter
MUST give a model whose scores are the native ones within its stated tolerance, or raise
RefusedError. A tracker MUST NOT be able to fail a run half-way: `start` either returns a run id
or raises UnreachableError, and what `finish` records is a projection of the bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from interlock.decision.contributions import Contributions

Vectors = NDArray[np.float32]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Fitted:
    """A native model.

    Attributes:
        model: its bytes, in the trainer's own safe format.
        format: what they are, such as `xgboost-ubj`.
        importance: global importance (total gain) by input name.
    """

    model: bytes
    format: str
    importance: dict[str, float]


class Trainer(Protocol):
    """Fits a binary classifier on float32 vectors."""

    def fit(
        self, vectors: Vectors, labels: Labels, names: tuple[str, ...], parameters: Mapping[str, Any], seed: int
    ) -> Fitted:
        """Train; raises UsageError for a parameter it does not know."""
        ...

    def scores(self, fitted: Fitted, vectors: Vectors) -> NDArray[np.float32]:
        """Native probabilities, float32 [n]."""
        ...

    def contributions(self, fitted: Fitted, names: tuple[str, ...], vectors: Vectors) -> Contributions:
        """Exact contributions of every input to the native margin."""
        ...


class Exporter(Protocol):
    """Turns a native model into ONNX."""

    def export(self, fitted: Fitted, width: int) -> tuple[bytes, str]:
        """(ONNX bytes, name of the score output)."""
        ...

    def scores(self, model: bytes, output: str, vectors: Vectors) -> NDArray[np.float32]:
        """Probabilities of the exported model, as the scorer will compute them."""
        ...


class Tracker(Protocol):
    """Where people look up runs."""

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Open a run and return its id."""
        ...

    def finish(
        self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], files: Mapping[str, Path]
    ) -> None:
        """Record what the run found, and register the model version."""
        ...
