"""The one function that decides: online, in bulk, in backtests, and when an auditor recomputes.

"Recompute equals" holds by construction, since everybody calls `decide` with the same model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError, UsageError

Vectors = npt.NDArray[np.float32]

DECISIONS = ("APPROVE", "STEP_UP", "REVIEW", "DECLINE")
"""From the mildest to the strictest."""
RANK: Mapping[str, int] = {name: rank for rank, name in enumerate(DECISIONS)}


class Runtime(Protocol):
    """A loaded model: float32 in, float32 out, the same bytes for the same input."""

    def run(self, vectors: Vectors) -> Vectors:
        """Scores, float32 [n], of vectors, float32 [n, features].

        MUST be safe to call from any one thread at a time, MUST NOT keep or change its argument,
        and raises whatever the runtime raises.
        """
        ...


@dataclass(frozen=True)
class Cuts:
    """Ascending cut points: a score at or above `at[i]` gets at least `decisions[i]`."""

    at: tuple[float, ...]
    decisions: tuple[str, ...]

    @classmethod
    def parse(cls, document: Any) -> Cuts:
        """Cut points from `thresholds.json`: `{"schema": 1, "cuts": [{"at", "decision"}, …]}`.

        Raises:
            UsageError: another schema, an unknown decision, or cuts that do not ascend.
        """
        try:
            schema, cuts = document["schema"], document["cuts"]
            at = tuple(float(cut["at"]) for cut in cuts)
            decisions = tuple(str(cut["decision"]) for cut in cuts)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError("not a threshold set", 'write {"schema": 1, "cuts": [{"at", "decision"}]}') from error
        if schema != 1:
            raise UsageError("an unknown schema of threshold sets", "write schema 1")
        if any(name not in RANK for name in decisions):
            raise UsageError("an unknown decision in the threshold set", f"known: {', '.join(DECISIONS)}")
        if list(at) != sorted(set(at)) or not np.isfinite(at).all():
            raise UsageError("cut points do not ascend", "sort them and name each once")
        ranks = [RANK[name] for name in decisions]
        if ranks != sorted(set(ranks)):
            raise UsageError("a higher score gets a milder decision", "order decisions as their cut points")
        return cls(at, decisions)

    def decide(self, score: float) -> str:
        """The decision for one score; APPROVE below the first cut."""
        place = bisect_right(self.at, score)
        return self.decisions[place - 1] if place else DECISIONS[0]


@dataclass(frozen=True)
class Model:
    """One version, ready to decide.

    Attributes:
        bundle: digest of its files.
        version: semantic version.
        service: what clients call.
        feature_set: digest of the feature set whose vectors it takes.
        width: features per vector.
        cuts: its threshold set.
        threshold_set: digest of `thresholds.json`.
        runtime: the loaded model.
        manifest: the bundle's serving manifest.
    """

    bundle: str
    version: str
    service: str
    feature_set: str
    width: int
    cuts: Cuts
    threshold_set: str
    runtime: Runtime
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Decided:
    """Scores (float32 [n]) and their decisions, row by row."""

    scores: Vectors
    decisions: list[str]


def decide(model: Model, vectors: Vectors) -> Decided:
    """Score and decide a batch.

    Args:
        model: the version that answers.
        vectors: float32 [n, model.width] in manifest order.

    Raises:
        UsageError: the vectors have another shape or type.
        IntegrityError: the model returned something that is no score.
    """
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != model.width:
        raise UsageError(f"vectors are not float32 [n, {model.width}]", "assemble them with the model's feature set")
    scores = model.runtime.run(vectors)
    if scores.dtype != np.float32 or scores.shape != (len(vectors),) or not np.isfinite(scores).all():
        raise IntegrityError("the model returned something that is no score", "take the version back")
    return Decided(scores, decisions_for(model.cuts, scores.tolist()))


def decisions_for(cuts: Cuts, scores: Sequence[float]) -> list[str]:
    """Decisions for scores that are already known (a recorded score, another threshold set)."""
    return [cuts.decide(score) for score in scores]


def flagged(decision: str) -> bool:
    """Whether a decision is anything but APPROVE."""
    return decision != DECISIONS[0]
