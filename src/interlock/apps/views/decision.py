"""One decision as people and programs read it: shown, proven, computed again, explained.

Plain JSON values only. A decision holds tokens, never card numbers, and so do these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from interlock.base.clock import NS_PER_MS, rfc3339
from interlock.decision import record as records
from interlock.decision.archive import Archive
from interlock.governance.dossier import Dossier, Link, find
from interlock.governance.explain import Explanation
from interlock.governance.recompute import Recomputation

DEGRADED = {
    records.STORE_DOWN: "store down",
    records.MISS: "deadline missed",
    records.ERROR: "model error",
    records.RETREATED: "retreat in force",
    records.FALLBACK: "fallback answered",
    records.RESUMED: "resumed attempt",
}


def show(decision: str, archive: Archive, names: Sequence[str] = ()) -> dict[str, Any]:
    """What was recorded about a decision.

    Args:
        decision: its id.
        archive: the segments.
        names: the feature set's column names, if the bundle is at hand.

    Raises:
        UsageError: there is no such decision.
        IntegrityError: a segment is damaged or gone.
    """
    found = find(archive, decision)
    one = found.record
    vector = [_number(value) for value in one.features()]
    return {
        "decision_id": one.decision_id,
        "service": one.service,
        "asked": one.called,
        "transaction_id": one.transaction_id,
        "attempt": one.attempt,
        "decision": one.decision,
        "score": one.score,
        "version": one.version,
        "bundle": one.bundle,
        "arm": one.arm,
        "propensity": one.propensity,
        "received": rfc3339(one.received_ns),
        "edge_time": rfc3339(one.edge_ns),
        "clock": {"origin_ns": None if one.clock[0] is None else str(one.clock[0]), "speed": one.clock[1]},
        "epoch": one.epoch,
        "generation": one.generation,
        "inputs": dict(one.inputs),
        "applied": [list(pair) for pair in one.applied],
        "features": dict(zip(names, vector, strict=True)) if len(names) == len(vector) else vector,
        "feature_set": one.feature_set,
        "threshold_set": one.threshold_set,
        "degraded": [word for flag, word in DEGRADED.items() if one.degraded & flag],
        "model_ms": one.model_ns / NS_PER_MS,
        "batch": one.batch,
        "principal": one.principal,
        "trace_id": one.trace_id,
        "segment": {"name": found.segment, "index": found.index, "sealed": found.seal is not None},
    }


def prove(dossier: Dossier) -> dict[str, Any]:
    """A dossier, link by link; `proven` only if every link holds."""
    return {
        "decision_id": dossier.decision,
        "verdict": dossier.verdict.word,
        "proven": dossier.verdict.word == "pass",
        "links": [_link(link) for link in dossier.links],
    }


def recompute(found: Recomputation) -> dict[str, Any]:
    """A recomputation; `vector_recomputed` and `score_recomputed` mean equal bit for bit."""
    vector = found.holds("history") and found.holds("vector")
    return {
        "decision_id": found.decision,
        "verdict": found.verdict.word,
        "vector_recomputed": vector,
        "score_recomputed": vector and found.holds("score") and found.holds("decision"),
        "differences": _differences(found.differences),
        "links": [_link(link) for link in found.links],
    }


def explain(found: Explanation) -> dict[str, Any]:
    """An explanation; `reasons` is null when the model has no catalogue. Contributions are log-odds."""
    one = found.record
    return {
        "decision_id": one.decision_id,
        "transaction_id": one.transaction_id,
        "service": one.service,
        "model_version": one.version,
        "bundle": one.bundle,
        "decision": one.decision,
        "score": found.score,
        "margin": found.margin,
        "base_value": found.base,
        "reasons": None
        if found.reasons is None
        else [{"code": each.code, "text": each.text, "contribution": each.contribution} for each in found.reasons],
        "contributions": [
            {"feature": part.feature, "value": _number(part.value), "contribution": part.contribution}
            for part in found.parts
        ],
    }


def _number(value: float) -> float | None:
    """JSON has no NaN: a value that is none is shown as null."""
    return float(value) if math.isfinite(value) else None


def _link(link: Link) -> dict[str, Any]:
    return {
        "name": link.name,
        "verdict": link.verdict.word,
        "says": link.says,
        "finding": link.finding,
        "evidence": link.evidence,
    }


def _differences(found: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    return {name: {"recomputed": again, "recorded": recorded} for name, (again, recorded) in found.items()}
