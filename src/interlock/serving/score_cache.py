"""Scores that are known already: the same bytes for the same model need not be computed again.

Contract. The key is the bundle's digest and the exact bytes of the vector, and nothing else: a
swapped, reloaded or other service's model has another digest, so no score outlives its model or is
taken for another's (mode 13 of the field's list). The value is the score alone: decisions are
always made by the asking model's own cut points. What a model raises, or returns that is no score,
is not kept. The entry unused for longest gives way. One per worker, used from its loop only.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from interlock.base.clock import Clock
from interlock.decision.decide import Decided, Model, Vectors, decisions_for
from interlock.serving.arms import Called, call


class ScoreCache:
    """See the module's contract.

    Args:
        entries: scores that are kept.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._scores: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._scores)

    def call(self, model: Model, vectors: Vectors, clock: Clock) -> Called:
        """`arms.call`, which runs the model for the rows alone that are not known; its time is theirs.

        Args:
            model: the version that answers.
            vectors: float32 [n, model.width] in manifest order.
            clock: measures the call.
        """
        keys = [(model.bundle, row.tobytes()) for row in vectors]
        found = [self._scores.get(key) for key in keys]
        missing = [place for place, score in enumerate(found) if score is None]
        made = Called(None, 0, started_ns=clock.monotonic_ns(), rows=0)
        if missing:
            made = call(model, vectors[missing] if len(missing) < len(keys) else vectors, clock)
            if made.decided is None:
                return made
            for place, score in zip(missing, made.decided.scores.tolist(), strict=True):
                found[place] = score
        self.hits += len(keys) - len(missing)
        for key, score in zip(keys, found, strict=True):
            self._scores[key] = score  # type: ignore[assignment]  # every place is filled by now
            self._scores.move_to_end(key)
        while len(self._scores) > self._entries:
            self._scores.popitem(last=False)
        scores = np.array(found, np.float32)
        decided = Decided(scores, decisions_for(model.cuts, scores.tolist()))
        return Called(decided, made.model_ns, started_ns=made.started_ns, rows=len(missing))
