"""XGBoost models as ONNX, through onnxmltools.

One float32 input `vectors` [n, features], and the output `probabilities` [n, 2] of which the last
column is the score. The bytes are deterministic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from interlock.base.errors import UsageError
from interlock.training.ports import Fitted, Vectors

OPSET = 15
OUTPUT = "probabilities"


class OnnxExporter:
    """`training.ports.Exporter` for boosted trees."""

    def export(self, fitted: Fitted, width: int) -> tuple[bytes, str]:
        """(ONNX bytes, name of the score output)."""
        import xgboost
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        if fitted.format != "xgboost-ubj":
            raise UsageError(f"no ONNX export for {fitted.format} models", "train with xgboost")
        classifier = xgboost.XGBClassifier()
        classifier.load_model(bytearray(fitted.model))
        classifier.get_booster().feature_names = None  # the converter wants positions, not names
        model = convert_xgboost(
            classifier, "interlock", initial_types=[("vectors", FloatTensorType([None, width]))], target_opset=OPSET
        )
        return bytes(model.SerializeToString(deterministic=True)), OUTPUT

    def scores(self, model: bytes, output: str, vectors: Vectors) -> NDArray[np.float32]:
        """Probabilities of the exported model, by the scorer's own runtime."""
        from interlock.adapters.onnx.runtime import OnnxRuntime

        runtime = OnnxRuntime.from_bytes(model, output)
        parts = [runtime.run(part) for part in np.array_split(vectors, max(1, len(vectors) // 4096))]
        return np.concatenate(parts)
