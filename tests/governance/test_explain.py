"""A recorded decision explained: of one piece with its bundle, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.explaining import LINEAGE, fitted, trained_bundle
from tests.governance.past import World

from interlock.adapters.xgboost.explain import NATIVE, XgboostExplainer
from interlock.apps.views import decision as view
from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, UsageError
from interlock.decision import reasons
from interlock.governance.explain import Explanation, explain

pytestmark = pytest.mark.process  # XGBoost takes seconds to import


def world(home: Path, changes: dict[str, bytes | None] | None = None) -> World:
    return World(home, bundle=trained_bundle(home / "bundles", changes=changes))


def explained(made: World, **changes: Any) -> Explanation:
    return explain(made.decide(**changes), made.bundle, XgboostExplainer.from_bundle(made.bundle))


def test_an_explanation_adds_up_and_names_every_feature_with_its_recorded_value(tmp_path: Path) -> None:
    made = world(tmp_path)
    for _ in range(10):
        found = explained(made)
        assert sum(part.contribution for part in found.parts) + found.base == pytest.approx(found.margin, abs=1e-4)
        assert 1 / (1 + np.exp(-found.margin)) == pytest.approx(found.record.score, abs=1e-5)
        names = made.bundle.manifest["inputs"]
        recorded = dict(zip(names, found.record.features().tolist(), strict=True))
        assert {part.feature: part.value for part in found.parts} == recorded
        sizes = [abs(part.contribution) for part in found.parts]
        assert sizes == sorted(sizes, reverse=True)


def test_a_large_amount_is_the_reason_for_a_high_score(tmp_path: Path) -> None:
    made = world(tmp_path)
    found = max((explained(made) for _ in range(20)), key=lambda each: each.score)
    assert found.reasons is not None
    assert (found.score > 0.8, found.reasons[0].code) == (True, "R05")
    assert all(each.contribution > 0 for each in found.reasons)
    assert len(found.reasons) <= reasons.TOP


def test_a_bundle_without_a_catalogue_is_explained_without_codes(tmp_path: Path) -> None:
    found = explained(world(tmp_path, {reasons.FILE: None}))
    assert found.reasons is None
    shown = view.explain(found)
    assert shown["reasons"] is None
    assert len(shown["contributions"]) == 61


def test_a_catalogue_of_another_model_is_refused(tmp_path: Path) -> None:
    other = reasons.Catalogue((reasons.Meaning("R01", "one", ("of_another_model",)),)).to_json()
    with pytest.raises(UsageError, match="no inputs of the model"):
        explained(world(tmp_path, {reasons.FILE: canonical(other)}))


def test_the_booster_of_another_model_is_refused_even_in_a_well_formed_bundle(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="another model"):
        explained(world(tmp_path, {NATIVE: fitted(seed=1).model}))


def test_a_record_that_its_bundle_contradicts_is_not_explained(tmp_path: Path) -> None:
    made = world(tmp_path)
    for changes in ({"version": "9.9.9"}, {"feature_set": "sha256:" + "0" * 64}, {"decision": "DECLINE"}):
        with pytest.raises(IntegrityError):
            explained(made, **changes)


def test_an_altered_score_or_vector_is_not_explained(tmp_path: Path) -> None:
    made = world(tmp_path)
    one = made.decide()
    assert one.score is not None
    with pytest.raises(IntegrityError, match="another model"):
        explained(made, score=one.score + 2e-5, decision=one.decision)
    vector = one.features()
    vector[made.bundle.manifest["inputs"].index("amount")] = 1e6
    with pytest.raises(IntegrityError):
        explained(made, vector=vector.tobytes())


@pytest.mark.parametrize("changes", [{"bundle": ""}, {"vector": b""}, {"score": None}])
def test_what_no_model_decided_is_not_explained(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no model made this decision"):
        explained(world(tmp_path), **changes)


def test_a_value_that_is_no_number_is_shown_as_null(tmp_path: Path) -> None:
    found = explained(world(tmp_path))
    parts = tuple(type(part)(part.feature, float("nan"), part.contribution) for part in found.parts)
    odd = Explanation(found.record, found.score, found.margin, found.base, parts, found.reasons)
    assert {row["value"] for row in view.explain(odd)["contributions"]} == {None}
    assert LINEAGE["run_id"] not in str(view.explain(odd))
