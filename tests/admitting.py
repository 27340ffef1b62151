"""Real people with real keys, for tests that need an approved release: statements, quorum, log, admission."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.adapters.files.keys import log_signer
from interlock.base.canonical import canonical, digest_hex, digest_of
from interlock.base.clock import NS_PER_S
from interlock.base.files import write_atomic
from interlock.registry.bundle import Bundle
from interlock.trust import admission, sshsig
from interlock.trust.event import NewEvent, entry_bytes, stored
from interlock.trust.log import LogWriter, read_note
from interlock.trust.quorum import Signed
from interlock.trust.statement import Statement, Subject, statement_bytes

NOW_NS = 1_790_000_000 * NS_PER_S
ROLES = ("technical", "risk", "compliance")
NAMES = {"technical": "tess", "risk": "rik", "compliance": "cleo"}
TIERS = (
    b"schema: 1\ntiers:\n  high: {roles: [technical, risk, compliance]}\nservices:\n  fraud: high\n  fraud-fr: high\n"
)


class Office:
    """Three approvers and an author, each with a key."""

    def __init__(self) -> None:
        self.keys = {name: Ed25519PrivateKey.generate() for name in ("ada", *NAMES.values())}
        self.people = canonical(
            {
                "schema": 1,
                "people": [
                    {
                        "id": name,
                        "name": name,
                        "emails": [f"{name}@example.org"],
                        "roles": [role for role, who in NAMES.items() if who == name],
                        "keys": [sshsig.public_line(key)],
                    }
                    for name, key in self.keys.items()
                ],
            }
        )

    def sign(
        self, subject: Subject, role: str, person: str = "", expires_ns: int = 0, decision: str = "approve"
    ) -> Signed:
        """One signed statement."""
        who = person or NAMES[role]
        expires = expires_ns or NOW_NS + 86_400 * NS_PER_S
        data = statement_bytes(Statement(subject, who, role, decision, "RISK-1", "looked at it", expires))
        return Signed(f"{who}.{role}", data, sshsig.sign(data, self.keys[who]))


def subject_of(bundle: Bundle, folder: str, service: str = "fraud", environment: str = "production") -> Subject:
    """What is to be released when that bundle is asked for by that folder."""
    return Subject(
        environment=environment,
        service=service,
        version=bundle.manifest["version"],
        folder=folder,
        bundle=bundle.digest,
        dataset=bundle.lineage["dataset"],
        card=bundle.card_digest,
        policy=digest_of(TIERS),
        feature_set=bundle.manifest["feature_set_digest"],
        threshold_set=bundle.threshold_set,
        authors=("ada",),
    )


def folder_of(bundle: Bundle) -> str:
    """A folder digest for that bundle."""
    return digest_of(f"folder of {bundle.digest}".encode())


def admit(home: Path, bundle: Bundle, office: Office, folder: str | None = None) -> str:
    """Approve a bundle, log it and write its admission and the trust root; the folder digest."""
    folder = folder or folder_of(bundle)
    subject = subject_of(bundle, folder, bundle.manifest["service"])
    signed = [office.sign(subject, role) for role in ROLES]
    core = admission.core(subject, "0" * 40, NOW_NS, signed, (office.people, TIERS))
    signer = log_signer(home / "trust")
    log = LogWriter(home / "log", signer)
    body = {"admission": admission.core_digest(core), "bundle": bundle.digest, "folder": folder}
    new = NewEvent(
        time_ns=NOW_NS,
        type="release.admitted",
        actor="controller",
        origin="test",
        object="service/fraud",
        outcome="success",
        body=body,
    )
    index = log.size
    entry = entry_bytes(stored(new, index + 1))
    log.append([entry])
    data = admission.admission_bytes(core, entry, index, read_note(home / "log"), log.reader().inclusion(index))
    write_atomic(home / "admissions" / digest_hex(bundle.digest) / f"{digest_hex(folder)}.json", data)
    root = admission.TrustRoot(
        signer.verifier, (), frozenset({digest_of(office.people)}), frozenset({digest_of(TIERS)})
    )
    write_atomic(home / "trust" / "root.json", root.to_bytes())
    return folder
