"""The auditor's rows: what `interlock decision` and the demo read, from files alone.

Nothing here asks a running process: an auditor with a copy of the home can do the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from interlock.base.clock import rfc3339
from interlock.base.errors import InterlockError, UsageError
from interlock.decision.archive import Archive
from interlock.governance.dossier import Evidence, Sources
from interlock.governance.ledger import EntriesLedger
from interlock.settings import Settings
from interlock.trust import admission
from interlock.trust.admission import TrustRoot

if TYPE_CHECKING:
    from interlock.decision.contributions import ExplainerFactory
    from interlock.governance.recompute import Past


def archive(settings: Settings) -> Archive:
    """The decision segments of this home."""
    return Archive(settings.places.segments)


def trust_root(settings: Settings) -> TrustRoot:
    """The trust root of this home.

    Raises:
        UsageError: there is none, or it is malformed.
    """
    path = settings.places.trust / "root.json"
    if not path.exists():
        raise UsageError("this home has no trust root", "write it with `interlock release init` or `release trust`")
    return TrustRoot.parse(path.read_bytes())


def sources(settings: Settings) -> Sources:
    """What a decision's proof rests on.

    Raises:
        UsageError: there is no trust root.
        IntegrityError: the log is not what its checkpoint says.
    """
    root = trust_root(settings)

    def verify(data: bytes, service: str, bundle: str, folder: str) -> Evidence:
        found = admission.verify(data, service, bundle, folder, root)
        return {
            "approvals": [{"person": each.person, "role": each.role, "key": each.key} for each in found.approvals],
            "log_index": found.log_index,
            "admitted": rfc3339(found.admitted_ns),
            "commit": found.commit,
            "dataset": found.subject.dataset,
            "card": found.subject.card,
            "policy": found.subject.policy,
            "authors": list(found.subject.authors),
        }

    places = settings.places
    ledger = EntriesLedger.open(places.log, root.log.to_text())
    return Sources(archive(settings), ledger, places.bundles, places.admissions, verify)


def past(settings: Settings) -> Past:
    """What a recomputation reads.

    Raises:
        UsageError: there is no trust root.
        IntegrityError: the log is not what its checkpoint says.
    """
    from interlock.adapters.delta.history import SnapshotHistory
    from interlock.adapters.onnx.runtime import OnnxRuntime
    from interlock.governance.recompute import Past

    places = settings.places
    ledger = EntriesLedger.open(places.log, trust_root(settings).log.to_text())
    history = SnapshotHistory(places.tables)
    return Past(archive(settings), ledger, places.bundles, history, OnnxRuntime.from_bytes)


def explainer() -> ExplainerFactory:
    """What loads a bundle's native model for explanations."""
    from interlock.adapters.xgboost.explain import XgboostExplainer

    return XgboostExplainer.from_bundle


def warm_explainer() -> None:
    """Load what explanations need, ahead of the first."""
    from interlock.adapters.xgboost.explain import preload

    preload()


def feature_names(settings: Settings, segments: Archive, decision: str) -> Sequence[str]:
    """Names of the recorded vector's columns; none when the bundle is not at hand."""
    from interlock.registry import bundle

    found = segments.find(decision)
    if found is None or not found.record.bundle:
        return ()
    try:
        return tuple(bundle.read(settings.places.bundles, found.record.bundle).manifest["inputs"])
    except InterlockError:
        return ()
