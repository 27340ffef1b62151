"""A subject and its admission, for the tests of this room: real keys and a real log, no bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.admitting import NOW_NS, ROLES, TIERS, Office

from interlock.base.canonical import digest_of
from interlock.trust import admission
from interlock.trust.admission import TrustRoot
from interlock.trust.event import NewEvent, entry_bytes, stored
from interlock.trust.log import LogWriter, read_note
from interlock.trust.note import Signer
from interlock.trust.quorum import Signed
from interlock.trust.sshsig import Key
from interlock.trust.statement import Subject


def digest(word: str) -> str:
    return digest_of(word.encode())


def subject(**changes: Any) -> Subject:
    """What everybody looks at; `changes` make it something else."""
    given: dict[str, Any] = {
        "environment": "production",
        "service": "fraud",
        "version": "1.2.0",
        "folder": digest("folder"),
        "bundle": digest("bundle"),
        "dataset": "blake2b-128:" + "0" * 32,
        "card": digest("card"),
        "policy": digest_of(TIERS),
        "feature_set": digest("features"),
        "threshold_set": digest("thresholds"),
        "authors": ("ada",),
    }
    return Subject(**given | changes)


@dataclass
class Desk:
    """A controller's desk: its log and its key, with which it can log whatever it likes."""

    folder: Path
    office: Office
    signer: Signer = field(default_factory=lambda: Signer("interlock/test", Key.generate()))

    def root(self, **changes: Any) -> TrustRoot:
        """What a scorer trusts."""
        given: dict[str, Any] = {
            "log": self.signer.verifier,
            "witnesses": (),
            "people": frozenset({digest_of(self.office.people)}),
            "tiers": frozenset({digest_of(TIERS)}),
        }
        return TrustRoot(**given | changes)

    def quorum(self, about: Subject) -> list[Signed]:
        """Everybody's signature."""
        return [self.office.sign(about, role) for role in ROLES]

    def admit(self, about: Subject, signed: list[Signed], now_ns: int = NOW_NS, people: bytes = b"") -> bytes:
        """The admission file of what was judged at `now_ns`, logged, without asking anybody."""
        core = admission.core(about, "0" * 40, now_ns, signed, (people or self.office.people, TIERS))
        return self.file(core, admission.core_digest(core), now_ns)

    def file(self, core: dict[str, Any], digest: str, now_ns: int = NOW_NS, kind: str = "release.admitted") -> bytes:
        """An admission file whose log entry names `digest`."""
        log = LogWriter(self.folder, self.signer)
        event = NewEvent(
            time_ns=now_ns,
            type=kind,
            actor="controller",
            origin="test",
            object="service/fraud",
            outcome="success",
            body={"admission": digest},
        )
        index = log.size
        entry = entry_bytes(stored(event, index + 1))
        log.append([entry])
        return admission.admission_bytes(core, entry, index, read_note(self.folder), log.reader().inclusion(index))
