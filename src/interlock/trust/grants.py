"""The one table of roles and actions: what is not written here, nobody may do.

The scoring API and the control API ask the same table. No role holds everything on purpose: who
grants roles (`admin`) neither scores, trains nor approves, so that each such right has to be
granted, and the grant is an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

ACTIONS: Mapping[str, str] = {
    # the scoring API
    "predict": "decide transactions (V1, and V2 with raw columns)",
    "infer": "score the model's own inputs (V2 tensors)",
    "explain": "ask why a decision was made",
    "models": "read names, versions and metadata of models",
    "metrics": "read the counters of a scorer",
    "repository.index": "list what a scorer has loaded",
    "repository.load": "load an admitted version",
    "repository.unload": "unload a version that nothing routes to",
    # the control API and the jobs
    "audit.read": "read and verify the transparency log",
    "events.read": "read events",
    "events.append": "append events that no other action covers",
    "rollouts.read": "read rollouts and their evidence",
    "rollout.abort": "take a service back to its champion",
    "rollout.pause": "stop a rollout where it is",
    "rollout.resume": "let a rollout go on, also without the evidence that it waits for",
    "rollout.rollback": "return a service to a version that had settled before",
    "decisions.read": "read recorded decisions and their dossiers",
    "data.read": "read datasets and snapshots",
    "data.ingest": "add transactions and reference data",
    "labels.write": "add outcomes of decisions",
    "training.run": "train and register model versions",
    "approvals.technical": "approve or refuse a release as technical",
    "approvals.risk": "approve or refuse a release as risk",
    "approvals.compliance": "approve or refuse a release as compliance",
    "access.read": "read who may do what",
    "access.write": "grant and revoke",
}
"""Every action, and what it is in words."""

ROLES: Mapping[str, frozenset[str]] = {
    "score": frozenset({"predict", "infer", "models"}),
    "explain": frozenset({"explain", "models"}),
    # Reading alone: a metrics scraper must not be able to unload a model.
    "observe": frozenset({"models", "metrics", "repository.index"}),
    "operate": frozenset(
        {
            "models",
            "metrics",
            "repository.index",
            "repository.load",
            "repository.unload",
            "rollouts.read",
            "rollout.abort",
            "rollout.pause",
            "rollout.resume",
            "rollout.rollback",
            "events.read",
        }
    ),
    "train": frozenset({"training.run", "data.read", "models", "events.read", "events.append"}),
    "read-data": frozenset({"data.read", "decisions.read"}),
    "write-labels": frozenset({"labels.write"}),
    "ingest": frozenset({"data.ingest"}),
    "approve-technical": frozenset({"approvals.technical", "rollouts.read", "models"}),
    "approve-risk": frozenset({"approvals.risk", "rollouts.read", "models"}),
    "approve-compliance": frozenset({"approvals.compliance", "rollouts.read", "models", "audit.read"}),
    "audit-read": frozenset({"audit.read", "events.read", "rollouts.read", "decisions.read", "access.read", "models"}),
    "admin": frozenset({"access.read", "access.write", "events.read", "audit.read"}),
}
"""Role to the actions it allows."""


@lru_cache(maxsize=4_096)  # there are as many keys as different sets of roles in one access file
def permitted(roles: frozenset[str]) -> frozenset[str]:
    """Every action that one of these roles allows; an unknown role allows nothing."""
    return frozenset(action for role in roles for action in ROLES.get(role, ()))


def unknown_roles(roles: Iterable[str]) -> list[str]:
    """Those that the table does not know."""
    return [role for role in roles if role not in ROLES]
