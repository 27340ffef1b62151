from __future__ import annotations

import json

import pytest

from interlock.base.errors import UsageError
from interlock.features.definition import (
    ENTITY_KINDS,
    FRAUD,
    Column,
    FeatureSet,
    Velocity,
    Window,
    feature_set,
)


def test_a_feature_set_survives_json_with_its_digest() -> None:
    again = FeatureSet.from_json(json.loads(json.dumps(FRAUD.to_json())))
    assert again == FRAUD
    assert again.digest == FRAUD.digest


def test_the_default_set_keeps_forty_integers_for_four_entities() -> None:
    assert FRAUD.entities == ENTITY_KINDS
    assert FRAUD.value_count == 40
    assert FRAUD.width == len(FRAUD.names) == 61


def test_sets_that_differ_in_columns_alone_share_their_state() -> None:
    fewer = FeatureSet("fraud", 2, FRAUD.velocities, FRAUD.columns[:5])
    assert fewer.set_hash == FRAUD.set_hash
    assert fewer.digest != FRAUD.digest


def test_another_window_is_another_state() -> None:
    other = feature_set("fraud", 1, ("card",))
    shorter = Velocity("card_velocity", "card", windows=(Window(60, 1),))
    columns = (Column("c", "velocity", "card:count:1m"),)
    assert FeatureSet("a", 1, (shorter,), columns).set_hash != FeatureSet("a", 1, other.velocities, columns).set_hash


@pytest.mark.parametrize(("seconds", "label"), [(60, "1m"), (600, "10m"), (3600, "1h"), (86400, "24h"), (604800, "7d")])
def test_windows_are_named_as_people_name_them(seconds: int, label: str) -> None:
    assert Window(seconds, 1).label == label


@pytest.mark.parametrize(
    "build",
    [
        lambda: Window(60, 7),
        lambda: Window(0, 1),
        lambda: Velocity("v", "person"),
        lambda: Velocity("v", "card", windows=()),
        lambda: Velocity("v", "card", windows=(Window(600, 1),)),
        lambda: Velocity("v", "card", aggs=("max",)),
        lambda: Column("x", "magic"),
        lambda: FeatureSet("f", 1, (), FRAUD.columns[:1]),
        lambda: FeatureSet("f", 1, FRAUD.velocities[::-1], FRAUD.columns[:1]),
        lambda: FeatureSet("f", 1, FRAUD.velocities[:1], (Column("x", "velocity", "ip:count:1m"),)),
        lambda: FeatureSet("f", 1, FRAUD.velocities[:1], (FRAUD.columns[0], FRAUD.columns[0])),
        lambda: FeatureSet("f", 1, FRAUD.velocities, FRAUD.columns, currencies=("EUR", "JPY")),
        lambda: FeatureSet.from_json({"schema": 2}),
        lambda: FeatureSet.from_json({"schema": 1, "name": "x"}),
    ],
)
def test_definitions_that_cannot_be_counted_exactly_are_refused(build: object) -> None:
    with pytest.raises(UsageError):
        build()  # type: ignore[operator]
