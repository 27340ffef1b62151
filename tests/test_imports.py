"""What a process really loads, beside what the import contracts say it may."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

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
import onnxruntime, interlock.adapters.onnx.runtime, interlock.adapters.explainer.client
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""


@pytest.mark.process
def test_a_scorer_loads_nothing_that_trains_stores_tables_or_talks_sql() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_EVERYTHING], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "onnxruntime" in loaded
    assert "interlock" in loaded
    assert not loaded & set(FORBIDDEN)


VIOLATIONS = {
    "base/verdict.py": ("import interlock.trust.event", "Rooms import downwards only"),
    "rollout/states.py": ("import interlock.serving.options", "Rooms import downwards only"),
    "trust/event.py": ("import yaml", "YAML is read in base alone (strict)"),
    "decision/table.py": ("import pyarrow", "Columns in Arrow come through a port"),
    "decision/split.py": ("import scipy", "The scorer imports nothing that trains, stores tables or talks SQL"),
    "analysis/sequential.py": ("import sqlalchemy", "Vendors are spoken to in adapters alone"),
    "privacy/token.py": ("import interlock.privacy.redact", "No two siblings import each other, at any depth"),
    "privacy/pan.py": ("import interlock.privacy.token", "No two siblings import each other, at any depth"),
    "adapters/git/source.py": ("import interlock.adapters.sql.events", "Adapters ignore each other"),
}


@pytest.mark.process
def test_a_forbidden_import_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, (line, _) in VIOLATIONS.items():
        path = tmp_path / "src" / "interlock" / name
        path.write_text(path.read_text("utf-8") + f"\n{line}\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = set(re.findall(r"^(.+) BROKEN$", done.stdout, re.MULTILINE))
    assert done.returncode != 0
    assert {contract for _, contract in VIOLATIONS.values()} <= broken
