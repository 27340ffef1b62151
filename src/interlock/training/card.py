"""The model card and the lineage, generated from what a run did; people complete the words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from interlock.features.definition import FeatureSet
from interlock.training.config import TrainConfig

SECTIONS = (
    "purpose",
    "forbidden_uses",
    "data",
    "features",
    "metrics",
    "segments",
    "explanations",
    "limits",
    "operations",
)


@dataclass(frozen=True)
class Origin:
    """Where a run came from.

    Attributes:
        run_id: of the tracker.
        dataset: digest of the snapshot.
        snapshot: its description.
        commit: of the code, or None outside a checkout.
        environment: installed packages, name to version.
        lock: digest of `environment`.
    """

    run_id: str
    dataset: str
    snapshot: Mapping[str, Any]
    commit: str | None
    environment: Mapping[str, str]
    lock: str


def card(config: TrainConfig, features: FeatureSet, origin: Origin, found: Mapping[str, Any]) -> dict[str, Any]:
    """Every section of the card; `found` holds the run's figures."""
    return {
        "schema": 1,
        "service": config.service,
        "version": config.version,
        "purpose": "Scores card transactions for the risk of fraud, at authorisation.",
        "forbidden_uses": "Creditworthiness, employment, insurance, or any decision about a person beyond one payment.",
        "data": {
            "dataset": origin.dataset,
            "snapshot": dict(origin.snapshot),
            "training_rows": found["training_rows"],
            "test_rows": found["test_rows"],
            "checks": found["data_checks"],
        },
        "features": {"feature_set": features.digest, "owner": features.owner, "inputs": list(features.names)},
        "metrics": {"test": found["metrics"], "cuts": found["cuts"], "gates": found["gates"]},
        "segments": found["segments"],
        "explanations": {
            "total_gain": found["importance"],
            "mean_abs_contribution": found["contributions"],
            "reasons": found["reasons"]["reasons"],
        },
        "limits": (
            "Judged on the test period alone. Labels younger than the gap were not used. "
            "Simulated or historical fraud is not next month's fraud."
        ),
        "operations": {
            "owner": config.user,
            "ticket": config.ticket,
            "fallback": "the constant rule REVIEW",
            "parity": found["parity"],
        },
    }


def lineage(config: TrainConfig, features: FeatureSet, origin: Origin, found: Mapping[str, Any]) -> dict[str, Any]:
    """dataset → features → run → model, with parameters, code and environment."""
    return {
        "schema": 1,
        "service": config.service,
        "version": config.version,
        "dataset": origin.dataset,
        "snapshot": dict(origin.snapshot),
        "feature_set": features.digest,
        "run_id": origin.run_id,
        "trained_by": config.user,
        "ticket": config.ticket,
        "purpose": config.purpose,
        "commit": origin.commit,
        "lock": origin.lock,
        "environment": dict(origin.environment),
        "parameters": config.to_json(),
        "metrics": found["metrics"],
        "native_model": found["native_model"],
        "parent": found["parent"],
    }
