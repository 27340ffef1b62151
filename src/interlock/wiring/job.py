"""The training job's rows: settings to adapters to the steps of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from interlock.base.canonical import canonical, digest_of
from interlock.base.errors import UsageError
from interlock.settings import Settings

_CODE = Path(__file__).resolve().parent.parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from interlock.adapters.delta.snapshots import Snapshot
    from interlock.decision.decide import Model
    from interlock.features.definition import FeatureSet
    from interlock.features.offline import Engine, Events
    from interlock.privacy.token import Tokeniser
    from interlock.registry.bundle import Bundle
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


def take_in(settings: Settings, table: str, path: Path) -> Snapshot | None:
    """Write a file of raw transactions as the table's next version, tokenised; None if it is the newest already."""
    from interlock.adapters.delta.snapshots import snapshots, tokenise, write_snapshot
    from interlock.adapters.delta.transactions import read_transactions
    from interlock.adapters.files.keys import token_key
    from interlock.privacy.token import Tokeniser

    columns = read_transactions(path)
    folder = settings.places.tables / table
    source = f"file {path.name} {digest_of(path.read_bytes())}"
    known = snapshots(folder)
    if known and known[-1].source == source:
        return None
    rows = tokenise(columns, Tokeniser(token_key(settings.places.trust)))
    return write_snapshot(folder, rows, table, source)


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


def commit() -> str | None:
    """The commit of the checkout that this code runs from, `+modified` if it differs; None when installed elsewhere."""
    import subprocess

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(_CODE), *arguments]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else None

    # A package folder inside somebody else's repository is not that repository's code.
    if git("ls-files", "--error-unmatch", "settings.py") is None:
        return None
    head = git("rev-parse", "--verify", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", str(_CODE))
    return f"{head}+modified" if head and changed else head


def environment() -> tuple[dict[str, str], str]:
    """Installed packages by name, and the lock's digest.

    The lock is `uv.lock` of the checkout that this code runs from; installed elsewhere, the list of packages itself.
    """
    from importlib import metadata

    found = {each.name.lower(): each.version for each in metadata.distributions() if each.name}
    lock = _CODE.parent.parent / "uv.lock"
    return dict(sorted(found.items())), digest_of(lock.read_bytes() if lock.is_file() else canonical(found))


def tokeniser(settings: Settings) -> Tokeniser:
    """Makes the tokens of this home."""
    from interlock.adapters.files.keys import token_key
    from interlock.privacy.token import Tokeniser

    return Tokeniser(token_key(settings.places.trust))


def open_bundle(settings: Settings, digest: str) -> Model:
    """A model ready to decide, from a verified bundle of this home."""
    from interlock.adapters.onnx.runtime import OnnxRuntime
    from interlock.decision.model import open_model
    from interlock.registry import bundle as bundles

    return open_model(bundles.read(settings.places.bundles, digest), OnnxRuntime.from_bytes)


def check_admission(settings: Settings, service: str, bundle: str, folder: str) -> None:
    """Whether an admission stands under this home's trust root, as the scorer judges it; raises when not."""
    from interlock.base.clock import SystemClock
    from interlock.wiring.scorer import repository

    repository(settings, SystemClock()).check(service, bundle, folder)


def history(settings: Settings, name: str) -> Snapshot:
    """A snapshot by its digest, by `TABLE` (the newest) or by `TABLE:VERSION`.

    Raises:
        UsageError: there is none.
    """
    from interlock.adapters.delta.frame import choose
    from interlock.adapters.delta.snapshots import snapshots

    tables = settings.places.tables
    if name.startswith("blake2b-128:"):
        folders = [path for path in sorted(tables.glob("*")) if path.is_dir()]
        found = [each for folder in folders for each in snapshots(folder) if each.digest == name]
        if not found:
            raise UsageError("no table of this home has that snapshot", "name its table, or restore it")
        return found[0]
    table, _, version = name.partition(":")
    if not (tables / table).is_dir() or not table.isidentifier() or (version and not version.isdigit()):
        raise UsageError("no such table of snapshots", "name a digest, TABLE or TABLE:VERSION")
    return choose(tables / table, int(version) if version else None)


def history_events(settings: Settings, digest: str) -> Events:
    """A snapshot's events, verified."""
    from interlock.adapters.delta.snapshots import events_of, read

    snapshot = history(settings, digest)
    return events_of(read(settings.places.tables / snapshot.table, snapshot))


def engine(threads: int) -> Engine:
    """Computes velocities of whole histories."""
    from interlock.adapters.duckdb.engine import DuckDbEngine

    return DuckDbEngine(threads)


def batch_scorer(bundle: Bundle) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A function for Spark's `mapInArrow` that scores vectors with this bundle (see `adapters.arrow.map_in_arrow`)."""
    from interlock.adapters.arrow.map_in_arrow import scorer
    from interlock.adapters.onnx.runtime import OnnxRuntime

    return scorer(bundle, OnnxRuntime.from_bytes)
