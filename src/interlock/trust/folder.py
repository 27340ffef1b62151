"""The digest of a service's folder: what approvals bind, and not the commit around it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from interlock.base.canonical import canonical, digest_of, sha256_hex
from interlock.base.errors import UsageError

MODES = ("100644", "100755")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Entry = tuple[str, str, bytes]
"""(path below the folder, Git mode, content)."""


def folder_digest(entries: Iterable[Entry]) -> str:
    """`sha256:` of RFC 8785 `[[path, mode, sha256], …]` sorted by path.

    Raises:
        UsageError: the folder is empty, a path repeats or leaves the folder, or an entry is a link
            or a submodule.
    """
    rows = sorted([path, mode, sha256_hex(data)] for path, mode, data in entries)
    if not rows:
        raise UsageError("the service's folder is empty", "add its manifests")
    paths = [row[0] for row in rows]
    if len(set(paths)) != len(paths):
        raise UsageError("a path occurs twice in the service's folder", "keep one of the two")
    for path, mode, _ in rows:
        if mode not in MODES:
            raise UsageError(
                f"{path} is no plain file", "links and submodules are not released: commit the file itself"
            )
        if not all(_PART.fullmatch(part) for part in path.split("/")):
            raise UsageError("a path in the service's folder has unusual characters", "use letters, digits and _.-")
    return digest_of(canonical(rows))
