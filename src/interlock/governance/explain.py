"""Why a recorded decision came out as it did: contributions that add up, and reason codes.

Contract. What is explained is the recorded vector under the very bundle that the record names:
the bundle's digests are verified when it is read, record and bundle must agree about version,
feature set and threshold set, and the native model must give the recorded score. Anything else is
an IntegrityError and no explanation. Nothing is scored, decided or counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interlock.base.errors import UsageError
from interlock.decision import reasons as reason_codes
from interlock.decision.contributions import Explainer
from interlock.decision.reasons import Catalogue, Reason
from interlock.decision.record import DecisionRecord
from interlock.governance.dossier import agree
from interlock.registry.bundle import Bundle


@dataclass(frozen=True)
class Part:
    """One input's share in a margin: its recorded value and what it contributed, in log-odds."""

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Why one decision came out as it did.

    Attributes:
        record: the decision.
        score: as recorded, the sigmoid of `margin` within 1e-5.
        margin: of the native model, log-odds.
        base: the margin before any input is known; with all contributions it gives `margin` within 1e-4.
        parts: one per input, the largest in magnitude first, equal ones by name.
        reasons: codes of the model's catalogue, strongest first; None when the bundle has no catalogue.
    """

    record: DecisionRecord
    score: float
    margin: float
    base: float
    parts: tuple[Part, ...]
    reasons: tuple[Reason, ...] | None


def explainable(record: DecisionRecord) -> None:
    """Raises UsageError unless a model decided on a recorded vector."""
    if not record.bundle or not record.vector or record.score is None:
        raise UsageError(
            "no model made this decision: the service's fallback answered",
            "see the degraded flags in `interlock decision show`",
        )


def explain(record: DecisionRecord, bundle: Bundle, explainer: Explainer) -> Explanation:
    """Explain a recorded decision.

    Args:
        record: the decision.
        bundle: the checked bundle that it names.
        explainer: that bundle's native model.

    Raises:
        UsageError: no model decided, or the bundle's catalogue of reasons is malformed.
        IntegrityError: record, bundle and native model are not of one piece.
    """
    explainable(record)
    agree(record, bundle)
    names = tuple(bundle.manifest["inputs"])
    vector = record.features()
    found = explainer.contributions(vector[None, :])
    score = float(record.score or 0.0)
    found.check_scores(np.array([score]))
    values = found.values[0].tolist()
    parts = [Part(*row) for row in zip(names, vector.tolist(), values, strict=True)]
    catalogue = catalogue_of(bundle)
    return Explanation(
        record=record,
        score=score,
        margin=float(found.margins[0]),
        base=found.base,
        parts=tuple(sorted(parts, key=lambda part: (-abs(part.contribution), part.feature))),
        reasons=None if catalogue is None else tuple(reason_codes.reasons(catalogue, names, values)),
    )


def catalogue_of(bundle: Bundle) -> Catalogue | None:
    """The bundle's catalogue of reasons; None in a bundle that is older than catalogues.

    Raises:
        UsageError: it is malformed.
    """
    if reason_codes.FILE not in bundle.files:
        return None
    return Catalogue.parse(bundle.document(reason_codes.FILE), bundle.manifest["inputs"])
