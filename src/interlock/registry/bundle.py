"""The files of one model version, named by one digest.

Contract. A bundle is a flat-or-nested set of files and `bundle.json`, RFC 8785 of
`{name: {"sha256": hex, "size": bytes}}` for every other file. Its digest is `sha256:` of the bytes
of `bundle.json`. `write` makes the whole folder durable under `bundles/<hex>` or nothing at all;
writing the same bundle twice is harmless. `read` MUST verify every digest on the very bytes it
hands out (a file that changes between check and use has no effect), and refuses files that are
missing, not named, too large, or no regular files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interlock.base.canonical import canonical, digest_hex, digest_of, sha256_hex
from interlock.base.errors import IntegrityError, UsageError
from interlock.base.files import sync_folder

INDEX = "bundle.json"
REQUIRED = ("model.onnx", "manifest.json", "thresholds.json", "golden.json", "card.json", "lineage.json")
MAX_FILE = 512 * 1024 * 1024
_NAME = re.compile(r"(?:[a-z0-9][a-z0-9_.-]*/)?[a-z0-9][a-z0-9_.-]*")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        digest: `sha256:` of its index.
        files: name to bytes, every one checked against the index.
    """

    digest: str
    files: Mapping[str, bytes]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The serving manifest."""
        return self.document("manifest.json")

    @cached_property
    def thresholds(self) -> dict[str, Any]:
        """The threshold set."""
        return self.document("thresholds.json")

    @cached_property
    def golden(self) -> dict[str, Any]:
        """Golden vectors and the scores that training recorded for them."""
        return self.document("golden.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        """The model card."""
        return self.document("card.json")

    @cached_property
    def lineage(self) -> dict[str, Any]:
        """Run, dataset snapshot, code and environment."""
        return self.document("lineage.json")

    @cached_property
    def threshold_set(self) -> str:
        """Digest of the threshold set, `sha256:` of its canonical bytes."""
        return digest_of(canonical(self.thresholds))

    @cached_property
    def card_digest(self) -> str:
        """Digest of the model card, `sha256:` of its canonical bytes."""
        return digest_of(canonical(self.card))

    def document(self, name: str) -> dict[str, Any]:
        """The JSON object in one of the files.

        Raises:
            IntegrityError: there is no such file, or it holds none.
        """
        try:
            found = json.loads(self.files[name])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{name} of the bundle is no JSON object", "build the bundle again") from error
        if not isinstance(found, dict):
            raise IntegrityError(f"{name} of the bundle is no JSON object", "build the bundle again")
        return found


def index_of(files: Mapping[str, bytes]) -> bytes:
    """The bytes of `bundle.json` for these files.

    Raises:
        UsageError: a name is not plain, or a required file is missing.
    """
    for name in files:
        if name == INDEX or not _NAME.fullmatch(name):
            raise UsageError(f"a bundle cannot hold a file called {name!r}", "use lower-case letters, digits and _.-")
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise UsageError(f"the bundle lacks {', '.join(missing)}", "give every required file")
    return canonical({name: {"sha256": sha256_hex(data), "size": len(data)} for name, data in files.items()})


def write(bundles: Path, files: Mapping[str, bytes]) -> str:
    """Store a bundle durably.

    Args:
        bundles: the folder of all bundles.
        files: name to bytes, without the index.

    Returns:
        Its digest.

    Raises:
        UsageError: a name or the set of files breaks a rule.
        IntegrityError: the folder exists with other bytes.
    """
    index = index_of(files)
    digest = digest_of(index)
    target = bundles / digest_hex(digest)
    if target.exists():
        read(bundles, digest)
        return digest
    bundles.mkdir(parents=True, exist_ok=True)
    temporary = bundles / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, data in {**files, INDEX: index}.items():
            _write_file(temporary / name, data)
        for folder in sorted({(temporary / name).parent for name in files}):
            sync_folder(folder)
        sync_folder(temporary)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(bundles)
    return digest


def read(bundles: Path, digest: str) -> Bundle:
    """Read a bundle, verified.

    Raises:
        UsageError: not a digest, or there is no such bundle.
        IntegrityError: anything in the folder is not what the index says.
    """
    folder = bundles / digest_hex(digest)
    if not folder.is_dir() or folder.is_symlink():
        raise UsageError(f"no bundle {digest}", "copy it into the bundles folder, or build it")
    index = _read_file(folder / INDEX)
    if digest_of(index) != digest:
        raise IntegrityError(f"the index of bundle {digest} has another digest", "restore the bundle from its source")
    listed = _listed(index)
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not _is_plain_folder(path)}
    if present != {INDEX, *listed}:
        odd = sorted(present ^ {INDEX, *listed})
        raise IntegrityError(f"bundle {digest} has missing or additional files: {', '.join(odd)}", "restore the bundle")
    files = {}
    for name, entry in listed.items():
        data = _read_file(folder / name)
        if len(data) != entry.get("size") or sha256_hex(data) != entry.get("sha256"):
            raise IntegrityError(f"{name} of bundle {digest} has other bytes than its index says", "restore the bundle")
        files[name] = data
    return Bundle(digest, files)


def _listed(index: bytes) -> dict[str, dict[str, Any]]:
    listed = json.loads(index)
    if not isinstance(listed, dict) or not all(
        _NAME.fullmatch(name) and isinstance(listed[name], dict) for name in listed
    ):
        raise IntegrityError("the bundle's index is malformed", "build the bundle again")
    return listed


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _write_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_file(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise IntegrityError(f"{path.name} of the bundle cannot be read", "restore the bundle") from error
    with os.fdopen(handle, "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE:
            raise IntegrityError(f"{path.name} of the bundle is too large", "restore the bundle")
        return file.read()
