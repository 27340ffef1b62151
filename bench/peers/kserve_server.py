"""KServe's SDK with one worker and its defaults; the model takes vectors, or transactions through Feast.

python -m bench.peers.kserve_server PORT FOLDER tensors|feast xgboost|onnx [SOCKET]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from bench.peers.models import RUNTIMES
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid


class Tensors(Model):
    """A predictor: one tensor in, one out."""

    def __init__(self, folder: Path, runtime: str) -> None:
        super().__init__("fraud")
        self._model = RUNTIMES[runtime](folder)
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        scores = self._model.scores(payload.inputs[0].as_numpy())
        output = InferOutput("score", [len(scores)], "FP32", scores.tolist())
        return InferResponse(payload.id or generate_uuid(), self.name, [output])


class WithFeast(Model):
    """Transformer and predictor in one process, the cheapest deployment KServe allows: look up, assemble, score."""

    def __init__(self, folder: Path, runtime: str, socket: str) -> None:
        super().__init__("fraud")
        from bench.peers.feast_store import SERVICE, columns, config
        from bench.serving.payloads import POPULATION
        from feast import FeatureStore

        self._store = FeatureStore(config=config(folder, socket))
        self._service = self._store.get_feature_service(SERVICE)
        self._names = [name for kind in POPULATION for name in columns(kind)]
        self._model = RUNTIMES[runtime](folder)
        self.ready = True

    def predict(self, payload: dict, headers=None, response_headers=None) -> dict:
        instances = payload["instances"]
        rows = [
            {
                "card_id": one["pan"],
                "terminal_id": one["terminal_id"],
                "device_id": one["device_id"],
                "ip_id": one["ip"],
            }
            for one in instances
        ]
        found = self._store.get_online_features(features=self._service, entity_rows=rows).to_dict()
        values = np.array([found[name] for name in self._names], np.float64).T
        scores = self._model.scores(vectors(instances, values, time.time()))
        return {
            "predictions": [
                {"transaction_id": one["transaction_id"], "score": score}
                for one, score in zip(instances, scores.tolist(), strict=True)
            ]
        }


def vectors(instances: list[dict], values: np.ndarray, now: float) -> np.ndarray:
    """The 61 columns: request, clock, 40 values, and four ratios for each entity."""
    found = np.empty((len(instances), 61), np.float32)
    amounts = np.array([one["amount"] for one in instances], np.float64)
    found[:, 0] = amounts
    found[:, 1] = now // 3_600 % 24
    found[:, 2] = (now // 86_400 + 3) % 7
    found[:, 3] = [float(one["mcc"]) for one in instances]
    found[:, 4] = [one["country"] == "FR" for one in instances]
    found[:, 5:45] = values
    by_kind = values.reshape(len(instances), 4, 10)
    count, total = by_kind[:, :, 0::2], by_kind[:, :, 1::2]
    ratios = found[:, 45:].reshape(len(instances), 4, 4)
    ratios[:, :, 0] = amounts[:, None] * count[:, :, 3] / total[:, :, 3]
    ratios[:, :, 1] = amounts[:, None] * count[:, :, 4] / total[:, :, 4]
    ratios[:, :, 2] = count[:, :, 2] / count[:, :, 3]
    ratios[:, :, 3] = count[:, :, 3] / count[:, :, 4]
    return found


def main() -> None:
    """Serve until killed."""
    port, folder, mode, runtime = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    model = WithFeast(folder, runtime, sys.argv[5]) if mode == "feast" else Tensors(folder, runtime)
    sys.argv = sys.argv[:1]  # the SDK reads it too
    ModelServer(http_port=port, workers=1, enable_grpc=False).start([model])


if __name__ == "__main__":
    main()
