"""Signed notes and log checkpoints (C2SP signed-note v1.0.0, tlog-checkpoint v1.0.0).

A note is a text that ends in a newline, an empty line, and signature lines
`— <name> <base64(key id || signature)>`. The key id is the first four bytes of
SHA-256(name || 0x0A || 0x01 || public key) for Ed25519. A verifier key ("vkey") is
`<name>+<key id in hex>+<base64(0x01 || public key)>`.

A checkpoint is a note of three lines: origin, size in decimal, root in base64.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from interlock.base.errors import IntegrityError, UsageError

_ED25519 = b"\x01"
_DASH = "— "
MAX_NOTE = 1_000_000
_MAX_DIGITS = 19  # of a size: a uint64 has at most 20, and 2^63 entries are more than there will ever be


@dataclass(frozen=True)
class Verifier:
    """A named public key."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """The verifier of a vkey.

        Raises:
            UsageError: malformed, another algorithm, or a key id that is not the key's.
        """
        name, _, rest = vkey.strip().partition("+")
        identity, _, text = rest.partition("+")
        try:
            blob, key_id = _decode(text), bytes.fromhex(identity)
        except ValueError as error:
            raise UsageError("not a verifier key", "copy the whole line of log.vkey") from error
        if not _plain(name) or blob[:1] != _ED25519 or len(blob) != 33 or key_id != _key_id(name, blob[1:]):
            raise UsageError("not a verifier key for Ed25519", "copy the whole line of log.vkey")
        return cls(name, key_id, blob[1:])

    def to_text(self) -> str:
        """The vkey."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True)
class Signer:
    """A named private key."""

    name: str
    key: Ed25519PrivateKey

    @property
    def verifier(self) -> Verifier:
        """Its public half."""
        public = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return Verifier(self.name, _key_id(self.name, public), public)

    def sign(self, text: str) -> str:
        """The note of `text`.

        Raises:
            UsageError: it does not end in a newline.
        """
        if not text.endswith("\n"):
            raise UsageError("a note ends in a newline", "add one")
        line = base64.b64encode(self.verifier.key_id + self.key.sign(text.encode())).decode()
        return f"{text}\n{_DASH}{self.name} {line}\n"


def open_note(note: str, verifier: Verifier) -> str:
    """The text of a note that `verifier` signed; signatures by others are passed over.

    Raises:
        IntegrityError: malformed, not signed by it, or not over this text.
    """
    text, found, tail = note.rpartition("\n\n")
    if len(note) > MAX_NOTE or not found or not tail.endswith("\n"):
        raise IntegrityError("not a signed note", "restore the file")
    text += "\n"
    for line in tail.removesuffix("\n").split("\n"):
        name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
        try:
            blob = _decode(encoded)
        except ValueError as error:  # also for text that is not ASCII
            raise IntegrityError("a malformed signature line", "restore the file") from error
        if not line.startswith(_DASH) or len(blob) < 5:
            raise IntegrityError("a malformed signature line", "restore the file")
        if name == verifier.name and blob[:4] == verifier.key_id:
            try:
                Ed25519PublicKey.from_public_bytes(verifier.public).verify(blob[4:], text.encode())
            except InvalidSignature as error:
                raise IntegrityError("the note's signature is not over its text", "keep it as evidence") from error
            return text
    raise IntegrityError(f"the note is not signed by {verifier.name}", "check which key belongs to the log")


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log: its name, how many leaves it has, and their root."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The unsigned body."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint in a note's text; extension lines are allowed and passed over.

        Raises:
            IntegrityError: malformed.
        """
        lines = text.split("\n")
        try:
            origin, size, encoded = lines[:3]
            root = _decode(encoded)
        except ValueError as error:
            raise IntegrityError("not a checkpoint", "restore the file") from error
        canonical = len(size) <= _MAX_DIGITS and size.isascii() and size.isdigit() and str(int(size)) == size
        if not origin or not canonical or len(root) != 32 or lines[-1]:
            raise IntegrityError("not a checkpoint", "restore the file")
        return cls(origin, int(size), root)


def open_checkpoint(note: str, verifier: Verifier) -> Checkpoint:
    """A checkpoint whose signature holds and whose origin is the key's name.

    Raises:
        IntegrityError: either does not.
    """
    found = Checkpoint.parse(open_note(note, verifier))
    if found.origin != verifier.name:
        raise IntegrityError("the checkpoint is of another log", "check which key belongs to the log")
    return found


def _decode(text: str) -> bytes:
    """Base64 in its one form: with spare bits set, the same signature would have several texts."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("spare bits are set")
    return data


def _plain(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() for c in name)


def _key_id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]
