"""Semantic versions (semver.org 2.0.0) of models: immutable, ordered."""

from __future__ import annotations

import re
from typing import NamedTuple

from interlock.base.errors import UsageError

_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?")


class Version(NamedTuple):
    """A version; compares by precedence."""

    major: int
    minor: int
    patch: int
    release: bool
    identifiers: tuple[tuple[bool, int, str], ...]


def parse(text: str) -> Version:
    """The version in `text`.

    Raises:
        UsageError: not a semantic version (build metadata is not taken either: it would not order).
    """
    found = _VERSION.fullmatch(text)
    if not found:
        raise UsageError("not a semantic version", "write major.minor.patch, such as 1.4.0 or 1.4.0-rc.1")
    major, minor, patch, tail = found.groups()
    # Numeric identifiers sort before others, by number (semver 11.4).
    parts = tuple(
        (not each.isdigit(), int(each) if each.isdigit() else 0, each) for each in (tail.split(".") if tail else ())
    )
    return Version(int(major), int(minor), int(patch), not tail, parts)
