"""The benchmark's model in the two runtimes that the peers use; one thread, as one worker has."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Xgboost:
    """XGBoost's own predict, in its fastest form for one row (no DMatrix)."""

    def __init__(self, folder: Path) -> None:
        import xgboost

        self._booster = xgboost.Booster(model_file=str(folder / "model.ubj"))
        self._booster.feature_names = None  # names are not checked on each call
        self._booster.set_param({"nthread": 1})

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [n] of float32 [n, features]."""
        return self._booster.inplace_predict(vectors)


class Onnx:
    """The exported model in ONNX Runtime."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(folder / "model.onnx")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [n] of float32 [n, features]."""
        return self._session.run(["probabilities"], {"vectors": vectors})[0][:, -1]


RUNTIMES = {"xgboost": Xgboost, "onnx": Onnx}
