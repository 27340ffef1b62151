"""XGBoost as the trainer: histogram trees, seeded, with a stated number of threads.

The same data, parameters, seed and threads give the same bytes. Models are kept as UBJSON, which
holds no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.adapters.xgboost.explain import XgboostExplainer
from interlock.base.errors import UsageError
from interlock.decision.contributions import Contributions
from interlock.training.ports import Fitted, Labels, Vectors

DEFAULTS: dict[str, int | float] = {
    "rounds": 120,
    "max_depth": 6,
    "learning_rate": 0.1,
    "min_child_weight": 5.0,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "reg_lambda": 1.0,
    "scale_pos_weight": 1.0,
    "max_bin": 256,
    "threads": 1,
}


class XgboostTrainer:
    """`training.ports.Trainer` on XGBoost."""

    def fit(
        self, vectors: Vectors, labels: Labels, names: tuple[str, ...], parameters: Mapping[str, Any], seed: int
    ) -> Fitted:
        """Train on float32 [n, features]; see the port."""
        import xgboost

        unknown = set(parameters) - set(DEFAULTS)
        if unknown:
            raise UsageError(
                f"unknown trainer parameters: {', '.join(sorted(unknown))}", f"known: {', '.join(DEFAULTS)}"
            )
        chosen = {**DEFAULTS, **parameters}
        rounds, threads = int(chosen.pop("rounds")), int(chosen.pop("threads"))
        data = xgboost.QuantileDMatrix(
            vectors, labels, feature_names=list(names), max_bin=int(chosen["max_bin"]), nthread=threads
        )
        settings = {"objective": "binary:logistic", "tree_method": "hist", "seed": seed, "nthread": threads, **chosen}
        booster = xgboost.train(settings, data, num_boost_round=rounds)
        gains = booster.get_score(importance_type="total_gain")
        ranked = sorted(
            ((str(name), float(np.sum(gain))) for name, gain in gains.items()), key=lambda row: (-row[1], row[0])
        )
        return Fitted(bytes(booster.save_raw("ubj")), "xgboost-ubj", dict(ranked))

    def scores(self, fitted: Fitted, vectors: Vectors) -> NDArray[np.float32]:
        """Native probabilities, float32 [n]."""
        import xgboost

        booster = xgboost.Booster(model_file=bytearray(fitted.model))
        found: NDArray[np.float32] = booster.inplace_predict(vectors)
        return found

    def contributions(self, fitted: Fitted, names: tuple[str, ...], vectors: Vectors) -> Contributions:
        """Exact contributions of every input to the margin."""
        return XgboostExplainer(fitted.model, names).contributions(vectors)
