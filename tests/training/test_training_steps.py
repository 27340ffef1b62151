"""The steps from rows to the files of a bundle, with a real trainer on a small simulated shop."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interlock.adapters.delta.snapshots import events_of, tokenise
from interlock.adapters.duckdb.engine import DuckDbEngine
from interlock.adapters.onnx.export import OnnxExporter
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.base.errors import RefusedError, UsageError
from interlock.decision.reasons import Catalogue, default
from interlock.features.definition import FRAUD
from interlock.features.offline import Events
from interlock.features.population import PopulationSettings, generate
from interlock.privacy.token import Tokeniser
from interlock.registry import bundle as bundles
from interlock.training.card import SECTIONS, Origin
from interlock.training.config import GateChoice, SplitChoice, ThresholdChoice, TrainConfig
from interlock.training.frame import Frame
from interlock.training.ports import Fitted
from interlock.training.steps import Judged, Tools, Workspace, files, judge

pytestmark = pytest.mark.process  # XGBoost, DuckDB and the converter take seconds to import

CONFIG = TrainConfig(
    "fraud",
    "1.0.0",
    "ada",
    "RISK-1",
    split=SplitChoice(test_days=1.0, gap_days=0.5),
    gates=GateChoice(max_input_shift=1.0),
    trainer={"name": "xgboost", "rounds": 10, "max_depth": 4},
)
ORIGIN = Origin("run", "blake2b-128:" + "0" * 32, {"version": 0}, "c0ffee", {"numpy": "2"}, "sha256:" + "0" * 64)


@cache
def shop() -> Frame:
    columns = generate(PopulationSettings(cards=600, terminals=150, days=3, terminals_hit=2, cards_hit=8))
    table = tokenise(columns, Tokeniser(bytes(32)))
    inputs = {name: np.asarray(table.column(name).to_pylist()) for name in ("mcc", "country")}
    return Frame(events_of(table), inputs, columns["label"] == 1, {"age_group": columns["age_group"]})


class Counting(XgboostTrainer):
    """Counts how often it really trained."""

    fits = 0

    def fit(self, *arguments: object, **options: object) -> Fitted:
        self.fits += 1
        return super().fit(*arguments, **options)  # type: ignore[arg-type]


def tools(trainer: XgboostTrainer | None = None, exporter: OnnxExporter | None = None) -> Tools:
    return Tools(trainer or XgboostTrainer(), exporter or OnnxExporter(), DuckDbEngine(1), lambda step: None)


def workspace(root: Path, config: TrainConfig = CONFIG) -> Workspace:
    return Workspace.open(root, config, ORIGIN.dataset, FRAUD, "lock")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which everything is done."""
    return workspace(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def judged(work: Workspace) -> Judged:
    return judge(CONFIG, shop(), FRAUD, work, tools(), None)


@pytest.fixture
def fresh(tmp_path: Path, work: Workspace, judged: Judged) -> Workspace:
    """A workspace in which nothing is done but the vectors, which trainings share."""
    return replace(work, folder=tmp_path / "fresh")


def test_the_files_make_a_bundle_whose_golden_scores_are_the_exported_model_s(tmp_path: Path, judged: Judged) -> None:
    digest = bundles.write(tmp_path, files(CONFIG, FRAUD, judged, ORIGIN))
    bundle = bundles.read(tmp_path, digest)
    golden = bundle.golden
    assert len(golden["vectors"]) == 64
    assert len(set(golden["scores"])) > 10
    scores = OnnxExporter().scores(
        bundle.files["model.onnx"], bundle.manifest["output"], np.array(golden["vectors"], np.float32)
    )
    assert scores.tolist() == golden["scores"]


def test_card_and_lineage_are_filled_in_from_the_run(judged: Judged) -> None:
    made = bundles.Bundle("", files(CONFIG, FRAUD, judged, ORIGIN))
    assert all(made.card[name] for name in SECTIONS)
    assert {row["group"] for row in made.card["segments"]} == {"age_group"}
    lineage = made.lineage
    assert (lineage["trained_by"], lineage["dataset"], lineage["commit"]) == ("ada", ORIGIN.dataset, "c0ffee")
    assert lineage["parameters"]["trainer"]["rounds"] == 10
    assert lineage["metrics"] == made.card["metrics"]["test"]


def test_the_flagged_share_of_the_test_period_keeps_the_budget(judged: Judged) -> None:
    first = judged.found["cuts"][0]
    assert 0 < first["share"] <= CONFIG.thresholds.flag_budget


def test_a_second_run_takes_up_finished_steps_and_ends_the_same(fresh: Workspace) -> None:
    trainer = Counting()
    runs = [judge(CONFIG, shop(), FRAUD, fresh, tools(trainer), None) for _ in range(2)]
    assert trainer.fits == 1
    assert files(CONFIG, FRAUD, runs[0], ORIGIN) == files(CONFIG, FRAUD, runs[1], ORIGIN)


@pytest.mark.parametrize("finished", range(5))
def test_a_run_that_stopped_after_any_file_ends_with_the_same_bundle(
    fresh: Workspace, work: Workspace, judged: Judged, finished: int
) -> None:
    written = sorted(work.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(written) == 4
    fresh.folder.mkdir()
    for path in written[:finished]:
        (fresh.folder / path.name).write_bytes(path.read_bytes())
    again = judge(CONFIG, shop(), FRAUD, fresh, tools(), None)
    assert files(CONFIG, FRAUD, again, ORIGIN) == files(CONFIG, FRAUD, judged, ORIGIN)


def test_other_parameters_or_packages_start_anew_but_share_vectors_of_one_environment(tmp_path: Path) -> None:
    first, other = workspace(tmp_path), workspace(tmp_path, replace(CONFIG, seed=8))
    assert first.folder != other.folder
    assert first.shared == other.shared
    assert Workspace.open(tmp_path, CONFIG, ORIGIN.dataset, FRAUD, "newer").shared != first.shared


def test_a_release_of_thresholds_alone_takes_the_model_over_byte_for_byte(fresh: Workspace, judged: Judged) -> None:
    parent = bundles.Bundle("sha256:parent", files(CONFIG, FRAUD, judged, ORIGIN))
    config = replace(CONFIG, version="1.0.1", thresholds=ThresholdChoice(flag_factor=10.0, of="1.0.0"))
    trainer = Counting()
    found = judge(config, shop(), FRAUD, fresh, tools(trainer), parent)
    assert trainer.fits == 0
    assert found.model == judged.model
    assert found.found["parent"] == "sha256:parent"
    assert 0.18 < found.found["cuts"][0]["share"] <= 0.2


def test_a_model_that_misses_a_gate_makes_no_bundle(fresh: Workspace) -> None:
    config = replace(CONFIG, gates=GateChoice(min_roc_auc=0.999, max_input_shift=1.0))
    with pytest.raises(RefusedError, match="ROC-AUC fail"):
        judge(config, shop(), FRAUD, fresh, tools(), None)


def test_a_history_without_frauds_is_refused_before_any_training(fresh: Workspace) -> None:
    trainer = Counting()
    frame = replace(shop(), labels=np.zeros(len(shop()), bool))
    with pytest.raises(RefusedError, match="enough positives"):
        judge(CONFIG, frame, FRAUD, fresh, tools(trainer), None)
    assert trainer.fits == 0


def test_an_export_that_scores_otherwise_is_refused(fresh: Workspace) -> None:
    class Slanted(OnnxExporter):
        def scores(self, model: bytes, output: str, vectors: np.ndarray) -> np.ndarray:
            return super().scores(model, output, vectors) + np.float32(2e-5)

    with pytest.raises(RefusedError, match="apart from the native one"):
        judge(CONFIG, shop(), FRAUD, fresh, tools(exporter=Slanted()), None)


def test_rows_out_of_time_order_and_columns_of_other_length_are_refused() -> None:
    frame = shop()
    back = Events(frame.events.entities, frame.events.event_ms[::-1].copy(), frame.events.amount)
    with pytest.raises(UsageError, match="time order"):
        replace(frame, events=back)
    with pytest.raises(UsageError, match="do not fit"):
        replace(frame, labels=frame.labels[1:])


def test_the_bundle_has_a_catalogue_of_reasons_and_its_card_global_contributions(judged: Judged) -> None:
    made = files(CONFIG, FRAUD, judged, ORIGIN)
    assert Catalogue.parse(json.loads(made["explain/reasons.json"]), FRAUD.names) == default(FRAUD)
    told = bundles.Bundle("", made).card["explanations"]
    assert set(told["mean_abs_contribution"]) == set(FRAUD.names)
    assert max(told["mean_abs_contribution"].values()) > 0
    assert [row["code"] for row in told["reasons"]] == [each.code for each in default(FRAUD).meanings]


def test_a_catalogue_of_the_configuration_takes_the_default_s_place(fresh: Workspace) -> None:
    rows = [{"code": "R77", "text": "Many payments at once", "features": ["card_count_1m"]}]
    config = replace(CONFIG, reasons=rows, top_reasons=1)
    found = judge(config, shop(), FRAUD, fresh, tools(), None)
    made = json.loads(files(config, FRAUD, found, ORIGIN)["explain/reasons.json"])
    assert made == {"schema": 1, "top": 1, "reasons": [rows[0] | {"direction": "raises"}]}


@pytest.mark.parametrize(
    "changes", [{"reasons": [{"code": "R1", "text": "x", "features": ["shoe_size"]}]}, {"top_reasons": 0}]
)
def test_a_catalogue_that_the_model_cannot_keep_is_refused_before_any_training(
    fresh: Workspace, changes: dict[str, Any]
) -> None:
    trainer = Counting()
    with pytest.raises(UsageError, match="catalogue of reasons"):
        judge(replace(CONFIG, **changes), shop(), FRAUD, fresh, tools(trainer), None)
    assert trainer.fits == 0
