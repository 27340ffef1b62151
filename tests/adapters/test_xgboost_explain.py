"""TreeSHAP of a really trained booster: exact, and only of the booster that belongs to the bundle."""

from __future__ import annotations

import numpy as np
import pytest
from tests.builders import tiny_files
from tests.explaining import exported, fitted, rows, trained_files

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.adapters.xgboost.explain import NATIVE, XgboostExplainer
from interlock.adapters.xgboost.trainer import XgboostTrainer
from interlock.base.canonical import canonical, digest_of
from interlock.base.errors import IntegrityError, UsageError
from interlock.features.definition import FRAUD
from interlock.registry.bundle import Bundle
from interlock.training.ports import Fitted

pytestmark = pytest.mark.process  # XGBoost and the converter take seconds to import


def bundle(seed: int = 0, **changes: bytes | None) -> Bundle:
    return Bundle("sha256:test", trained_files(seed, {NATIVE if k == "native" else k: v for k, v in changes.items()}))


def test_contributions_and_base_add_up_to_the_margin_of_the_exported_model() -> None:
    unseen = rows(300, seed=9)
    found = XgboostExplainer.from_bundle(bundle()).contributions(unseen)
    model, output = exported()
    scores = OnnxRuntime.from_bytes(model, output).run(unseen).astype(np.float64)
    margins = np.log(scores / (1 - scores))
    assert (found.values.shape, found.values.dtype) == ((300, FRAUD.width), np.float64)
    assert np.abs(found.values.sum(axis=1) + found.base - margins).max() <= 1e-4
    found.check_scores(scores)
    assert scores.max() - scores.min() > 0.5  # it does tell rows apart


def test_contributions_agree_with_the_definition_on_a_tree_of_one_split() -> None:
    """SHAP of a stump: the value at x minus the mean over the training rows' cover."""
    vectors = np.zeros((400, FRAUD.width), np.float32)
    vectors[:100, 0] = 1.0
    stump = XgboostTrainer().fit(vectors, vectors[:, 0] > 0, FRAUD.names, {"rounds": 1, "max_depth": 1}, 0)
    found = XgboostExplainer(stump.model, FRAUD.names).contributions(vectors[[0, 399]])
    # Weighted by cover (the hessian, equal for every row of the first round): base = (100 hi + 300 lo) / 400.
    high, low = found.margins
    assert found.base == pytest.approx(0.25 * high + 0.75 * low, abs=1e-5)
    assert found.values[0, 0] == pytest.approx(high - found.base, abs=1e-5)
    assert np.abs(found.values[:, 1:]).max() == 0.0


def test_a_row_is_explained_alike_alone_and_in_a_batch() -> None:
    unseen = rows(20, seed=9)
    explainer = XgboostExplainer.from_bundle(bundle())
    together = explainer.contributions(unseen).values
    alone = np.concatenate([explainer.contributions(unseen[[n]]).values for n in range(20)])
    assert (together == alone).all()


def test_the_trainer_s_importances_find_what_the_model_looks_at() -> None:
    found = XgboostTrainer().contributions(fitted(), FRAUD.names, rows(200, seed=9)).importance(FRAUD.names)
    assert list(found)[:2] == ["amount", "card_count_7d"]
    assert set(found) == set(FRAUD.names)


@pytest.mark.parametrize("data", [b"", b"no model", b"{}", b"{L}"])
def test_bytes_that_are_no_booster_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="cannot be read"):
        XgboostExplainer.from_bundle(bundle(native=data))


def test_a_booster_that_training_did_not_record_is_refused_before_it_is_parsed() -> None:
    lineage = canonical({"schema": 1, "native_model": {"digest": digest_of(fitted(seed=1).model)}})
    files = trained_files(0, {"lineage.json": lineage})
    with pytest.raises(IntegrityError, match="not the one that training recorded"):
        XgboostExplainer.from_bundle(Bundle("", files))
    XgboostExplainer.from_bundle(Bundle("", files | {NATIVE: fitted(seed=1).model}))


def test_a_booster_cut_short_is_refused() -> None:
    with pytest.raises(IntegrityError, match="cannot be read"):
        XgboostExplainer.from_bundle(bundle(native=fitted().model[:-64]))


def test_a_booster_of_other_inputs_is_refused() -> None:
    swapped = tuple(reversed(FRAUD.names))
    other: Fitted = XgboostTrainer().fit(rows(), rows()[:, 0] > 40_000, swapped, {"rounds": 2, "max_depth": 2}, 0)
    with pytest.raises(IntegrityError, match="other inputs"):
        XgboostExplainer.from_bundle(bundle(native=other.model))


def test_a_bundle_without_a_native_model_says_so() -> None:
    with pytest.raises(UsageError, match="no native model"):
        XgboostExplainer.from_bundle(Bundle("", tiny_files()))


@pytest.mark.parametrize("shape", [(1, 3), (0, FRAUD.width), (FRAUD.width,)])
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"float32 \[n, 61\]"):
        XgboostExplainer.from_bundle(bundle()).contributions(np.zeros(shape, np.float32))
