"""Keys in files under `trust/`, mode 0600: for development and the embedded installation.

`kek.key` (the key-encryption key), `token.key.json` (the tokenising key, wrapped by it), `log.key`
(the log's Ed25519 key, PEM) and `log.vkey` (its public half, for everybody). Each is made once, on
first use; two processes that come first at once agree on one.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.base.errors import IntegrityError
from interlock.base.files import create_once
from interlock.base.ids import SystemIds
from interlock.privacy.envelope import KEY_BYTES, unwrap, wrap
from interlock.trust.note import Signer

_TOKENS = "tokens"
_DEPLOYMENT_BYTES = 6


def token_key(folder: Path) -> bytes:
    """The tokenising key, 32 bytes.

    Raises:
        IntegrityError: the wrapped key does not open under the key-encryption key.
    """
    kek = base64.b64decode(create_once(folder / "kek.key", lambda: base64.b64encode(secrets.token_bytes(KEY_BYTES))))
    made = create_once(
        folder / "token.key.json", lambda: wrap(secrets.token_bytes(KEY_BYTES), kek, _TOKENS, SystemIds())
    )
    return unwrap(made, kek, _TOKENS)


def log_signer(folder: Path) -> Signer:
    """The log's key; its name is the origin `interlock/<deployment id>`.

    Raises:
        IntegrityError: the key and its public half do not belong together.
    """
    pem = create_once(folder / "log.key", _new_log_key)
    name, _, body = pem.decode().partition("\n")
    key = serialization.load_pem_private_key(body.encode(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise IntegrityError("trust/log.key is no Ed25519 key", "restore it from the backup")
    signer = Signer(name, key)
    vkey = (signer.verifier.to_text() + "\n").encode()
    if create_once(folder / "log.vkey", lambda: vkey, 0o644) != vkey:
        raise IntegrityError("trust/log.vkey is not the public half of log.key", "restore both from the backup")
    return signer


def _new_log_key() -> bytes:
    body = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return f"interlock/{secrets.token_hex(_DEPLOYMENT_BYTES)}\n".encode() + body
