"""Trained models: equal bytes for equal input, and ONNX scores that are the booster's own."""

import numpy as np
import onnx
import pytest

from interlock.adapters.onnx.export import OnnxExporter
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.base.errors import UsageError
from interlock.training.ports import Fitted

pytestmark = pytest.mark.process  # XGBoost and the converter take seconds to import

NAMES = ("amount", "count", "mean")
SMALL = {"rounds": 12, "max_depth": 3}


def rows(count: int = 1500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Few frauds, so that the model's base score is far from a half."""
    rng = np.random.default_rng(seed)
    vectors = rng.gamma(1.0, 40.0, (count, len(NAMES))).astype(np.float32)
    return vectors, (vectors[:, 0] > 120) & (rng.random(count) < 0.7)


def test_the_same_training_gives_the_same_bytes_and_another_seed_others() -> None:
    vectors, labels = rows()
    chosen = SMALL | {"subsample": 0.5}
    first, again = (XgboostTrainer().fit(vectors, labels, NAMES, chosen, 7) for _ in range(2))
    assert first.model == again.model
    assert XgboostTrainer().fit(vectors, labels, NAMES, chosen, 8).model != first.model


def test_the_exported_model_scores_as_the_booster_on_unseen_rows() -> None:
    fitted = XgboostTrainer().fit(*rows(), NAMES, SMALL, 7)
    unseen, _ = rows(seed=1)
    model, output = OnnxExporter().export(fitted, len(NAMES))
    scores = OnnxExporter().scores(model, output, unseen)
    assert scores.dtype == np.float32
    assert np.abs(scores - XgboostTrainer().scores(fitted, unseen)).max() <= 1e-5
    assert scores.max() - scores.min() > 0.2  # it does tell rows apart


def test_rows_at_the_very_edge_of_a_split_go_the_booster_s_way() -> None:
    vectors, labels = rows()
    fitted = XgboostTrainer().fit(vectors, labels, NAMES, SMALL, 7)
    model, output = OnnxExporter().export(fitted, len(NAMES))
    trees = next(node for node in onnx.load_from_string(model).graph.node if node.op_type.startswith("TreeEnsemble"))
    cuts = np.unique(next(list(each.floats) for each in trees.attribute if each.name == "nodes_values"))
    edges = np.repeat(np.float32(cuts)[:, None], len(NAMES), axis=1)
    assert np.abs(OnnxExporter().scores(model, output, edges) - XgboostTrainer().scores(fitted, edges)).max() <= 1e-5


def test_the_exported_bytes_are_deterministic() -> None:
    fitted = XgboostTrainer().fit(*rows(), NAMES, SMALL, 7)
    assert OnnxExporter().export(fitted, len(NAMES)) == OnnxExporter().export(fitted, len(NAMES))


def test_importance_names_what_the_model_uses_most_first() -> None:
    found = XgboostTrainer().fit(*rows(), NAMES, SMALL, 7).importance
    assert next(iter(found)) == "amount"
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="max_depth"):
        XgboostTrainer().fit(*rows(), NAMES, {"depth": 3}, 7)


def test_a_model_of_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="no ONNX export"):
        OnnxExporter().export(Fitted(b"", "pickle", {}), 3)
