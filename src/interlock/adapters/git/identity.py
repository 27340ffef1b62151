"""The controller's own key, which signs inverse commits and nothing else, and the keys of people who commit here.

Keys are files in OpenSSH's format; signing is done in memory and needs no ssh-keygen. A controller
of another home has another key: where several work on one repository, people.json lists the others
with the controller's e-mail and no role, and their inverse commits count as that person's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from interlock.base.errors import IntegrityError
from interlock.base.files import create_once
from interlock.trust.sshsig import Key, public_line

CONTROLLER = "controller@interlock.invalid"


@dataclass(frozen=True)
class Identity:
    """Who makes inverse commits, and how they are known again."""

    name: str = "Interlock controller"
    email: str = CONTROLLER
    key: Key | None = None
    """Signs them; None: this side only reads."""
    public: str = ""
    """The public-key line; empty: that of `key`."""

    @property
    def line(self) -> str:
        """The public-key line; empty: there is no key, and no commit counts as the controller's."""
        return self.public or (public_line(self.key) if self.key is not None else "")


def controller(path: Path) -> Identity:
    """The controller that keeps its private key at `path` (0600, its public half beside it), made on first use.

    Raises:
        IntegrityError: the file is no Ed25519 key.
    """
    key = load(create_once(path, lambda: private_bytes(Key.generate())))
    if key is None:
        raise IntegrityError(f"{path.name} is no Ed25519 key without a passphrase", "restore it from the backup")
    create_once(_public(path), lambda: f"{public_line(key)} interlock-controller\n".encode(), 0o644)
    return Identity(key=key)


def known_controller(path: Path) -> Identity:
    """The controller as others know it: by the public half beside `path`, if there is one."""
    public = _public(path)
    return Identity(public=public.read_text().strip() if public.exists() else "")


def load(data: bytes) -> Key | None:
    """The Ed25519 key of a private-key file; None: another kind of file, or under a passphrase."""
    try:
        key = serialization.load_ssh_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, Key) else None


def private_bytes(key: Key) -> bytes:
    """The private-key file of a key, without passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")
