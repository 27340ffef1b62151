"""What is admitted on this disk: every version of every service that could be loaded, routed or not.

Contract. A row says that an admission file and its bundle are here; whether they stand is judged
when the version is loaded, never by this listing. Rows are read again at most once a second, or at
once for a name that is not listed if bundles were admitted since, and only in folders that changed.
A version that several folders admitted is listed once, by the newest
admission.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import UsageError

_FRESH_NS = NS_PER_S


class Admitted(NamedTuple):
    """One version that may be loaded.

    Attributes:
        service: that its bundle names.
        version: likewise.
        bundle: digest.
        folder: digest of the service folder that the admission binds.
        size: bytes of its model.
        admitted_ns: when the admission file was written.
    """

    service: str
    version: str
    bundle: str
    folder: str
    size: int
    admitted_ns: int


class _Manifest(msgspec.Struct):
    service: str
    version: str
    model: str


class Catalogue:
    """The admitted versions of one home.

    Args:
        bundles: the home's `bundles`.
        admissions: the home's `admissions`.
        clock: for how old a reading may be.
    """

    def __init__(self, bundles: Path, admissions: Path, clock: Clock) -> None:
        self._bundles = bundles
        self._admissions = admissions
        self._clock = clock
        self._read_ns: int | None = None
        self._seen = 0
        self._folders: dict[str, tuple[int, Admitted | None]] = {}
        self._rows: dict[tuple[str, str], Admitted] = {}

    def find(self, service: str, version: str) -> Admitted | None:
        """That version, if it is admitted here."""
        self._refresh()
        found = self._rows.get((service, version))
        if found is None and self._changed() != self._seen:
            self._read_ns = None
            self._refresh()
            found = self._rows.get((service, version))
        return found

    def all(self) -> Sequence[Admitted]:
        """Every version, by service and name."""
        self._refresh()
        return [self._rows[key] for key in sorted(self._rows)]

    def _refresh(self) -> None:
        now = self._clock.monotonic_ns()
        if self._read_ns is not None and now - self._read_ns < _FRESH_NS:
            return
        self._read_ns, self._seen = now, self._changed()
        try:
            with os.scandir(self._admissions) as found:
                folders = {each.name: each.stat().st_mtime_ns for each in found if each.is_dir()}
        except FileNotFoundError:
            folders = {}
        kept = {}
        for name, changed in folders.items():
            known = self._folders.get(name)
            # A bundle may arrive after its admission: what could not be read is tried again.
            if known is not None and known[0] == changed and known[1] is not None:
                kept[name] = known
            else:
                kept[name] = changed, self._read(name)
        self._folders = kept
        self._rows = {}
        for row in sorted((row for _, row in kept.values() if row is not None), key=lambda row: row.admitted_ns):
            self._rows[row.service, row.version] = row

    def _changed(self) -> int:
        """When a bundle was admitted for the first time; 0: none ever was."""
        try:
            return self._admissions.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _read(self, name: str) -> Admitted | None:
        """The row of one folder of admissions; None when there is nothing to load."""
        bundle, folder = f"sha256:{name}", self._bundles / name
        try:
            digest_hex(bundle)
            manifest = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=_Manifest)
            size = (folder / manifest.model).stat().st_size
            files = [each for each in (self._admissions / name).iterdir() if _is_digest(each)]
            newest = max(files, key=lambda each: each.stat().st_mtime_ns)
            written = newest.stat().st_mtime_ns
        except (OSError, ValueError, UsageError):  # no bundle here, no admission, or neither is what it should be
            return None
        return Admitted(manifest.service, manifest.version, bundle, f"sha256:{newest.stem}", size, written)


def _is_digest(path: Path) -> bool:
    try:
        digest_hex(f"sha256:{path.stem}")
    except UsageError:
        return False
    return path.suffix == ".json"
