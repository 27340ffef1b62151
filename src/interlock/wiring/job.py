"""The training job's rows: settings to adapters to the steps of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interlock.base.canonical import canonical, digest_of
from interlock.base.errors import UsageError
from interlock.settings import Settings

if TYPE_CHECKING:
    from interlock.adapters.delta.snapshots import Snapshot
    from interlock.features.definition import FeatureSet
    from interlock.training.config import TrainConfig
    from interlock.training.frame import Frame
    from interlock.training.ports import Tracker
    from interlock.training.steps import Report, Tools


def feature_set(name: str) -> FeatureSet:
    """A feature set by name."""
    from interlock.features.definition import FRAUD

    known = {FRAUD.name: FRAUD}
    if name not in known:
        raise UsageError(f"unknown feature set {name}", f"known: {', '.join(known)}")
    return known[name]


def data(settings: Settings, config: TrainConfig) -> tuple[Snapshot, Frame]:
    """The snapshot that the configuration names, and its rows."""
    from interlock.adapters.delta.frame import choose, frame

    folder = settings.places.tables / config.snapshot.table
    snapshot = choose(folder, config.snapshot.version)
    return snapshot, frame(folder, snapshot)


def tools(config: TrainConfig, report: Report) -> Tools:
    """Trainer, exporter and engine of a training."""
    from interlock.adapters.duckdb.engine import DuckDbEngine
    from interlock.adapters.onnx.export import OnnxExporter
    from interlock.adapters.xgboost.trainer import XgboostTrainer
    from interlock.training.steps import Tools

    trainers = {"xgboost": XgboostTrainer}
    name = str(config.trainer["name"])
    if name not in trainers:
        raise UsageError(f"unknown trainer {name}", f"known: {', '.join(trainers)}")
    threads = int(config.trainer.get("threads", 1))
    return Tools(trainers[name](), OnnxExporter(), DuckDbEngine(threads), report)


def tracker(settings: Settings, config: TrainConfig) -> Tracker:
    """Where people look the run up."""
    from interlock.adapters.mlflow.tracker import MlflowTracker

    return MlflowTracker(settings.home / "mlflow", config.service, config.purpose)


def commit(folder: Path) -> str | None:
    """The commit of the checkout around `folder`, or None outside one."""
    import subprocess

    found = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else None


def environment() -> tuple[dict[str, str], str]:
    """Installed packages by name, and the digest of that list."""
    from importlib import metadata

    found = {each.name.lower(): each.version for each in metadata.distributions() if each.name}
    return dict(sorted(found.items())), digest_of(canonical(found))
