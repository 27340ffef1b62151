import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.governance.past import World

from interlock.apps.views import decision as view
from interlock.base.errors import UsageError
from interlock.decision import record
from interlock.features.definition import FRAUD
from interlock.governance.dossier import prove
from interlock.governance.recompute import recompute_decision


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_is_shown_is_plain_json_and_names_the_features(world: World) -> None:
    made = world.decide(degraded=record.MISS | record.RESUMED)
    shown = view.show(made.decision_id, world.archive, FRAUD.names)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert shown["features"]["amount"] == float(made.inputs["amount"])
    assert list(shown["features"]) == list(FRAUD.names)
    assert shown["degraded"] == ["deadline missed", "resumed attempt"]
    assert shown["segment"]["sealed"] is False
    world.seal()
    assert view.show(made.decision_id, world.archive)["segment"]["sealed"] is True


def test_without_the_bundle_features_are_shown_without_names(world: World) -> None:
    made = world.decide()
    assert len(view.show(made.decision_id, world.archive)["features"]) == FRAUD.width


def test_a_value_that_is_none_is_shown_as_null(world: World) -> None:
    made = world.decide(vector=np.array([np.nan, 1], "<f4").tobytes())
    assert view.show(made.decision_id, world.archive)["features"] == [None, 1.0]


def test_nothing_shown_looks_like_a_card_number(world: World) -> None:
    made = world.decide()
    world.seal()
    text = json.dumps(view.show(made.decision_id, world.archive)["inputs"])
    assert not re.search(r"(?<![0-9a-f])\d{12,19}(?![0-9a-f])", text)


def test_an_unknown_decision_is_a_usage_error(world: World) -> None:
    with pytest.raises(UsageError):
        view.show("018f3c5e-0000-7000-8000-000000000000", world.archive)


def test_proven_means_that_every_link_holds(world: World) -> None:
    made = world.decide()
    assert view.prove(prove(made.decision_id, world.sources))["proven"] is False
    world.seal()
    proof = view.prove(prove(made.decision_id, world.sources))
    assert (proof["proven"], proof["verdict"]) == (True, "pass")
    assert json.loads(json.dumps(proof)) == proof


def test_recomputed_is_said_of_vector_and_score_only_when_both_are_equal(world: World) -> None:
    good = world.decide()
    bad = world.decide(vector=np.ones(FRAUD.width, "<f4").tobytes())
    found = view.recompute(recompute_decision(good.decision_id, world.past))
    assert (found["vector_recomputed"], found["score_recomputed"], found["differences"]) == (True, True, {})
    wrong = view.recompute(recompute_decision(bad.decision_id, world.past))
    assert (wrong["vector_recomputed"], wrong["score_recomputed"]) == (False, False)
    assert wrong["differences"]["amount"] == {"recomputed": float(bad.inputs["amount"]), "recorded": 1.0}


def test_a_gap_is_never_called_recomputed_even_if_the_score_fits(world: World) -> None:
    world.decide(transaction_id="lost")
    while True:
        made = world.decide()
        found = view.recompute(recompute_decision(made.decision_id, world.past))
        if found["verdict"] == "inconclusive":
            break
    assert (found["vector_recomputed"], found["score_recomputed"]) == (False, False)
    assert [link["finding"] for link in found["links"] if link["finding"]] == ["gap"]
