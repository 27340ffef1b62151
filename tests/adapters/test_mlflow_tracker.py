"""Runs and versions in MLflow's SQLite store, as people will look them up."""

from pathlib import Path

import pytest

from interlock.adapters.mlflow.tracker import MlflowTracker

pytestmark = pytest.mark.process  # MLflow alone takes seconds to import


def test_a_run_is_found_with_its_tags_figures_files_and_a_registered_version(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path / "mlflow", "fraud", "candidate")
    tags = {"user": "ada", "ticket": "RISK-1", "snapshot": "blake2b-128:00", "lock": "sha256:00"}
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")
    run_id = tracker.start("fraud-1.0.0", tags)
    tracker.finish(run_id, {"trainer.rounds": 30, "long": "x" * 9000}, {"roc_auc": 0.9}, {"model": model})

    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"roc_auc": 0.9}
    assert run.data.params["trainer.rounds"] == "30"
    assert tags.items() <= run.data.tags.items()
    assert Path(client.download_artifacts(run_id, "model/model.onnx")).read_bytes() == b"model"
    version = client.get_model_version_by_alias("fraud", "candidate")
    assert (version.run_id, version.tags["ticket"]) == (run_id, "RISK-1")

    second = tracker.start("fraud-1.1.0", tags)
    tracker.finish(second, {}, {}, {"model": model})
    assert client.get_model_version_by_alias("fraud", "candidate").run_id == second
