"""SSH signatures (SSHSIG): what `ssh-keygen -Y sign` writes, verified and written in memory.

Source: OpenSSH PROTOCOL.sshsig (blob and armour), RFC 4253 section 6.6 and RFC 8709 (Ed25519),
RFC 5656 (ECDSA), PROTOCOL.u2f (sk-ssh-ed25519: hardware keys). Verified key types: ssh-ed25519,
sk-ssh-ed25519, ecdsa-sha2-nistp256. Anything else is refused by name.

Contract. `verify` MUST get the public keys from a trusted place: the key inside a signature only
says which of them made it. The namespace is part of what is signed.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from interlock.base.errors import IntegrityError, UsageError

NAMESPACE = "interlock-approval"
Key = Ed25519PrivateKey
"""A private key that `sign` takes; `Key.generate()` makes one."""
_MAGIC = b"SSHSIG"
_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_ED25519 = b"ssh-ed25519"
_SK_ED25519 = b"sk-ssh-ed25519@openssh.com"
_ECDSA = b"ecdsa-sha2-nistp256"
MAX_SIGNATURE = 8192


def key_blob(line: str) -> bytes:
    """The key in a public-key line (`ssh-ed25519 AAAA… comment`).

    Raises:
        UsageError: not such a line, or a type that is not accepted.
    """
    parts = line.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
        kind = _Reader(blob).string()
    except (IndexError, ValueError, IntegrityError) as error:
        raise UsageError("not an SSH public key", "paste the line of the .pub file") from error
    if kind != parts[0].encode() or kind not in (_ED25519, _SK_ED25519, _ECDSA):
        raise UsageError(
            "an SSH key of a type that is not accepted", "use ssh-ed25519, sk-ssh-ed25519 or ecdsa-sha2-nistp256"
        )
    return blob


def public_line(key: Ed25519PrivateKey) -> str:
    """The public-key line of an Ed25519 key."""
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def sign(message: bytes, key: Ed25519PrivateKey, namespace: str = NAMESPACE) -> str:
    """An armoured signature, as `ssh-keygen -Y sign` would write it."""
    blob = key_blob(public_line(key))
    signature = _string(_ED25519) + _string(key.sign(_signed(message, namespace.encode(), b"sha512")))
    whole = (
        _MAGIC
        + struct.pack(">I", 1)
        + _string(blob)
        + _string(namespace.encode())
        + _string(b"")
        + _string(b"sha512")
        + _string(signature)
    )
    text = base64.b64encode(whole).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def verify(message: bytes, armour: str, keys: Iterable[str], namespace: str = NAMESPACE) -> str:
    """Which of the trusted keys signed the message.

    Args:
        message: the signed bytes.
        armour: the text of the .sig file.
        keys: public-key lines that are trusted.
        namespace: what the signature must be for.

    Returns:
        The line of the key that signed.

    Raises:
        IntegrityError: malformed, for another namespace, by none of the keys, or not over these bytes.
    """
    blob, found_namespace, algorithm, signature = _parse(armour)
    if found_namespace != namespace.encode():
        raise IntegrityError("the signature is for another purpose", f"sign with -n {namespace}")
    line = next((each for each in keys if key_blob(each) == blob), None)
    if line is None:
        raise IntegrityError("the signature is by a key that is not trusted", "sign with a key listed in people.json")
    try:
        _check(blob, signature, _signed(message, found_namespace, algorithm))
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError("the signature is not over these bytes", "sign the statement as it is") from error
    return line


def _check(blob: bytes, signature: bytes, data: bytes) -> None:
    key, given = _Reader(blob), _Reader(signature)
    kind = key.string()
    if given.string() != kind:
        raise ValueError("key and signature are of different types")
    raw = given.string()
    if kind == _ED25519:
        public = Ed25519PublicKey.from_public_bytes(key.string())
    elif kind == _SK_ED25519:
        public = Ed25519PublicKey.from_public_bytes(key.string())
        flags, counter = given.byte(), given.number()
        if not flags & 1:
            raise ValueError("nobody touched the hardware key")
        data = (
            hashlib.sha256(key.string()).digest() + struct.pack(">BI", flags, counter) + hashlib.sha256(data).digest()
        )
    else:
        _check_ecdsa(key, raw, data)
        return
    given.end()
    public.verify(raw, data)


def _check_ecdsa(key: _Reader, raw: bytes, data: bytes) -> None:
    if key.string() != b"nistp256":
        raise ValueError("another curve")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.string())
    numbers = _Reader(raw)
    r, s = (int.from_bytes(numbers.string(), "big") for _ in range(2))
    numbers.end()
    public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))


def _signed(message: bytes, namespace: bytes, algorithm: bytes) -> bytes:
    digest = _HASHES[algorithm](message).digest()
    return _MAGIC + _string(namespace) + _string(b"") + _string(algorithm) + _string(digest)


def _parse(armour: str) -> tuple[bytes, bytes, bytes, bytes]:
    lines = armour.strip().splitlines()
    if len(armour) > MAX_SIGNATURE or len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise IntegrityError("not an SSH signature", "use the .sig file that ssh-keygen -Y sign writes")
    try:
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:  # also for text that is not ASCII
        raise IntegrityError("not an SSH signature", "use the .sig file that ssh-keygen -Y sign writes") from error
    reader = _Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC or reader.number() != 1:
        raise IntegrityError("an SSH signature of an unknown version", "sign with OpenSSH 8.0 or later")
    blob, namespace, _reserved, algorithm, signature = (reader.string() for _ in range(5))
    reader.end()
    if algorithm not in _HASHES:
        raise IntegrityError("an SSH signature with an unknown hash", "sign with sha256 or sha512")
    return blob, namespace, algorithm, signature


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


class _Reader:
    """Reads SSH wire values; running out of bytes is an IntegrityError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IntegrityError("an SSH value ends too early", "copy the file again")
        self._at += size
        return self._data[self._at - size : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._at != len(self._data):
            raise IntegrityError("an SSH value goes on where it should end", "copy the file again")
