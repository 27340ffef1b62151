"""What a process really loads, beside what the import contracts say it may."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FORBIDDEN = (
    "deltalake",
    "duckdb",
    "feast",
    "kfp",
    "mlflow",
    "onnx",
    "onnxmltools",
    "pandas",
    "pyarrow",
    "pyspark",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "xgboost",
)

LOAD_EVERYTHING = """
import importlib, json, pkgutil, sys
import interlock.apps.scorer, interlock.wiring.scorer
for found in pkgutil.walk_packages(interlock.apps.scorer.__path__, "interlock.apps.scorer."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
import onnxruntime, interlock.adapters.onnx.runtime
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


@pytest.mark.process
def test_a_scorer_loads_nothing_that_trains_stores_tables_or_talks_sql() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_EVERYTHING], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "onnxruntime" in loaded
    assert "interlock" in loaded
    assert not loaded & set(FORBIDDEN)
