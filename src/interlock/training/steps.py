"""From a snapshot to the files of a bundle: extract, features, fit, export, judge, assemble.

Contract. A step is a plain function of what came before it. `Workspace` keeps what a step made
under a key over the configuration, the snapshot and the feature set: running the same training
again goes on where it stopped, and a changed input starts anew. Metrics and thresholds are those
of the *exported* model. A failed check or gate raises RefusedError and no bundle exists.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from interlock.base.canonical import canonical, digest_of, sha256_hex
from interlock.base.errors import RefusedError, UsageError
from interlock.base.files import write_atomic
from interlock.decision import reasons
from interlock.features.definition import FeatureSet
from interlock.features.offline import Engine
from interlock.registry.bundle import Bundle
from interlock.training import evaluate, thresholds
from interlock.training.card import Origin, card, lineage
from interlock.training.checks import check_data, check_shift, require
from interlock.training.config import TrainConfig
from interlock.training.frame import Frame, vectors
from interlock.training.ports import Exporter, Fitted, Trainer
from interlock.training.split import Split, split

PARITY = 1e-5
GOLDEN_ROWS = 64
Report = Callable[[str], None]
"""Told the name of each step as it begins."""


@dataclass(frozen=True)
class Workspace:
    """Where the finished steps of one training lie, and beside it what trainings share."""

    folder: Path
    shared: Path

    @classmethod
    def open(cls, root: Path, config: TrainConfig, dataset: str, features: FeatureSet, lock: str) -> Workspace:
        """The workspace of exactly this training.

        Args:
            root: of all workspaces.
            config: what to train.
            dataset: digest of the snapshot.
            features: the definition.
            lock: names the installed packages; another environment starts anew.
        """
        common = [1, dataset, features.digest, lock]
        return cls(root / _key([*common, config.to_json()]), root / _key(common))

    def step(self, names: tuple[str, ...], make: Callable[[], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """The files of a step, made once: the last one is written last and says that all are there."""
        paths = [self.folder / name for name in names]
        if not paths[-1].exists():
            for path, data in zip(paths, make(), strict=True):
                write_atomic(path, data)
        return tuple(path.read_bytes() for path in paths)

    def vectors(self, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The vectors of the snapshot, made once for all trainings on it."""
        path = self.shared / "vectors.npy"
        if not path.exists():
            buffer = io.BytesIO()
            np.save(buffer, make(), allow_pickle=False)
            write_atomic(path, buffer.getvalue())
        found: NDArray[np.float32] = np.load(path, allow_pickle=False)
        return found


def _key(parts: list[Any]) -> str:
    return sha256_hex(canonical(parts))[:32]


@dataclass(frozen=True)
class Tools:
    """What a training runs with."""

    trainer: Trainer
    exporter: Exporter
    engine: Engine | None
    report: Report


@dataclass(frozen=True)
class Judged:
    """A model that passed its gates: everything the bundle needs but its origin."""

    native: Fitted
    model: bytes
    output: str
    thresholds: dict[str, Any]
    golden: dict[str, Any]
    found: dict[str, Any]


def judge(  # long: the pipeline, a step a line
    config: TrainConfig, frame: Frame, features: FeatureSet, work: Workspace, tools: Tools, parent: Bundle | None
) -> Judged:
    """Run every step up to the gates.

    Args:
        config: what to train.
        frame: the snapshot's rows.
        features: the definition; equal to the parent's when there is one.
        work: keeps finished steps.
        tools: ports, and whom to tell.
        parent: the version whose model is taken over (a release of thresholds alone), or None.

    Raises:
        RefusedError: a data check, the parity of the export, or a gate failed.
        UsageError: the catalogue of reasons names what is no input.
    """
    catalogue = _catalogue(config, features)
    tools.report("features")
    rows = work.vectors(lambda: vectors(frame, features, tools.engine))
    parts = split(frame.days, config.split)
    train = _sampled(parts, config)
    tools.report("checks")
    test, labels = rows[parts.test], frame.labels[parts.test]
    checks = check_data(rows[train], frame.labels[train], features.names, config.gates)
    checks.append(check_shift(rows[train], test, request_columns(features), config.gates.max_input_shift))
    require(checks, "the data is not fit to train on")
    if parent is None:
        native, model, output, parity = _train(config, (rows[train], frame.labels[train], test), features, work, tools)
    else:
        native, model, output, parity = _taken_over(parent)
    tools.report("evaluate")
    scores = tools.exporter.scores(model, output, test)
    cuts = thresholds.choose(scores, config.thresholds)
    figures = evaluate.metrics(scores, labels)
    gates = evaluate.gate(figures, config.gates)
    require(gates, "the model does not reach its gates")
    golden = _golden(test, scores)
    golden_rows = np.asarray(golden["vectors"], np.float32)
    groups = {name: values[parts.test] for name, values in frame.groups.items()}
    found = {
        "training_rows": len(train),
        "test_rows": len(parts.test),
        "data_checks": [check.to_json() for check in checks],
        "metrics": figures,
        "cuts": evaluate.at_cuts(scores, labels, cuts),
        "gates": [check.to_json() for check in gates],
        "segments": evaluate.by_group(scores, labels, groups, cuts["cuts"][0]["at"]),
        "importance": native.importance,
        "contributions": tools.trainer.contributions(native, features.names, golden_rows).importance(features.names),
        "reasons": catalogue.to_json(),
        "parity": parity,
        "native_model": {"format": native.format, "digest": digest_of(native.model)},
        "parent": parent.digest if parent else None,
    }
    return Judged(native, model, output, cuts, golden, found)


def files(config: TrainConfig, features: FeatureSet, judged: Judged, origin: Origin) -> dict[str, bytes]:
    """The files of the bundle, without its index."""
    manifest = {
        "schema": 1,
        "service": config.service,
        "version": config.version,
        "feature_set": features.to_json(),
        "feature_set_digest": features.digest,
        "inputs": list(features.names),
        "request_schema": {"currencies": list(features.currencies)},
        "runtime": "onnx",
        "model": "model.onnx",
        "output": judged.output,
    }
    documents = {
        "manifest.json": manifest,
        "thresholds.json": judged.thresholds,
        "golden.json": judged.golden,
        "card.json": card(config, features, origin, judged.found),
        "lineage.json": lineage(config, features, origin, judged.found),
    }
    return {
        "model.onnx": judged.model,
        "explain/booster.ubj": judged.native.model,
        reasons.FILE: canonical(judged.found["reasons"]),
        **{name: canonical(document) for name, document in documents.items()},
    }


def request_columns(features: FeatureSet) -> dict[str, int]:
    """Columns that the request alone decides: their distribution does not move with a history's length."""
    return {column.name: index for index, column in enumerate(features.columns) if column.op in ("input", "equals")}


def _catalogue(config: TrainConfig, features: FeatureSet) -> reasons.Catalogue:
    rows = reasons.default(features).to_json()["reasons"] if config.reasons is None else config.reasons
    document = {"schema": reasons.SCHEMA, "top": config.top_reasons, "reasons": rows}
    return reasons.Catalogue.parse(document, features.names)


def _sampled(parts: Split, config: TrainConfig) -> NDArray[np.int64]:
    if config.rows is None or config.rows >= len(parts.train):
        return parts.train
    rng = np.random.default_rng(config.seed)
    return np.sort(rng.choice(parts.train, config.rows, replace=False))


def _train(
    config: TrainConfig,
    data: tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]],
    features: FeatureSet,
    work: Workspace,
    tools: Tools,
) -> tuple[Fitted, bytes, str, float]:
    train, labels, test = data
    parameters = {key: value for key, value in config.trainer.items() if key != "name"}
    tools.report("fit")

    def fit() -> tuple[bytes, ...]:
        made = tools.trainer.fit(train, labels, features.names, parameters, config.seed)
        return canonical({"format": made.format, "importance": made.importance}), made.model

    about, native = work.step(("native.json", "native.model"), fit)
    fitted = Fitted(native, **json.loads(about))
    tools.report("export")

    def export() -> tuple[bytes, ...]:
        made, name = tools.exporter.export(fitted, features.width)
        return name.encode(), made

    named, model = work.step(("output.name", "model.onnx"), export)
    output = named.decode()
    parity = float(np.abs(tools.exporter.scores(model, output, test) - tools.trainer.scores(fitted, test)).max())
    if not parity <= PARITY:
        raise RefusedError(
            f"the exported model scores {parity:.2g} apart from the native one",
            "report it with the trainer's parameters; nothing above 1e-5 is released",
        )
    return fitted, model, output, parity


def _taken_over(parent: Bundle) -> tuple[Fitted, bytes, str, float]:
    native = parent.files.get("explain/booster.ubj")
    if native is None:
        raise UsageError("the version to take over has no native model", "name a version that was trained here")
    fitted = Fitted(native, parent.lineage["native_model"]["format"], parent.card["explanations"]["total_gain"])
    name = parent.manifest["model"]
    return fitted, parent.files[name], parent.manifest["output"], parent.card["operations"]["parity"]


def _golden(test: NDArray[np.float32], scores: NDArray[np.float32]) -> dict[str, Any]:
    """Rows spread evenly over the ranking, so that every region of the scores is represented."""
    order = np.argsort(scores, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int)]
    return {
        "schema": 1,
        "vectors": [[float(value) for value in row] for row in test[chosen]],
        "scores": [float(score) for score in scores[chosen]],
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters as dotted names, for a tracker."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
