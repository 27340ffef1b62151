"""The people of the demo and their keys, which exist in its memory alone (the engineer's also in its home).

Each signs as a person would: statements with `ssh-keygen -Y sign -n interlock-approval`, commits
with `interlock release propose --sign`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from interlock.adapters.git.identity import private_bytes
from interlock.base.canonical import canonical
from interlock.base.files import write_atomic
from interlock.trust import sshsig


@dataclass(frozen=True)
class Signer:
    """A person with a key; `role` None: trains and proposes, approves nothing."""

    id: str
    name: str
    email: str
    role: str | None
    key: sshsig.Key

    @property
    def author(self) -> str:
        """As a commit names them."""
        return f"{self.name} <{self.email}>"

    def key_file(self, folder: Path) -> Path:
        """The private key as the file that a person keeps, for commits."""
        path = folder / f"{self.id}.key"
        write_atomic(path, private_bytes(self.key), mode=0o600)
        return path

    def sign(self, statement: bytes) -> bytes:
        """The armoured signature over a statement."""
        return sshsig.sign(statement, self.key).encode()


@dataclass(frozen=True)
class Cast:
    """Who plays: one who trains and proposes, and one person per role."""

    engineer: Signer
    approvers: tuple[Signer, ...]

    def people_json(self) -> bytes:
        """The people file."""
        people = [
            {
                "id": each.id,
                "name": each.name,
                "emails": [each.email],
                "roles": [each.role] if each.role else [],
                "keys": [sshsig.public_line(each.key)],
            }
            for each in (self.engineer, *self.approvers)
        ]
        return canonical({"schema": 1, "people": people})


def cast() -> Cast:
    """The four people of the story, with new keys."""
    return Cast(
        _person("ada", "Ada Engineer", None),
        (
            _person("tess", "Tess Technical", "technical"),
            _person("ravi", "Ravi Risk", "risk"),
            _person("cleo", "Cleo Compliance", "compliance"),
        ),
    )


def _person(name: str, full: str, role: str | None) -> Signer:
    return Signer(name, full, f"{name}@shop.example", role, sshsig.Key.generate())
