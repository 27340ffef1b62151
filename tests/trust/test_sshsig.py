"""SSH signatures: ours are OpenSSH's and OpenSSH's are ours; everything else is refused."""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.base.errors import IntegrityError, UsageError
from interlock.trust import sshsig

MESSAGE = b'{"a statement": 1}\n'


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_a_signature_names_which_trusted_key_made_it(key: Ed25519PrivateKey) -> None:
    line = sshsig.public_line(key)
    others = [sshsig.public_line(Ed25519PrivateKey.generate()) for _ in range(2)]
    assert sshsig.verify(MESSAGE, sshsig.sign(MESSAGE, key), [others[0], line, others[1]]) == line


def test_only_this_key_these_bytes_and_this_purpose_count(key: Ed25519PrivateKey) -> None:
    line, armour = sshsig.public_line(key), sshsig.sign(MESSAGE, key)
    with pytest.raises(IntegrityError, match="not trusted"):
        sshsig.verify(MESSAGE, armour, [sshsig.public_line(Ed25519PrivateKey.generate())])
    with pytest.raises(IntegrityError, match="not trusted"):
        sshsig.verify(MESSAGE, armour, [])
    with pytest.raises(IntegrityError, match="not over these bytes"):
        sshsig.verify(MESSAGE + b" ", armour, [line])
    with pytest.raises(IntegrityError, match="another purpose"):
        sshsig.verify(MESSAGE, sshsig.sign(MESSAGE, key, "git"), [line])


def blob_of(armour: str) -> bytes:
    return base64.b64decode("".join(armour.splitlines()[1:-1]))


def armour_of(blob: bytes) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(blob).decode()}\n-----END SSH SIGNATURE-----\n"


def test_no_bit_of_a_signature_can_be_changed(key: Ed25519PrivateKey) -> None:
    line, blob = sshsig.public_line(key), blob_of(sshsig.sign(MESSAGE, key))
    assert sshsig.verify(MESSAGE, armour_of(blob), [line]) == line
    for at in range(len(blob)):
        changed = bytearray(blob)
        changed[at] ^= 1
        with pytest.raises(IntegrityError):
            sshsig.verify(MESSAGE, armour_of(bytes(changed)), [line])
    for shorter in (blob[:-1], blob[:40], b"", blob + b"x"):
        with pytest.raises(IntegrityError):
            sshsig.verify(MESSAGE, armour_of(shorter), [line])


@pytest.mark.parametrize(
    "armour",
    [
        "",
        "signed, honestly",
        *(f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----" for text in "!é\ufffd"),
    ],
)
def test_what_is_no_signature_is_refused(armour: str, key: Ed25519PrivateKey) -> None:
    with pytest.raises(IntegrityError):
        sshsig.verify(MESSAGE, armour, [sshsig.public_line(key)])


@pytest.mark.parametrize(
    "line",
    ["", "ssh-ed25519", "ssh-ed25519 AAé", "ssh-ed25519 AAAA", "ssh-ed25519 !!", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB"],
)
def test_a_key_of_another_type_is_refused_by_name(line: str) -> None:
    with pytest.raises(UsageError):
        sshsig.key_blob(line)


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def hardware_signature(key: Ed25519PrivateKey, flags: int) -> tuple[str, str]:
    """What a FIDO2 token answers (OpenSSH PROTOCOL.u2f); the public line and the armour."""
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    blob = string(kind) + string(raw) + string(application)
    hashed = hashlib.sha512(MESSAGE).digest()
    data = b"SSHSIG" + string(b"interlock-approval") + string(b"") + string(b"sha512") + string(hashed)
    tail = struct.pack(">BI", flags, 9)
    signature = key.sign(hashlib.sha256(application).digest() + tail + hashlib.sha256(data).digest())
    whole = b"SSHSIG" + struct.pack(">I", 1) + string(blob) + string(b"interlock-approval") + string(b"")
    whole += string(b"sha512") + string(string(kind) + string(signature) + tail)
    return f"{kind.decode()} {base64.b64encode(blob).decode()}", armour_of(whole)


def test_a_hardware_key_counts_when_somebody_touched_it(key: Ed25519PrivateKey) -> None:
    line, armour = hardware_signature(key, flags=1)
    assert sshsig.verify(MESSAGE, armour, [line]) == line
    line, untouched = hardware_signature(key, flags=0)
    with pytest.raises(IntegrityError):
        sshsig.verify(MESSAGE, untouched, [line])


@pytest.mark.process
@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa", "-b", "256")], ids=lambda kind: kind[0])
def test_what_ssh_keygen_signs_we_verify(kind: tuple[str, ...], tmp_path: Path) -> None:
    private, message = tmp_path / "id", tmp_path / "s.json"
    message.write_bytes(MESSAGE)
    subprocess.run(["ssh-keygen", "-q", "-t", *kind, "-N", "", "-f", str(private)], check=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "interlock-approval", "-f", str(private), str(message)]
    subprocess.run(command, check=True, capture_output=True)
    line = private.with_suffix(".pub").read_text()
    armour = (tmp_path / "s.json.sig").read_text()
    assert sshsig.verify(MESSAGE, armour, [line]) == line
    with pytest.raises(IntegrityError):
        sshsig.verify(MESSAGE + b" ", armour, [line])


@pytest.mark.process
def test_what_we_sign_ssh_keygen_verifies(key: Ed25519PrivateKey, tmp_path: Path) -> None:
    (tmp_path / "s.sig").write_text(sshsig.sign(MESSAGE, key))
    (tmp_path / "allowed").write_text(f"alice {sshsig.public_line(key)}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(tmp_path / "allowed"), "-I", "alice", "-n", "interlock-approval"]
    command += ["-s", str(tmp_path / "s.sig")]
    good = subprocess.run(command, input=MESSAGE, capture_output=True, check=False)
    assert good.returncode == 0, good.stderr
    bad = subprocess.run(command, input=MESSAGE + b" ", capture_output=True, check=False)
    assert bad.returncode != 0
