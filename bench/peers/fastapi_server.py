"""FastAPI and XGBoost as most people write it: a pydantic model, uvicorn with its standard extras, one worker.

python -m bench.peers.fastapi_server PORT FOLDER xgboost|onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import uvicorn
from bench.peers.models import RUNTIMES
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    instances: list[list[float]]


class Scores(BaseModel):
    predictions: list[float]


def application(folder: Path, runtime: str) -> FastAPI:
    """The service."""
    model = RUNTIMES[runtime](folder)
    app = FastAPI()

    @app.post("/predict")
    async def predict(rows: Rows) -> Scores:
        return Scores(predictions=model.scores(np.array(rows.instances, np.float32)).tolist())

    return app


if __name__ == "__main__":
    app = application(Path(sys.argv[2]), sys.argv[3])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False)
