"""Where a model version comes from: dataset → features → run → model, as its bundle states it."""

from __future__ import annotations

from dataclasses import dataclass

from interlock.base.errors import IntegrityError
from interlock.registry.bundle import Bundle

REQUIRED = ("dataset", "run_id", "trained_by")


@dataclass(frozen=True)
class Lineage:
    """What others rely on in `lineage.json`; the file itself holds more (parameters, environment, metrics).

    Attributes:
        dataset: digest of the snapshot it was trained on.
        run_id: of the tracker.
        trained_by: person id; counts as an author wherever authors may not approve.
        ticket: that asked for it.
        purpose: `candidate` or `research`.
        commit: of the code; None when it ran outside a checkout.
        lock: digest of the locked environment.
        parent: bundle whose model was taken over; None: trained anew.
    """

    dataset: str
    run_id: str
    trained_by: str
    ticket: str | None = None
    purpose: str | None = None
    commit: str | None = None
    lock: str | None = None
    parent: str | None = None


def lineage_of(bundle: Bundle) -> Lineage:
    """The bundle's lineage.

    Raises:
        IntegrityError: a required name is missing, or a value is no text.
    """
    document = bundle.lineage
    found = {name: document.get(name) for name in Lineage.__dataclass_fields__}
    wrong = [name for name in REQUIRED if not found[name]]
    wrong += [name for name, value in found.items() if value is not None and not isinstance(value, str)]
    if wrong:
        raise IntegrityError(f"the bundle's lineage has no proper {wrong[0]}", "train and register the version again")
    return Lineage(**found)  # type: ignore[arg-type]  # each value was just seen to be text or None
