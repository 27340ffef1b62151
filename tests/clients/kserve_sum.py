"""A KServe server as its own predictors are written: one FP32 input [-1, 3], the sum of each row.

python kserve_sum.py HTTP_PORT GRPC_PORT; runs in tests/clients/.venv.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Sum(Model):
    """The model `m`."""

    def __init__(self) -> None:
        super().__init__("m")
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": "output-0", "datatype": "FP32", "shape": [-1]}]

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        rows = np.asarray(get_predict_input(payload), dtype=np.float32).reshape(-1, 3)
        return get_predict_response(payload, rows.sum(1).astype(np.float32), self.name)


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1).start([Sum()])
