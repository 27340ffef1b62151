"""Which model a batch is scored with: what serves, or a bundle that somebody names; admitted either way.

Contract. Without `research`, a bundle is taken only with an admission that stands under this home's
trust root, judged by the scorer's own rule. The supervisor's table on the disk says what serves:
its champion, which is what a retreat goes back to as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from interlock.apps.scorer import shelf
from interlock.base.canonical import digest_hex
from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.decision.table import CHAMPION
from interlock.registry import bundle as bundles
from interlock.settings import Settings
from interlock.wiring import job


@dataclass(frozen=True)
class Chosen:
    """A bundle, its service, and the service folder whose admission stands (None: none does)."""

    bundle: str
    service: str
    folder: str | None


def choose(settings: Settings, service: str | None, bundle: str | None, research: bool) -> Chosen:
    """The model of a batch.

    Args:
        settings: of the home.
        service: whose champion is taken; or
        bundle: digest of a bundle.
        research: take the bundle even if it is not admitted.

    Raises:
        UsageError: not exactly one of the two is given, or there is no such bundle.
        RefusedError: nothing serves, or no admission stands.
    """
    if (service is None) == (bundle is None):
        raise UsageError("name a service or a bundle", "give --service NAME, or --bundle sha256:…")
    if service is not None:
        return _serving(settings, service)
    assert bundle is not None  # noqa: S101 - the one that is left
    name = str(bundles.read(settings.places.bundles, bundle).manifest.get("service"))
    folder, why = _admitted(settings, name, bundle)
    if folder is None and not research:
        raise RefusedError(f"the bundle is not admitted: {why}", "release it, or score with --unadmitted-research")
    return Chosen(bundle, name, folder)


def _serving(settings: Settings, service: str) -> Chosen:
    known = shelf.read(settings.places.tables).get(service)
    champion = known.table.arm(CHAMPION) if known is not None and known.table is not None else None
    if champion is None:
        raise RefusedError("nothing serves under that name here", "release it, or name a bundle with --bundle")
    job.check_admission(settings, service, champion.bundle, champion.folder)
    return Chosen(champion.bundle, service, champion.folder)


def _admitted(settings: Settings, service: str, bundle: str) -> tuple[str | None, str]:
    """The folder of an admission that stands, else why none does."""
    why = "there is no admission for it"
    for path in sorted((settings.places.admissions / digest_hex(bundle)).glob("*.json")):
        folder = f"sha256:{path.stem}"
        try:
            job.check_admission(settings, service, bundle, folder)
        except InterlockError as error:
            why = error.message
        else:
            return folder, ""
    return None, why
