"""What is to be released, by digest: computed alike for the approver's statement and for the gate.

Both read the same things: the service's folder and the policies in one tree, the bundle by its
digest, and who wrote the folder since it last was what serves. If the two differed in anything, no
signature would ever count; so there is one function.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from interlock.apps.control.wishes import PEOPLE, TIERS, Wish, read
from interlock.base.clock import SystemClock
from interlock.base.errors import RefusedError, UsageError
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.registry.lineage import lineage_of
from interlock.rollout.manifest import Manifests, Release, parse
from interlock.rollout.ports import Source
from interlock.settings import Settings
from interlock.trust.commits import writers
from interlock.trust.people import People
from interlock.trust.statement import Subject
from interlock.trust.tiers import TierPolicy
from interlock.wiring import control as rows


def governed(wish: Wish) -> tuple[bytes, bytes]:
    """The people file and the tier policy of the wish's tree.

    Raises:
        UsageError: one is missing.
    """
    for name in (PEOPLE, TIERS):
        if name not in wish.governed:
            raise UsageError(f"the release repository has no {name}", "run `interlock release init`")
    return wish.governed[PEOPLE], wish.governed[TIERS]


def authors(source: Source, wish: Wish, since: str | None, now_ns: int) -> tuple[str, ...]:
    """E-mails of everybody who changed the folder since it last was as at `since`.

    Raises:
        RefusedError: one of them is unknown or revoked, or did not sign as the tier asks; the service
            has no tier.
    """
    people, tiers = governed(wish)
    rule = TierPolicy.parse(tiers).tier(wish.service).commits
    return writers(source.wrote(wish.commit, wish.path, since), People.parse(people), rule, now_ns)


def subject(wish: Wish, manifests: Manifests, folder: Path, emails: Iterable[str], environment: str) -> Subject:
    """The subject of a wish.

    Args:
        wish: the service's folder and the policies.
        manifests: the folder, understood.
        folder: where the bundles lie.
        emails: of everybody who changed the folder (`authors`).
        environment: where it is to serve.

    Raises:
        RefusedError: an author is not in people.json, or the manifests do not echo the bundle.
        IntegrityError: the bundle is not what its digest says.
    """
    release = manifests.release
    bundle = bundles.read(folder, release.bundle)
    echoed(release, bundle)
    people, tiers = governed(wish)
    known = People.parse(people)
    origin = lineage_of(bundle)
    authors = {known.by_email(email).id for email in emails} | {origin.trained_by}
    return Subject(
        environment=environment,
        service=wish.service,
        version=release.version,
        folder=wish.folder,
        bundle=release.bundle,
        dataset=origin.dataset,
        card=bundle.card_digest,
        policy=TierPolicy.parse(tiers).digest,
        feature_set=release.feature_set,
        threshold_set=release.threshold_set,
        authors=tuple(sorted(authors)),
    )


def proposed(repo: Path, service: str, settings: Settings) -> tuple[Wish, Subject]:
    """What a working copy's checked-out commit asks for, against the protected branch.

    Raises:
        RefusedError: uncommitted changes are not what will be merged; and as `subject`.
        UsageError: the commit has no such service, or its manifests are malformed.
    """
    work = rows.working_copy(settings, repo)
    if work.uncommitted():
        raise RefusedError("the working copy has uncommitted changes", "commit them: approvals bind what is committed")
    commit, base = work.resolve("HEAD"), work.protected(settings.rollout.branch)
    wish = read(work.source, commit, settings.rollout.environment).get(service)
    if wish is None:
        raise UsageError(f"this commit does not ask for {service}", "check out its release branch")
    manifests = parse(wish.files, service)
    emails = authors(work.source, wish, base, SystemClock().now_ns())
    return wish, subject(wish, manifests, settings.places.bundles, emails, settings.rollout.environment)


def echoed(release: Release, bundle: Bundle) -> None:
    """What `release.yaml` echoes must be what the bundle says.

    Raises:
        RefusedError: naming what differs.
    """
    manifest = bundle.manifest
    for name, asked, found in (
        ("metadata.name", release.service, manifest["service"]),
        ("spec.version", release.version, manifest["version"]),
        ("spec.featureSet", release.feature_set, manifest["feature_set_digest"]),
        ("spec.thresholdSet", release.threshold_set, bundle.threshold_set),
    ):
        if asked != found:
            raise RefusedError(
                f"release.yaml: {name} is not what the bundle says", "write it with `interlock release propose`"
            )
