"""MLflow as the place where people look runs up: SQLite under the home, no server, no telemetry.

The registry that decides is ours (bundles and events); MLflow is its projection. The bundle's
digest is a tag of run and model version, so the two can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interlock.base.errors import UnreachableError

_MAX_PARAMETER = 500


class MlflowTracker:
    """`training.ports.Tracker` on MLflow's own client.

    Args:
        folder: holds `mlflow.db` and the artefacts.
        service: experiment and registered model carry this name.
        purpose: `candidate` or `research`; the alias that a new version gets.
    """

    def __init__(self, folder: Path, service: str, purpose: str) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["DO_NOT_TRACK"] = "true"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._service = service
        self._purpose = purpose
        self._uri = f"sqlite:///{folder / 'mlflow.db'}"
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            import logging

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            from mlflow.tracking import MlflowClient

            self._made = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        return self._made

    def start(self, name: str, tags: Mapping[str, str]) -> str:
        """Open a run; see the port."""
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_experiment_by_name(self._service)
            experiment = (
                found.experiment_id
                if found
                else self._client.create_experiment(self._service, (self._folder / "artefacts").as_uri())
            )
            run = self._client.create_run(experiment, run_name=name, tags=dict(tags))
        except MlflowException as error:
            raise UnreachableError("MLflow's store does not answer", "check the folder mlflow/ of the home") from error
        return str(run.info.run_id)

    def finish(
        self, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float], files: Mapping[str, Path]
    ) -> None:
        """Record parameters, metrics and files; register the version and move the purpose's alias to it."""
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        run = self._client.get_run(run_id)
        try:
            self._client.log_batch(
                run_id,
                metrics=[Metric(name, value, run.info.start_time, 0) for name, value in metrics.items()],
                params=[Param(name, str(value)[:_MAX_PARAMETER]) for name, value in parameters.items()],
            )
            for folder, path in files.items():
                self._client.log_artifact(run_id, str(path), folder)
            self._register(run_id, run.info.artifact_uri, dict(run.data.tags))
            self._client.set_terminated(run_id)
        except MlflowException as error:
            raise UnreachableError("MLflow's store does not answer", "run the same training again") from error

    def _register(self, run_id: str, artefacts: str, tags: Mapping[str, str]) -> None:
        if not self._client.search_registered_models(f"name = '{self._service}'"):
            self._client.create_registered_model(self._service)
        own = {name: value for name, value in tags.items() if not name.startswith("mlflow.")}
        version = self._client.create_model_version(self._service, f"{artefacts}/model", run_id=run_id, tags=own)
        self._client.set_registered_model_alias(self._service, self._purpose, version.version)
