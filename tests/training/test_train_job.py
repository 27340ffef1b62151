"""`interlock train` and `interlock model` in a home of their own: file, snapshot, bundle, MLflow, event."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.adapters.delta.snapshots import latest
from interlock.registry import bundle as bundles

pytestmark = pytest.mark.process

CONFIG = """
service: fraud
version: {version}
user: ada
ticket: RISK-1
snapshot: {{file: shop.parquet}}
trainer: {{name: xgboost, rounds: 10, max_depth: 4}}
split: {{test_days: 1.0, gap_days: 0.5}}
gates: {{min_positives: 20, max_input_shift: 1.0, max_label_rate: 0.6, max_calibration_gap: 0.3}}
thresholds: {{{thresholds}}}
"""


class Home:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "interlock.apps.cli.main", *arguments],
            cwd=self.folder,
            env={**os.environ, "INTERLOCK_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )

    def train(self, version: str, thresholds: str = "flag_budget: 0.02") -> subprocess.CompletedProcess[str]:
        (self.folder / "train.yaml").write_text(CONFIG.format(version=version, thresholds=thresholds))
        return self.run("train", "train.yaml", "--output", "json")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("train"))
    shop = ("--cards", "800", "--terminals", "200", "--days", "3", "--output", "json")
    assert made.run("simulate-transactions", "shop.parquet", *shop).returncode == 0
    return made


@pytest.fixture(scope="module")
def trained(home: Home) -> dict[str, object]:
    done = home.train("1.0.0")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_training_registers_a_verified_bundle_with_its_origin(home: Home, trained: dict[str, object]) -> None:
    bundle = bundles.read(home.home / "bundles", str(trained["bundle"]))
    snapshot = latest(home.home / "tables" / "transactions")
    assert trained["dataset"] == snapshot.digest == bundle.lineage["dataset"]
    assert (trained["trained_by"], trained["ticket"]) == ("ada", "RISK-1")
    assert trained["threshold_set"] == bundle.threshold_set
    shown = json.loads(home.run("model", "show", "fraud", "1.0.0", "--output", "json").stdout)
    assert (shown["bundle"], shown["run_id"]) == (trained["bundle"], bundle.lineage["run_id"])
    listed = json.loads(home.run("model", "list", "--output", "json").stdout)
    assert "1.0.0" in [model["version"] for model in listed["models"]]


def test_no_card_number_of_the_file_is_found_anywhere_in_the_home(home: Home, trained: dict[str, object]) -> None:
    from interlock.adapters.delta.transactions import read_transactions

    number = str(read_transactions(home.folder / "shop.parquet")["pan"][0]).encode()
    assert not [path for path in home.home.rglob("*") if path.is_file() and number in path.read_bytes()]


def test_a_version_is_registered_once(home: Home, trained: dict[str, object]) -> None:
    again = home.train("1.0.0")
    assert again.returncode == 1
    assert "registered already" in again.stderr


def test_a_threshold_release_keeps_the_model_and_takes_the_file_in_once(home: Home, trained: dict[str, object]) -> None:
    done = home.train("1.0.1", "flag_budget: 0.02, flag_factor: 10, from: 1.0.0")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    parent, child = (bundles.read(home.home / "bundles", one["bundle"]) for one in (trained, found))
    assert child.files["model.onnx"] == parent.files["model.onnx"]
    assert child.threshold_set != parent.threshold_set
    assert child.lineage["parent"] == parent.digest
    assert latest(home.home / "tables" / "transactions").version == 0


def test_a_configuration_with_an_unknown_key_exits_2_and_names_the_line(home: Home) -> None:
    (home.folder / "wrong.yaml").write_text("service: fraud\ncolour: red\n")
    done = home.run("train", "wrong.yaml")
    assert done.returncode == 2
    assert "wrong.yaml:2" in done.stderr


def test_a_model_that_nobody_registered_exits_2(home: Home) -> None:
    done = home.run("model", "show", "fraud", "9.9.9")
    assert done.returncode == 2
    assert "interlock model list" in done.stderr
