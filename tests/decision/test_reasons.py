"""Reason codes: complete, deterministic, and never about what the model does not know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import IntegrityError, UsageError
from interlock.decision.contributions import Contributions
from interlock.decision.reasons import Catalogue, Meaning, Reason, default, reasons
from interlock.features.definition import FRAUD, Column, FeatureSet

NAMES = ("a", "b", "c", "d")
CATALOGUE = Catalogue(
    (Meaning("R02", "two", ("a", "b")), Meaning("R01", "one", ("c",)), Meaning("R03", "three", ("d",))), top=2
)


def document(**changes: Any) -> dict[str, Any]:
    return CATALOGUE.to_json() | changes


def row(**changes: Any) -> dict[str, Any]:
    return {"code": "R01", "text": "one", "features": ["a"], "direction": "raises"} | changes


def test_contributions_are_summed_per_reason_and_the_strongest_come_first() -> None:
    assert reasons(CATALOGUE, NAMES, [0.5, 0.25, 0.5, 2.0]) == [Reason("R03", "three", 2.0), Reason("R02", "two", 0.75)]


def test_what_lowers_the_risk_or_leaves_it_is_no_reason() -> None:
    assert reasons(CATALOGUE, NAMES, [1.0, -1.0, -3.0, 0.0]) == []


def test_equal_reasons_come_in_the_order_of_their_codes() -> None:
    assert [each.code for each in reasons(CATALOGUE, NAMES, [0.5, 0.5, 1.0, 1.0])] == ["R01", "R02"]


@given(st.lists(st.floats(-5, 5), min_size=FRAUD.width, max_size=FRAUD.width), st.randoms(use_true_random=False))
def test_the_order_of_the_catalogue_changes_nothing_that_is_said(values: list[float], random: Any) -> None:
    rows = list(default(FRAUD).meanings)
    random.shuffle(rows)
    assert reasons(Catalogue(tuple(rows)), FRAUD.names, values) == reasons(default(FRAUD), FRAUD.names, values)


def test_the_default_catalogue_tells_every_feature_once() -> None:
    told = [name for meaning in default(FRAUD).meanings for name in meaning.features]
    assert sorted(told) == sorted(FRAUD.names)
    by_feature = {name: each.text for each in default(FRAUD).meanings for name in each.features}
    assert "card" in by_feature["card_count_1m"]
    assert by_feature["card_share_1h_of_24h"] == by_feature["card_sum_7d"]
    assert by_feature["amount"] == by_feature["terminal_amount_over_mean_7d"]
    assert len(set(by_feature.values())) == 8


def test_a_column_of_no_known_group_has_a_reason_too() -> None:
    more = FeatureSet("more", 1, FRAUD.velocities, (*FRAUD.columns, Column("channel", "input", "channel")))
    assert default(more).meanings[-1].features == ("channel",)


def test_a_catalogue_is_read_as_it_is_written() -> None:
    assert Catalogue.parse(CATALOGUE.to_json(), NAMES) == CATALOGUE
    assert Catalogue.parse(default(FRAUD).to_json(), FRAUD.names) == default(FRAUD)


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({}, "not a catalogue"),
        (document(schema=2), "another schema"),
        (document(top=0), "another schema or size"),
        (document(top=True), "another schema or size"),
        (document(reasons=[]), "another schema or size"),
        (document(reasons=[row(features=["a", "card_brand"])]), "no inputs of the model"),
        (document(reasons=[row(), row(code="R02")]), "feature stands twice"),
        (document(reasons=[row(features=["a", "a"])]), "feature stands twice"),
        (document(reasons=[row(), row(features=["b"])]), "code stands twice"),
        (document(reasons=[row(features=[])]), "names no features"),
        (document(reasons=[row(features="ab")]), "names no features"),
        (document(reasons=[row(code="r1")]), "code is malformed"),
        (document(reasons=[row(text="two\nlines")]), "no plain sentence"),
        (document(reasons=[row(text="as for 4111 1111 1111 1111")]), "no plain sentence"),
        (document(reasons=[row(direction="lowers")]), "unknown key or direction"),
        (document(reasons=[row(weight=2)]), "unknown key or direction"),
    ],
)
def test_a_malformed_catalogue_is_refused(given_: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Catalogue.parse(given_, NAMES)


def test_contributions_that_do_not_add_up_cannot_be_made() -> None:
    values = np.array([[1.0, -0.5]])
    Contributions(0.25, values, np.array([0.75 + 0.9e-4]))
    for margin in (0.75 + 1.2e-4, float("nan")):
        with pytest.raises(IntegrityError, match="do not add up"):
            Contributions(0.25, values, np.array([margin]))


def test_a_score_of_another_model_is_noticed() -> None:
    found = Contributions(0.0, np.array([[0.0], [800.0], [-800.0]]), np.array([0.0, 800.0, -800.0]))
    found.check_scores(np.array([0.5 + 0.9e-5, 1.0, 0.0]))
    for wrong in (0.5 + 1.2e-5, float("nan")):
        with pytest.raises(IntegrityError, match="another model"):
            found.check_scores(np.array([wrong, 1.0, 0.0]))


def test_importances_are_mean_magnitudes_greatest_first() -> None:
    values = np.array([[1.0, -4.0, 0.0], [-2.0, 1.0, 0.0]])
    found = Contributions(0.0, values, values.sum(axis=1)).importance(("a", "b", "c"))
    assert list(found.items()) == [("b", 2.5), ("a", 1.5), ("c", 0.0)]
