"""The gate with real bundles, keys, Git-like trees, database and log; the scorer's check agrees."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.builders import tiny_bundle
from tests.rollout.test_environments import POLICY, Staging
from tests.world import MemoryGit

from interlock import settings
from interlock.adapters.files.keys import log_signer
from interlock.apps.control import founding
from interlock.apps.control.gate import AdmissionGate
from interlock.apps.control.sequencer import Sequencer
from interlock.apps.control.subject import subject
from interlock.apps.control.wishes import Wish, read
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.errors import InterlockError
from interlock.decision.table import Segments
from interlock.features.definition import FRAUD
from interlock.registry.bundle import Bundle
from interlock.rollout.manifest import parse
from interlock.rollout.propose import Model, manifests, scaffold
from interlock.rollout.values import Standing, Target
from interlock.trust.admission import TrustRoot, verify
from interlock.trust.fsck import verify_folder
from interlock.trust.log import LogWriter
from interlock.trust.memory import MemoryEventStore
from interlock.trust.sshsig import public_line, sign
from interlock.trust.statement import Statement, statement_bytes

pytestmark = pytest.mark.process  # every test syncs many files

ROLES = {"ada": "technical", "ben": "risk", "cleo": "compliance"}
ROOT = "environments/production/services/fraud"
LISTED = founding.default_tiers().replace(b"signed", b"listed")  # what commits prove has tests of its own


@dataclass
class Office:
    """A home, a repository, and three approvers."""

    home: Path
    clock: ManualClock = field(default_factory=ManualClock)
    git: MemoryGit = field(default_factory=MemoryGit)
    store: MemoryEventStore = field(default_factory=MemoryEventStore)

    def __post_init__(self) -> None:
        self.settings = settings.load(self.home, {})
        self.keys = {name: Ed25519PrivateKey.generate() for name in (*ROLES, "dev")}
        people = [
            {
                "id": name,
                "emails": [f"{name}@example.org"],
                "roles": [ROLES[name]] if name in ROLES else ["technical"],
                "keys": [public_line(key)],
            }
            for name, key in self.keys.items()
        ]
        self.people = json.dumps({"schema": 1, "people": people}).encode()
        self.git.push({k: v for k, v in scaffold(self.people, LISTED, "r").items()})
        signer = log_signer(self.settings.places.trust)
        founding.accept(self.settings, signer.verifier, self.people, LISTED)
        log = LogWriter(self.settings.places.log, signer)
        self.sequencer = Sequencer(self.store, log, self.clock, "test")
        self.gate = AdmissionGate(self.store, self.sequencer, self.settings, self.clock, self.git)

    def bundle(self, version: str = "1.0.0", **options: object) -> Bundle:
        return tiny_bundle(self.settings.places.bundles, version=version, **options)

    def propose(self, bundle: Bundle, policy: str | None = None) -> Wish:
        feature_set = bundle.manifest["feature_set_digest"]
        model = Model("fraud", bundle.manifest["version"], bundle.digest, feature_set, bundle.threshold_set)
        files = {f"{ROOT}/{name}": data for name, data in manifests(model, policy).items()}
        return self.wish(self.git.push(files))

    def wish(self, commit: str) -> Wish:
        return read(self.git, commit, "production")["fraud"]

    def sign(
        self, wish: Wish, people: tuple[str, ...] = tuple(ROLES), days: int = 1, decision: str = "approve"
    ) -> Wish:
        what = subject(
            wish,
            parse(wish.files, "fraud"),
            self.settings.places.bundles,
            self.git.authors(wish.commit, wish.path, None),
            "production",
        )
        expires = self.clock.now_ns() + days * 86_400 * NS_PER_S
        files = {}
        for name in people:
            role = ROLES.get(name, "technical")
            data = statement_bytes(Statement(what, name, role, decision, "T-1", "looked at it", expires))
            place = f"approvals/{digest_hex(wish.folder)}/{name}.{role}"
            files |= {f"{place}.json": data, f"{place}.sig": sign(data, self.keys[name]).encode()}
        return self.wish(self.git.push(files))

    def check(self, wish: Wish, champion: Target | None = None) -> Target:
        return self.gate.check(wish, parse(wish.files, "fraud"), champion)

    def root(self) -> TrustRoot:
        return TrustRoot.parse((self.settings.places.trust / "root.json").read_bytes())


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    made.git.authors = lambda *_: ("dev@example.org",)  # type: ignore[method-assign]
    return made


def admission_of(office: Office, target: Target) -> bytes:
    name = f"{digest_hex(target.folder)}.json"
    return (office.settings.places.admissions / digest_hex(target.bundle) / name).read_bytes()


def test_a_full_quorum_is_admitted_logged_and_stands_before_the_scorer(office: Office) -> None:
    target = office.check(office.sign(office.propose(office.bundle())))
    (event,) = office.store.after(0, ("release.admitted",))
    assert event.log_index == 0
    report = verify_folder(office.settings.places.log, (office.settings.places.trust / "log.vkey").read_text().strip())
    assert report.verified
    admitted = verify(admission_of(office, target), "fraud", target.bundle, target.folder, office.root())
    assert {(each.person, each.role) for each in admitted.approvals} == set(ROLES.items())


def test_checking_again_after_a_crash_finishes_the_same_admission(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()))
    target = office.check(wish)
    first = admission_of(office, target)
    office.clock.advance(5)
    office.check(wish)
    assert len(office.store.after(0, ("release.admitted",))) == 1
    assert json.loads(admission_of(office, target))["core"] == json.loads(first)["core"]


def refusal(office: Office, wish: Wish, champion: Target | None = None) -> str:
    with pytest.raises(InterlockError) as caught:
        office.check(wish, champion)
    assert office.store.after(0, ("release.admitted",)) == []
    assert not office.settings.places.admissions.exists()
    return str(caught.value)


def test_a_missing_role_is_named(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()), ("ada", "ben"))
    assert "nobody approved as compliance" in refusal(office, wish)


def test_an_author_may_not_approve(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()), ("dev", "ben", "cleo"))
    assert "dev is an author" in refusal(office, wish)


def test_an_expired_approval_does_not_count(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()))
    office.clock.advance(2 * 86_400)
    assert "expired" in refusal(office, wish)


def test_approvals_of_another_folder_do_not_count(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()))
    changed = office.git.push({f"{ROOT}/rollout.yaml": office.git.tree(wish.commit)[f"{ROOT}/rollout.yaml"] + b"\n"})
    assert "nobody approved as technical" in refusal(office, office.wish(changed))


def test_an_unknown_author_is_refused(office: Office) -> None:
    wish = office.sign(office.propose(office.bundle()))
    office.git.authors = lambda *_: ("stranger@example.org",)  # type: ignore[method-assign]
    assert "not in people.json" in refusal(office, wish)


def test_a_tampered_bundle_is_refused(office: Office) -> None:
    bundle = office.bundle()
    wish = office.sign(office.propose(bundle))
    path = office.settings.places.bundles / digest_hex(bundle.digest) / "thresholds.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"0.9", b"0.1"))
    assert refusal(office, wish)


def test_digests_that_the_bundle_does_not_echo_are_refused(office: Office) -> None:
    bundle, other = office.bundle(), office.bundle("2.0.0", cuts=((0.5, "DECLINE"),))
    wish = office.sign(office.propose(bundle))
    release = office.git.tree(wish.commit)[f"{ROOT}/release.yaml"]
    mixed = release.replace(bundle.threshold_set.encode(), other.threshold_set.encode())
    assert "thresholdSet" in refusal(office, office.wish(office.git.push({f"{ROOT}/release.yaml": mixed})))


def test_a_people_file_that_was_not_accepted_is_refused(office: Office) -> None:
    office.sign(office.propose(office.bundle()))
    commit = office.git.push({"people.json": office.people + b"\n"})
    assert "not what this installation accepts" in refusal(office, office.wish(commit))


def test_a_frozen_calendar_is_honoured(office: Office) -> None:
    office.sign(office.propose(office.bundle()))
    windows = '  windows:\n    - {from: "2020-01-01T00:00:00Z", until: "2099-01-01T00:00:00Z", reason: audit}\n'
    calendar = office.git.tree(office.git.head())["policy/freeze.yaml"].decode().replace("  windows: []\n", windows)
    commit = office.git.push({"policy/freeze.yaml": calendar.encode()})
    assert "frozen: audit" in refusal(office, office.wish(commit))


def test_a_release_enters_once_its_bundle_has_settled_in_the_environment_before(office: Office, tmp_path: Path) -> None:
    staging = Staging(tmp_path / "elsewhere")
    bundle = office.bundle()
    rollout = replace(
        office.settings.rollout,
        before_logs={"staging": str(staging.folder)},
        before_keys={"staging": staging.signer.verifier.to_text()},
    )
    configured = replace(office.settings, rollout=rollout)
    office.gate = AdmissionGate(office.store, office.sequencer, configured, office.clock, office.git)
    assert "the settings have staging" in refusal(office, office.sign(office.propose(bundle)))
    office.git.push({"policy/environments.yaml": POLICY.encode()})
    wish = office.sign(office.propose(bundle))
    assert "not settled in staging" in refusal(office, wish)
    staging.settle(office.clock.now_ns() // NS_PER_S - 600, bundle=bundle.digest)
    assert office.check(wish).bundle == bundle.digest


def test_routing_is_judged_against_the_other_services_of_the_commit(office: Office) -> None:
    bundle = office.bundle()
    office.propose(bundle)
    routing = b"  routing:\n    field: country\n    services:\n      FR: fraud-fr\n"
    release = office.git.tree(office.git.head())[f"{ROOT}/release.yaml"] + routing
    alone = office.sign(office.wish(office.git.push({f"{ROOT}/release.yaml": release})))
    assert "fraud-fr has no release" in refusal(office, alone)
    folder = {f"{ROOT}-fr/{each.path}": each.data.replace(b"name: fraud", b"name: fraud-fr") for each in alone.files}
    further = folder[f"{ROOT}-fr/release.yaml"].replace(b"FR: fraud-fr", b"DE: fraud")
    looped = office.wish(office.git.push({**folder, f"{ROOT}-fr/release.yaml": further}))
    assert "fraud-fr routes its own segments" in refusal(office, looped)
    plain = folder[f"{ROOT}-fr/release.yaml"].replace(routing, b"")
    target = office.check(office.wish(office.git.push({f"{ROOT}-fr/release.yaml": plain})))
    assert target.segments == Segments("country", {"FR": "fraud-fr"})


def beside(office: Office, bundle: Bundle, row: Target, version: str = "") -> Wish:
    """A signed wish for a bundle with a standing shadow."""
    office.propose(bundle)
    text = office.git.tree(office.git.head())[f"{ROOT}/release.yaml"].decode()
    named = f'{{version: "{version or row.version}", bundle: "{row.bundle}", folder: "{row.folder}"}}'
    changed = text.replace("shadows: []", f"shadows: [{named}]")
    assert changed != text
    return office.sign(office.wish(office.git.push({f"{ROOT}/release.yaml": changed.encode()})))


def test_a_standing_shadow_stands_on_its_own_admission_and_is_left_out_when_an_earlier_version_returns(
    office: Office,
) -> None:
    old = office.check(office.sign(office.propose(office.bundle())))
    wish = beside(office, office.bundle("2.0.0", seed=2), old)
    target = office.check(wish)
    assert target.shadows == (Standing("1.0.0", old.bundle, old.folder),)
    assert office.gate.verify(wish, parse(wish.files, "fraud"), old) == target
    (office.settings.places.admissions / digest_hex(old.bundle) / f"{digest_hex(old.folder)}.json").unlink()
    assert office.gate.verify(wish, parse(wish.files, "fraud"), old).shadows == ()


def test_a_standing_shadow_without_an_admission_of_its_own_is_refused(office: Office) -> None:
    old = office.check(office.sign(office.propose(office.bundle())))
    other = office.bundle("1.5.0", seed=3)
    for row, version, says in (
        (msgspec.structs.replace(old, bundle=other.digest, version="1.5.0"), "", "no admission that stands"),
        (msgspec.structs.replace(old, folder=other.digest), "", "no admission that stands"),
        (old, "1.0.1", "is version 1.0.0, not 1.0.1"),
    ):
        wish = beside(office, office.bundle("2.0.0", seed=2), row, version)
        with pytest.raises(InterlockError, match=says):
            office.check(wish)
    assert len(office.store.after(0, ("release.admitted",))) == 1


def test_a_candidate_with_another_request_form_is_refused(office: Office) -> None:
    champion = office.bundle(features=replace(FRAUD, currencies=("USD",)))
    wish = office.sign(office.propose(office.bundle("2.0.0")))
    assert "request_schema differs" in refusal(office, wish, Target("1.0.0", champion.digest, "f", "c"))
    office.check(wish, Target("1.0.0", office.bundle("1.0.1").digest, "f", "c"))
