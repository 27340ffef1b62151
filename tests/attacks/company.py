"""A whole company in one process: real gate, signatures, bundles, database, log and controller.

Scorers and Git are those of `tests.world`, made suspicious: the scorers judge the admission file and
the bundle's bytes again under their own trust root, as a real one does, and Git knows who wrote
which commit. Every attack is a method away; `refused` asserts how each must end: nothing but the
champion ever served, the reason is an event, and that event is in the log that verifies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.builders import tiny_bundle
from tests.world import Behaviour, Inline, MemoryGit, MemoryScorers

from interlock import settings
from interlock.adapters.files.keys import log_signer
from interlock.apps.control import founding
from interlock.apps.control.gate import AdmissionGate
from interlock.apps.control.reconciler import Ports, Reconciler
from interlock.apps.control.sequencer import Sequencer
from interlock.apps.control.subject import subject
from interlock.apps.control.wishes import Wish, read
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, ManualClock
from interlock.base.ids import SeededIds
from interlock.decision.admin import Loaded
from interlock.registry import bundle as bundles
from interlock.registry.bundle import Bundle
from interlock.rollout.manifest import parse
from interlock.rollout.options import ControlOptions, RolloutOptions
from interlock.rollout.propose import Model, manifests, scaffold
from interlock.trust.admission import TrustRoot, verify
from interlock.trust.commits import Commit
from interlock.trust.event import Event, NewEvent, parse_entry
from interlock.trust.fsck import verify_folder
from interlock.trust.log import LogReader, LogWriter
from interlock.trust.memory import MemoryEventStore
from interlock.trust.note import Verifier
from interlock.trust.sshsig import Key, public_line, sign
from interlock.trust.statement import Statement, Subject, statement_bytes

SERVICES = "environments/production/services"
ROOT = f"{SERVICES}/fraud"
APPROVERS = {"tess": "technical", "rik": "risk", "cleo": "compliance"}
# Of the developers, dora may approve too: what stops her is that she wrote it.
STAFF = {"ada": (), "dora": ("technical", "risk", "compliance"), **{who: (role,) for who, role in APPROVERS.items()}}
POLICY = """\
apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: fraud}
spec:
  strategy: canary
  advance: timeline
  steps: []
  watch: {holdback: 0.05, for: 1s}
"""


class NamedGit(MemoryGit):
    """Git that knows who wrote which commit; whoever has a key signed theirs."""

    keys: Mapping[str, Key] = {}

    def wrote(self, commit: str, folder: str, since: str | None) -> tuple[Commit, ...]:
        return tuple(self._signed(commit, email) for email in self.authors(commit, folder, since))

    def _signed(self, commit: str, email: str) -> Commit:
        key, payload = self.keys.get(email.partition("@")[0]), f"commit {commit} by {email}".encode()
        return Commit(commit, email, email, payload, "" if key is None else sign(payload, key, "git"))

    def authors(self, commit: str, folder: str, since: str | None) -> tuple[str, ...]:
        found: set[str] = set()
        order = [each for each, _, _ in self.commits]
        start = order.index(since) + 1 if since is not None else 0
        before = self._below(since, folder)
        for each, _, author in self.commits[start : order.index(commit) + 1]:
            now = self._below(each, folder)
            if now != before:
                found.add(author)
            before = now
        return tuple(sorted(found - {"controller@interlock.invalid"}))  # inverse commits have no author

    def _below(self, commit: str | None, folder: str) -> dict[str, bytes]:
        tree = self.tree(commit) if commit is not None else {}
        return {path: data for path, data in tree.items() if path.startswith(f"{folder}/")}


class SuspiciousScorers(MemoryScorers):
    """Scorers that trust their own root alone."""

    def __init__(self, clock: ManualClock, home: settings.Settings) -> None:
        super().__init__(clock, seed=1)
        self._places = home.places

    def load(self, service: str, bundle: str, folder: str) -> Loaded:
        bundles.read(self._places.bundles, bundle)
        data = (self._places.admissions / digest_hex(bundle) / f"{digest_hex(folder)}.json").read_bytes()
        root = TrustRoot.parse((self._places.trust / "root.json").read_bytes())
        verify(data, service, bundle, folder, root)
        self.admitted.add((bundle, folder))
        self.behaviours.setdefault(bundle, Behaviour())
        return super().load(service, bundle, folder)


def _started(process: str, now_ns: int) -> NewEvent:
    return NewEvent(
        time_ns=now_ns, type=f"{process}.started", actor=process, origin="test", object=process, outcome="success"
    )


@dataclass
class Company:
    """One deployment and its people."""

    home: Path
    clock: ManualClock = field(default_factory=ManualClock)
    git: NamedGit = field(default_factory=NamedGit)
    store: MemoryEventStore = field(default_factory=MemoryEventStore)
    keys: dict[str, Key] = field(default_factory=lambda: {who: Key.generate() for who in STAFF})

    def __post_init__(self) -> None:
        self.settings = settings.load(self.home, {})
        self.git.keys = self.keys
        signer = log_signer(self.settings.places.trust)
        people, tiers = self.people(), founding.default_tiers()
        founding.accept(self.settings, signer.verifier, people, tiers)
        self.git.push(dict(scaffold(people, tiers, "memory")), "ada@example.org")
        self.scorers = SuspiciousScorers(self.clock, self.settings)
        self.sequencer = Sequencer(self.store, LogWriter(self.settings.places.log, signer), self.clock, "controller")
        for process in ("scorer", "scorer", "control"):  # so that the log's proofs have some length
            self.store.append(_started(process, self.clock.now_ns()))
        self.start()
        self.champion = self.bundle("1.0.0")
        self.sign(self.propose(self.champion))
        self.run()
        assert self.serving() == "1.0.0"

    def start(self) -> None:
        """A new controller process on what is there."""
        ports = Ports(
            store=self.store,
            scorers=self.scorers,
            source=self.git,
            gate=AdmissionGate(self.store, self.sequencer, self.settings, self.clock, self.git),
            clock=self.clock,
            ids=SeededIds(1),
            runner=Inline(),
            sequence=self.sequencer.run_once,
        )
        options = RolloutOptions(repository="memory", poll_s=0.5)
        self.controller = Reconciler(ports, options, ControlOptions(), "controller")

    def people(self, **changes: dict[str, Any]) -> bytes:
        """people.json, with changes to the entries of some."""
        entries = [
            {"id": who, "emails": [f"{who}@example.org"], "roles": list(roles), "keys": [public_line(self.keys[who])]}
            | changes.get(who, {})
            for who, roles in STAFF.items()
        ]
        return json.dumps({"schema": 1, "people": entries}).encode()

    def govern(self, people: bytes) -> None:
        """A reviewed change of people.json, accepted by the installation."""
        self.git.push({"people.json": people}, "ada@example.org")
        founding.accept(
            self.settings, log_signer(self.settings.places.trust).verifier, people, founding.default_tiers()
        )

    def bundle(self, version: str, trained_by: str = "ada", **options: Any) -> Bundle:
        seed = int(version.replace(".", ""))
        options = {"seed": seed, "lineage": {"trained_by": trained_by}} | options
        return tiny_bundle(self.settings.places.bundles, version=version, **options)

    def manifests(self, bundle: Bundle) -> dict[str, bytes]:
        """The service folder that asks for a bundle, by path below it."""
        model = Model(
            "fraud",
            bundle.manifest["version"],
            bundle.digest,
            bundle.manifest["feature_set_digest"],
            bundle.threshold_set,
        )
        return dict(manifests(model, POLICY))

    def propose(self, bundle: Bundle, author: str = "ada", **changes: bytes) -> Wish:
        """A commit that asks for a bundle; `changes` by file name without its ending."""
        files = self.manifests(bundle) | {f"{name}.yaml": data for name, data in changes.items()}
        return self.push({f"{ROOT}/{name}": data for name, data in files.items()}, author)

    def push(self, files: dict[str, bytes], author: str = "ada") -> Wish:
        commit = self.git.push(dict(files), f"{author}@example.org")
        return read(self.git, commit, "production")["fraud"]

    def subject(self, wish: Wish) -> Subject:
        """What approvers of the wish look at."""
        champion = self.controller._known.live("fraud")
        since = champion.commit if champion is not None else None
        emails = self.git.authors(wish.commit, wish.path, since)
        return subject(wish, parse(wish.files, "fraud"), self.settings.places.bundles, emails, "production")

    def statement(self, wish: Wish, who: str, role: str, days: float = 30, **changes: Any) -> bytes:
        expires = self.clock.now_ns() + round(days * 86_400) * NS_PER_S
        about = replace(self.subject(wish), **changes)
        return statement_bytes(Statement(about, who, role, "approve", "RISK-1", "looked at it", expires))

    def sign(self, wish: Wish, people: dict[str, str] | None = None, days: float = 30, **changes: Any) -> Wish:
        """Statements of people in roles, signed and merged; `changes` of what they are about."""
        files: dict[str, bytes] = {}
        for who, role in (APPROVERS if people is None else people).items():
            data = self.statement(wish, who, role, days, **changes)
            files |= self.approval(wish, f"{who}.{role}", data, sign(data, self.keys[who]))
        return self.push(files)

    def approval(self, wish: Wish, name: str, statement: bytes, signature: str) -> dict[str, bytes]:
        """The files of one approval."""
        place = f"approvals/{digest_hex(wish.folder)}/{name}"
        return {f"{place}.json": statement, f"{place}.sig": signature.encode()}

    def run(self, seconds: float = 30) -> None:
        """Turns of the controller under traffic, until nothing is left to do."""
        for turn in range(round(seconds * 2)):
            self.controller.turn()
            self.clock.advance(0.5)
            self.scorers.tick(100)
            if turn > 4 and not self.controller.busy():
                break

    def serving(self) -> str | None:
        """The version that answers everybody."""
        table = self.scorers.table
        return table.arms[0].version if table is not None and len(table.arms) == 1 else None

    def logged(self, *types: str) -> list[Event]:
        """Events of the verified log."""
        self.sequencer.run_once()
        return self.audit(*types)

    def audit(self, *types: str) -> list[Event]:
        """Events of the log as an auditor finds it: verified with the public key alone."""
        key = (self.settings.places.trust / "log.vkey").read_text()
        report = verify_folder(self.settings.places.log, key, wait=lambda seconds: None)
        assert report.verified, report.errors
        reader = LogReader.open(self.settings.places.log, Verifier.parse(key))
        events = [parse_entry(entry, index) for index, entry in enumerate(reader.entries())]
        return [event for event in events if event.type in types]

    def refused(self, *words: str) -> str:
        """Assert that the newest wish was refused for a reason with these words; the reason."""
        self.run()
        found = self.logged("release.refused")
        assert found, "nothing was refused"
        reason = str(found[-1].body["reason"])
        for word in words:
            assert word in reason, reason
        self.untouched()
        return reason

    def untouched(self) -> None:
        """Nothing but the champion was ever loaded or answered."""
        assert self.serving() == "1.0.0"
        assert self.scorers.loaded == {self.champion.digest}
        assert set(self.scorers.answered) <= {self.champion.digest}
        assert [event.body["version"] for event in self.logged("release.admitted")] == ["1.0.0"]
