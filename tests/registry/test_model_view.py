"""The list of models is a fold over events: what was registered first, less what was retired."""

from typing import Any

from interlock.apps.views.model import find, models
from interlock.trust.event import Event


def event(number: int, kind: str, version: str, **body: Any) -> Event:
    return Event(
        id=number,
        time_ns=number,
        type=kind,
        actor="ada",
        origin="training",
        object=f"model/fraud/{version}",
        outcome="success",
        body={"service": "fraud", "version": version, **body},
        log_index=None,
    )


def test_versions_are_listed_by_precedence_and_not_as_text() -> None:
    found = models(event(n, "model.registered", v) for n, v in enumerate(["1.10.0", "1.9.0", "1.9.0-rc.1"]))
    assert [row["version"] for row in found] == ["1.9.0-rc.1", "1.9.0", "1.10.0"]


def test_a_second_registration_of_a_version_changes_nothing() -> None:
    found = models(
        [event(1, "model.registered", "1.0.0", bundle="a"), event(2, "model.registered", "1.0.0", bundle="b")]
    )
    assert [(row["bundle"], row["registered_ns"]) for row in found] == [("a", 1)]


def test_a_retired_version_is_no_longer_listed() -> None:
    found = models([event(1, "model.registered", "1.0.0"), event(2, "model.retired", "1.0.0")])
    assert find(found, "fraud", "1.0.0") is None
