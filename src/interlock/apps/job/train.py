"""The training job: from a configuration file to a registered model version.

What is durable, in this order: the finished steps, the bundle, the tracker's run, and last the
event `model.registered`, which is what makes the version exist for everybody else. A run that
stops anywhere is run again and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.apps.control.client import ControlClient
from interlock.apps.views import model as models
from interlock.base.clock import Clock
from interlock.base.errors import RefusedError
from interlock.features.definition import FeatureSet
from interlock.registry import bundle as bundles
from interlock.settings import Settings
from interlock.training import steps
from interlock.training.card import Origin
from interlock.training.config import TrainConfig, parse
from interlock.trust.event import NewEvent
from interlock.wiring import job


def train(settings: Settings, source: Path, clock: Clock, report: Callable[[str], None]) -> dict[str, Any]:
    """Train what the file says and register it.

    Returns:
        The registered version: what `model.registered` says, and the metrics.

    Raises:
        UsageError: the configuration or the snapshot is malformed.
        RefusedError: a check or a gate failed, or the version exists already.
    """
    config = parse(source.read_text(), source.name)
    with ControlClient.open(settings) as control:
        known = models.models(control.events(types=["model.registered"]))
        if models.find(known, config.service, config.version) is not None:
            raise RefusedError(
                f"{config.service} {config.version} is registered already", "versions are immutable: choose another"
            )
        features = job.feature_set(config.features)
        parent = _parent(settings, config, known, features)
        report("snapshot")
        if config.snapshot.file is not None:
            _take_in(settings, config, source.parent / config.snapshot.file, (control, clock))
        snapshot, frame = job.data(settings, config)
        work = steps.Workspace.open(settings.home / "training", config, snapshot.digest, features, job.environment()[1])
        judged = steps.judge(config, frame, features, work, job.tools(config, report), parent)
        report("register")
        return _register(settings, config, (snapshot.digest, snapshot.to_json()), judged, (control, clock))


def _take_in(settings: Settings, config: TrainConfig, path: Path, shell: tuple[ControlClient, Clock]) -> None:
    """Keep the file's transactions as a snapshot, unless they are the newest one already."""
    snapshot = job.take_in(settings, config.snapshot.table, path)
    if snapshot is None:
        return
    control, clock = shell
    control.append(
        NewEvent(
            time_ns=clock.now_ns(),
            type="dataset.registered",
            actor=config.user,
            origin="training",
            object=f"dataset/{snapshot.table}",
            outcome="success",
            body=snapshot.to_json(),
        )
    )


def _parent(
    settings: Settings, config: TrainConfig, known: list[dict[str, Any]], features: FeatureSet
) -> bundles.Bundle | None:
    if config.thresholds.of is None:
        return None
    found = models.find(known, config.service, config.thresholds.of)
    if found is None:
        raise RefusedError(f"{config.service} {config.thresholds.of} is not registered", "see `interlock model list`")
    parent = bundles.read(settings.places.bundles, found["bundle"])
    if parent.manifest["feature_set_digest"] != features.digest:
        raise RefusedError(
            f"{config.service} {config.thresholds.of} was trained on another feature set", "train a model on this one"
        )
    return parent


def _register(  # long: one record, field by field
    settings: Settings,
    config: TrainConfig,
    dataset: tuple[str, dict[str, Any]],
    judged: steps.Judged,
    shell: tuple[ControlClient, Clock],
) -> dict[str, Any]:
    control, clock = shell
    features = job.feature_set(config.features)
    packages, lock = job.environment()
    commit = job.commit()
    tags = {
        "user": config.user,
        "ticket": config.ticket,
        "purpose": config.purpose,
        "commit": commit or "none",
        "snapshot": dataset[0],
        "lock": lock,
        "interlock.version": config.version,
    }
    tracker = job.tracker(settings, config)
    run_id = tracker.start(f"{config.service}-{config.version}", tags)
    origin = Origin(run_id, dataset[0], dataset[1], commit, packages, lock)
    made = steps.files(config, features, judged, origin)
    digest = bundles.write(settings.places.bundles, made)
    bundle = bundles.read(settings.places.bundles, digest)
    folder = settings.places.bundles / digest.removeprefix("sha256:")
    parameters = steps.flat(config.to_json()) | {"bundle": digest}
    documents = {"model": folder / "model.onnx", "card": folder / "card.json", "thresholds": folder / "thresholds.json"}
    tracker.finish(run_id, parameters, judged.found["metrics"], documents)
    body = {
        "service": config.service,
        "version": config.version,
        "bundle": digest,
        "dataset": dataset[0],
        "feature_set": features.digest,
        "threshold_set": bundle.threshold_set,
        "card": bundle.card_digest,
        "trained_by": config.user,
        "run_id": run_id,
        "ticket": config.ticket,
        "purpose": config.purpose,
        "commit": commit,
        "lock": lock,
        "parent": judged.found["parent"],
    }
    control.append(
        NewEvent(
            time_ns=clock.now_ns(),
            type="model.registered",
            actor=config.user,
            origin="training",
            object=f"model/{config.service}/{config.version}",
            outcome="success",
            body=body,
        )
    )
    return body | {"metrics": judged.found["metrics"], "cuts": judged.found["cuts"]}
