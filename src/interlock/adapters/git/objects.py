"""Commit objects as bytes: what they say, and their SSH signature, read and written without ssh-keygen.

Source: Git's signature-format page: the header `gpgsig` (`gpgsig-sha256` where hashes are SHA-256)
holds the armour, its further lines indented by a space; what is signed is the object without it.
Whatever is ambiguous (two authors, two signatures) reads as malformed, so that it proves nothing.
"""

from __future__ import annotations

import re

from interlock.trust import sshsig
from interlock.trust.commits import NAMESPACE, Commit

_PERSON = re.compile(rb"(?:author|committer) [^\n]*<([^<>\n]*)> -?[0-9]+ [+-][0-9]{4}")


def read(name: str, raw: bytes) -> Commit:
    """The commit of an object's bytes; `name` is its hash."""
    header, blank, message = raw.partition(b"\n\n")
    fields = _fields(header)
    ours = _signature_header(header)
    armours = [field for field in fields if field.startswith(ours + b" ")]
    kept = b"\n".join(field for field in fields if field not in armours)
    signature = ""
    if len(armours) == 1:
        signature = armours[0].removeprefix(ours + b" ").replace(b"\n ", b"\n").decode("ascii", "replace")
    return Commit(name, _email(fields, b"author "), _email(fields, b"committer "), kept + blank + message, signature)


def signed(raw: bytes, key: sshsig.Key) -> bytes:
    """An unsigned commit object with a signature by `key`."""
    header, blank, message = raw.partition(b"\n\n")
    armour = sshsig.sign(raw, key, NAMESPACE).rstrip("\n").replace("\n", "\n ").encode()
    return header + b"\n" + _signature_header(header) + b" " + armour + blank + message


def _fields(header: bytes) -> list[bytes]:
    """Header fields, each with its indented further lines."""
    found: list[bytes] = []
    for line in header.split(b"\n"):
        if line.startswith(b" ") and found:
            found[-1] += b"\n" + line
        else:
            found.append(line)
    return found


def _signature_header(header: bytes) -> bytes:
    tree = header.split(b"\n", 1)[0].removeprefix(b"tree ")
    return b"gpgsig-sha256" if len(tree) == 64 else b"gpgsig"


def _email(fields: list[bytes], kind: bytes) -> str:
    matches = [_PERSON.fullmatch(field) for field in fields if field.startswith(kind)]
    if len(matches) != 1 or matches[0] is None:
        return ""
    return matches[0][1].decode("utf-8", "replace").strip().lower()
