"""The commands on a whole home: real log, real signatures, a real snapshot, no process running."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.governance.past import FOLDER, World
from typer.testing import CliRunner

from interlock.adapters.delta.snapshots import write_snapshot
from interlock.apps.cli.main import build
from interlock.base.canonical import digest_hex, digest_of
from interlock.base.clock import NS_PER_S
from interlock.trust import admission, sshsig
from interlock.trust.admission import TrustRoot
from interlock.trust.event import Event, entry_bytes
from interlock.trust.log import LogWriter
from interlock.trust.note import Signer
from interlock.trust.quorum import Signed
from interlock.trust.statement import Statement, Subject, statement_bytes

pytestmark = pytest.mark.process  # a whole home on disk

ROLES = ("technical", "risk", "compliance")
TIERS = b"schema: 1\ntiers:\n  high: {roles: [technical, risk, compliance]}\nservices:\n  fraud: high\n"
LINKS = ["record", "segment", "log", "admission", "release", "bundle", "lineage"]

Run = Callable[..., tuple[int, dict[str, Any]]]


class Home:
    """Makes a `World` into a home that an auditor can be handed."""

    def __init__(self, path: Path) -> None:
        self.world = World(path)
        self.signer = Signer("interlock/test", Ed25519PrivateKey.generate())
        self.keys = {role: Ed25519PrivateKey.generate() for role in ROLES}
        self.people = json.dumps(
            {
                "schema": 1,
                "people": [
                    {"id": f"p-{role}", "emails": [], "roles": [role], "keys": [sshsig.public_line(key)]}
                    for role, key in self.keys.items()
                ],
            }
        ).encode()
        trust = path / "trust"
        trust.mkdir()
        accepted = frozenset([digest_of(self.people)]), frozenset([digest_of(TIERS)])
        (trust / "root.json").write_bytes(TrustRoot(self.signer.verifier, (), *accepted).to_bytes())
        self.snapshot = write_snapshot(path / "tables" / "base", pa.Table.from_pylist(self.world.rows), "base", "test")

    def subject(self) -> Subject:
        world = self.world
        return Subject(
            environment="production",
            service="fraud",
            version="1.0.0",
            folder=FOLDER,
            bundle=world.bundle.digest,
            dataset="blake2b-128:" + "0" * 32,
            card=world.bundle.card_digest,
            policy=digest_of(TIERS),
            feature_set=world.model.feature_set,
            threshold_set=world.bundle.threshold_set,
            authors=("somebody",),
        )

    def write_log(self) -> None:
        """Log the world's events, with the admission's own and the real snapshot; then the admission file."""
        admitted = next(event for event in self.world.ledger.logged if event.type == "release.admitted")
        signed = [self._signed(role, admitted.time_ns) for role in ROLES]
        body = admission.core(self.subject(), "c0ffee", admitted.time_ns, signed, (self.people, TIERS))
        entries = [entry_bytes(self._real(event, admission.core_digest(body))) for event in self.world.ledger.logged]
        writer = LogWriter(self.world.home / "log", self.signer)
        writer.append(entries)
        index = self.world.ledger.logged.index(admitted)
        path = writer.reader().inclusion(index)
        note = (self.world.home / "log" / "checkpoint").read_text()
        file = self.world.home / "admissions" / digest_hex(self.world.bundle.digest) / f"{digest_hex(FOLDER)}.json"
        file.write_bytes(admission.admission_bytes(body, entries[index], index, note, path))

    def _real(self, event: Event, core: str) -> Event:
        body = dict(event.body)
        if event.type == "release.admitted":
            body = {"admission": core}
        if event.type == "store.loaded":
            body["snapshot"] = self.snapshot.digest
        return msgspec.structs.replace(event, body=body)

    def _signed(self, role: str, now_ns: int) -> Signed:
        statement = Statement(
            self.subject(), f"p-{role}", role, "approve", "T-1", "looks right", now_ns + 90 * 86_400 * NS_PER_S
        )
        data = statement_bytes(statement)
        return Signed(role, data, sshsig.sign(data, self.keys[role]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("INTERLOCK_HOME", str(home.world.home))
    app = build(("interlock.apps.cli.decision",))

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, ["decision", *arguments, "--output", "json"])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, json.loads(result.stdout)

    return call


def test_a_decision_is_shown_proven_and_recomputed(home: Home, run: Run) -> None:
    for _ in range(8):
        made = home.world.decide()
    home.world.seal()
    home.write_log()
    code, shown = run("show", made.decision_id)
    assert (code, shown["decision"], shown["segment"]["sealed"]) == (0, made.decision, True)
    assert "card_count_7d" in shown["features"]
    code, proof = run("prove", made.decision_id)
    assert (code, proof["proven"]) == (0, True)
    assert [link["name"] for link in proof["links"]] == LINKS
    approvals = proof["links"][LINKS.index("admission")]["evidence"]["approvals"]
    assert [(each["person"], each["role"]) for each in approvals] == [(f"p-{role}", role) for role in ROLES]
    code, again = run("recompute", made.decision_id)
    assert (code, again["vector_recomputed"], again["score_recomputed"]) == (0, True, True)


def test_an_admission_under_a_missing_signature_exits_1(home: Home, run: Run) -> None:
    made = home.world.decide()
    home.world.seal()
    home.keys["risk"] = Ed25519PrivateKey.generate()  # not the key in people.json
    home.write_log()
    code, proof = run("prove", made.decision_id)
    assert (code, proof["proven"]) == (1, False)
    link = proof["links"][LINKS.index("admission")]
    assert (link["verdict"], link["finding"]) == ("fail", "refused")
    assert "risk" in link["says"]


def test_what_cannot_be_told_yet_exits_3(home: Home, run: Run) -> None:
    made = home.world.decide()
    home.write_log()
    code, proof = run("prove", made.decision_id)
    assert (code, proof["verdict"]) == (3, "inconclusive")


def test_a_table_for_people_names_every_link(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = home.world.decide()
    home.world.seal()
    home.write_log()
    monkeypatch.setenv("INTERLOCK_HOME", str(home.world.home))
    result = CliRunner().invoke(build(("interlock.apps.cli.decision",)), ["decision", "prove", made.decision_id])
    assert result.exit_code == 0
    assert all(link in result.stdout for link in LINKS)
