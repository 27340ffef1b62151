"""Model versions, folded from `model.registered` and `model.retired`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interlock.registry.bundle import Bundle
from interlock.registry.version import parse
from interlock.trust.event import Event


def models(events: Iterable[Event]) -> list[dict[str, Any]]:
    """One row per registered version, by service and version: the event's body and when it came."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        if event.type == "model.registered":
            key = (event.body["service"], event.body["version"])
            # The first registration counts: a version is immutable.
            found.setdefault(key, {**event.body, "registered_ns": event.time_ns, "event": event.id})
        elif event.type == "model.retired":
            found.pop((event.body["service"], event.body["version"]), None)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], parse(key[1])))]


def find(rows: Iterable[dict[str, Any]], service: str, version: str) -> dict[str, Any] | None:
    """The row of one version, or None."""
    return next((row for row in rows if (row["service"], row["version"]) == (service, version)), None)


def detail(row: dict[str, Any], bundle: Bundle) -> dict[str, Any]:
    """One version with its card's figures and its lineage."""
    return {
        **row,
        "metrics": bundle.card.get("metrics"),
        "thresholds": bundle.thresholds["cuts"],
        "card": bundle.card,
        "lineage": {name: value for name, value in bundle.lineage.items() if name != "environment"},
        "files": {name: len(data) for name, data in sorted(bundle.files.items())},
    }
