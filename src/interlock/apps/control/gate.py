"""The gate: judges a wish, and makes its admission: first in the log, then on disk, then it may load.

Checked, each with its reason: the bundle's digests and what the manifests echo of it, the freeze
calendar, the environments before this one, the way of advancing that the tier allows, the request's
form against the champion's, the authors and what their commits prove, and the quorum of signatures,
under people and policies that this installation accepts. An interrupted admission is finished, not
made twice: the core is rebuilt from the logged moment and must give the logged digest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import PurePosixPath

from interlock.apps.control.environments import EarlierLogs
from interlock.apps.control.sequencer import Sequencer
from interlock.apps.control.subject import authors, governed, subject
from interlock.apps.control.wishes import ENVIRONMENTS, FREEZE, Wish, read
from interlock.base.canonical import digest_hex
from interlock.base.clock import Clock
from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.base.files import write_atomic
from interlock.decision.decide import Cuts
from interlock.registry import bundle as bundles
from interlock.rollout import freeze
from interlock.rollout.manifest import Manifests, Release, parse, refuse_second_hops
from interlock.rollout.plan import Plan
from interlock.rollout.policy import advancing
from interlock.rollout.ports import Source
from interlock.rollout.values import Standing, Target
from interlock.settings import Settings
from interlock.trust import admission
from interlock.trust.event import Event, NewEvent, entry_bytes
from interlock.trust.log import read_note
from interlock.trust.people import People
from interlock.trust.ports import EventStore
from interlock.trust.quorum import Signed, judge
from interlock.trust.statement import Subject
from interlock.trust.tiers import TierPolicy

ADMITTED = "release.admitted"
_log = logging.getLogger(__name__)


class AdmissionGate:
    """Implements the reconciler's `Gate`."""

    def __init__(
        self, store: EventStore, sequencer: Sequencer, settings: Settings, clock: Clock, source: Source | None
    ) -> None:
        self._store = store
        self._sequencer = sequencer
        self._places = settings.places
        self._environment = settings.rollout.environment
        self._clock = clock
        self._source = source
        options = settings.rollout
        self._earlier = EarlierLogs(options.environment, options.before_logs, options.before_keys)

    def check(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        """The admitted target; raises why not."""
        release = manifests.release
        self._one_hop(wish, release)
        files = governed(wish)
        self._accepted(files)
        if FREEZE in wish.governed:
            windows = freeze.parse(_text(wish.governed[FREEZE], FREEZE))
            freeze.refuse_if_frozen(windows, self._environment, wish.service, self._clock.now_ns())
        order = wish.governed.get(ENVIRONMENTS)
        self._earlier.require(
            None if order is None else _text(order, ENVIRONMENTS), wish.service, release.bundle, self._clock.now_ns()
        )
        what = subject(wish, manifests, self._places.bundles, self._authors(wish, champion), self._environment)
        self._compatible(release.bundle, champion)
        for row in release.shadows:
            self._stands(wish.service, row, release.bundle)
        self.plan(wish, manifests)
        signed = statements(wish)
        event = self._logged(wish, what, signed, files) or self._admit(wish, what, signed, files)
        self._write(wish, what, signed, files, event)
        return self._target(wish, release, release.shadows)

    def verify(self, wish: Wish, manifests: Manifests, champion: Target | None) -> Target:
        """The target by its admission on disk, which the trust root of today must still bear.

        A standing shadow that no longer stands is left out: it must not keep an earlier version from serving.
        """
        release = manifests.release
        self._authors(wish, champion)
        self._admitted(wish.service, release.bundle, wish.folder)
        return self._target(wish, release, [row for row in release.shadows if self._still(wish, row, release.bundle)])

    def _target(self, wish: Wish, release: Release, shadows: Iterable[Standing]) -> Target:
        cuts = Cuts.parse(bundles.read(self._places.bundles, release.bundle).thresholds).at
        return Target(release.version, release.bundle, wish.folder, wish.commit, release.routing, cuts, tuple(shadows))

    def _admitted(self, service: str, bundle: str, folder: str) -> admission.Admission:
        path = self._places.admissions / digest_hex(bundle) / f"{digest_hex(folder)}.json"
        if not path.exists():
            raise RefusedError("the admission of this release is not here", "restore it, or release it anew")
        root = admission.TrustRoot.parse((self._places.trust / "root.json").read_bytes())
        return admission.verify(path.read_bytes(), service, bundle, folder, root)

    def _stands(self, service: str, row: Standing, bundle: str) -> None:
        """Refuse a standing shadow without an admission of its own, or that takes or gives something else."""
        try:
            found = self._admitted(service, row.bundle, row.folder)
        except InterlockError as error:
            problem = f"spec.shadows: {row.version} has no admission that stands: {error}"
            raise RefusedError(
                problem, "name version, bundle and folder of a release that was admitted here"
            ) from error
        if found.subject.version != row.version:
            raise RefusedError(
                f"spec.shadows: that bundle is version {found.subject.version}, not {row.version}", "write its version"
            )
        self._same_form(row.bundle, bundle, f"standing shadow {row.version}", "name a version of the same form")

    def _still(self, wish: Wish, row: Standing, bundle: str) -> bool:
        try:
            self._stands(wish.service, row, bundle)
        except InterlockError as error:
            _log.error("%s returns without a standing shadow: %s", wish.service, error)
            return False
        return True

    def plan(self, wish: Wish, manifests: Manifests) -> Plan:
        """The policy's plan, its way of advancing settled by the tier."""
        return advancing(manifests.plan, TierPolicy.parse(governed(wish)[1]).tier(wish.service))

    def _accepted(self, files: tuple[bytes, bytes]) -> None:
        path = self._places.trust / "root.json"
        if not path.exists():
            raise RefusedError("this installation has no trust root", "run `interlock release trust DIR`")
        root = admission.TrustRoot.parse(path.read_bytes())
        people, tiers = People.parse(files[0]).digest, TierPolicy.parse(files[1]).digest
        if people not in root.people or tiers not in root.tiers:
            raise RefusedError(
                "people.json or policy/tiers.yaml is not what this installation accepts",
                "have the change reviewed, then accept it with `interlock release trust DIR`",
            )

    def _authors(self, wish: Wish, champion: Target | None) -> tuple[str, ...]:
        if self._source is None:
            raise UsageError("no release repository is followed", "set rollout.repository")
        return authors(self._source, wish, champion.commit if champion else None, self._clock.now_ns())

    def _one_hop(self, wish: Wish, release: Release) -> None:
        """Routing against the other services of the same commit; who routes to nobody need not read them."""
        if release.routing is not None and self._source is not None:
            others = read(self._source, wish.commit, self._environment)
            refuse_second_hops(
                release, {name: _release(other) for name, other in others.items() if name != wish.service}
            )

    def _compatible(self, bundle: str, champion: Target | None) -> None:
        """Callers must not notice the change of version but by its answers."""
        if champion is not None:
            self._same_form(bundle, champion.bundle, "candidate", "release it as a service of its own")

    def _same_form(self, bundle: str, other: str, who: str, remedy: str) -> None:
        new = bundles.read(self._places.bundles, bundle).manifest
        old = bundles.read(self._places.bundles, other).manifest
        whose = "champion" if who == "candidate" else "version"
        for name in ("request_schema", "output"):
            if new[name] != old[name]:
                raise RefusedError(f"the {who}'s {name} differs from the {whose}'s", remedy)

    def _admit(self, wish: Wish, what: Subject, signed: list[Signed], files: tuple[bytes, bytes]) -> Event:
        now = self._clock.now_ns()
        quorum = judge(signed, People.parse(files[0]), TierPolicy.parse(files[1]), what, now)
        quorum.require()
        digest = admission.core_digest(admission.core(what, wish.commit, now, signed, files))
        body = {
            "admission": digest,
            "service": wish.service,
            "version": what.version,
            "environment": what.environment,
            "folder": wish.folder,
            "bundle": what.bundle,
            "commit": wish.commit,
            "authors": list(what.authors),
            "approvals": [{"person": each.person, "role": each.role, "key": each.key} for each in quorum.approvals],
        }
        event = NewEvent(
            time_ns=now,
            type=ADMITTED,
            actor="controller",
            origin="controller",
            object=f"service/{wish.service}",
            outcome="success",
            body=body,
        )
        return self._store.append(event)

    def _logged(self, wish: Wish, what: Subject, signed: list[Signed], files: tuple[bytes, bytes]) -> Event | None:
        """An admission of exactly this that was logged before, at whatever moment."""
        after = 0
        while page := self._store.after(after, (ADMITTED,)):
            for event in page:
                core = admission.core(what, wish.commit, event.time_ns, signed, files)
                if event.body["admission"] == admission.core_digest(core):
                    return event
            after = page[-1].id
        return None

    def _write(self, wish: Wish, what: Subject, signed: list[Signed], files: tuple[bytes, bytes], event: Event) -> None:
        core = admission.core(what, wish.commit, event.time_ns, signed, files)
        with self._sequencer.still:  # a checkpoint, and a proof under that very one
            index = self._sequencer.integrate_until(event.id)
            log = self._sequencer.log
            data = admission.admission_bytes(
                core, entry_bytes(event), index, read_note(self._places.log), log.reader().inclusion(index)
            )
        name = f"{digest_hex(wish.folder)}.json"
        write_atomic(self._places.admissions / digest_hex(what.bundle) / name, data)


def statements(wish: Wish) -> list[Signed]:
    """The signed statements in the folder's approvals; a statement without its signature is left out."""
    found = []
    for name, data in sorted(wish.approvals.items()):
        path = PurePosixPath(name)
        signature = wish.approvals.get(f"{path.with_suffix('.sig')}")
        if path.suffix == ".json" and signature is not None and _is_json(data):
            found.append(Signed(path.stem, data, signature.decode("ascii", "replace")))
    return found


def _release(wish: Wish) -> Release | None:
    """Another service's release, as far as it can be read: what is wrong with it is its own affair."""
    try:
        return parse(wish.files, wish.service).release
    except UsageError:
        return None


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8", "save it as UTF-8") from error
