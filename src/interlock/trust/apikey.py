"""API keys: `ilk_<id>_<secret>`, the secret being 32 random bytes in base64url without padding.

What is stored is the SHA-256 of the secret's 43 characters. A plain, fast hash is enough here, and
a slow one (as passwords need) would buy nothing: nobody can try 2^256 secrets, whatever one trial
costs, and equal secrets do not occur, so that a salt hides nothing either. The prefix lets a
scanner of repositories recognise a key that was committed; the id finds the entry, is no secret,
and may stand in logs.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from interlock.base.errors import RefusedError

SECRET_BYTES = 32
ID_BYTES = 5
_FORM = re.compile(r"ilk_([a-z0-9]{4,32})_([A-Za-z0-9_-]{43})")
_REMEDY = "send the key as `interlock access key new` printed it"


@dataclass(frozen=True, repr=False)
class ApiKey:
    """A key in clear, as its holder has it; it has no repr, so that no log shows it."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What the holder sends."""
        return f"ilk_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is stored and compared: SHA-256, 32 bytes."""
        return hashlib.sha256(self.secret.encode()).digest()


def mint(entropy: bytes) -> ApiKey:
    """A new key of `ID_BYTES + SECRET_BYTES` random bytes."""
    if len(entropy) != ID_BYTES + SECRET_BYTES:
        raise ValueError(f"a key is made of {ID_BYTES + SECRET_BYTES} random bytes")
    # base32 of five bytes: eight characters; it begins with a letter, so that YAML never reads a number.
    name = "k" + base64.b32encode(entropy[:ID_BYTES]).decode().lower()
    return ApiKey(name, base64.urlsafe_b64encode(entropy[ID_BYTES:]).decode().rstrip("="))


def parse(text: str) -> ApiKey:
    """The key that a caller sent.

    Raises:
        RefusedError: it has not the form of one.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise RefusedError("no valid API key", _REMEDY)
    return ApiKey(found[1], found[2])
