"""Verification of a log offline: its folder and its public key, no database, no network.

Found: a bit changed anywhere, a tile or entry missing, cut or added, a checkpoint that is not signed,
or that covers less than the folder holds. A folder cut back as a whole to an earlier signed state
is a smaller log that holds: only somebody who kept a later checkpoint, a witness, can tell.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from interlock.base.errors import IntegrityError
from interlock.trust.log import WIDTH, LogReader
from interlock.trust.merkle import leaf_hash, root_of
from interlock.trust.note import Verifier

_NAME = re.compile(r"(?:x\d{3}/)*\d{3}(?:\.p/\d{1,3})?")
_LOOKS = 20
_LOOK_S = 0.1


@dataclass
class Report:
    """What an offline verification found.

    Attributes:
        entries: entries under the checkpoint.
        root: of the checkpoint, hexadecimal.
        errors: everything that does not hold, in words.
    """

    entries: int = 0
    root: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """Whether everything holds."""
        return not self.errors


def verify_folder(folder: Path, vkey: str, wait: Callable[[float], None] = time.sleep) -> Report:
    """Verify a copied log with the public key alone: signature, every entry, every tile, the root.

    Args:
        folder: the copy, or the log of a running home.
        vkey: the log's verifier key.
        wait: called while a running writer may still be about to sign what it has written.

    Raises:
        UsageError: the key is malformed.
    """
    report = Report()
    verifier = Verifier.parse(vkey)
    try:
        reader = LogReader.open(folder, verifier)
        for _ in range(_LOOKS):
            if reader.checkpoint.size >= _held(folder):
                break
            wait(_LOOK_S)
            reader = LogReader.open(folder, verifier)
    except IntegrityError as error:
        report.errors.append(str(error))
        return report
    report.entries, report.root = reader.checkpoint.size, reader.checkpoint.root.hex()
    if _held(folder) > report.entries:
        report.errors.append(
            f"the folder holds {_held(folder)} entries and its checkpoint covers {report.entries}: an older checkpoint "
            "was put back, or an append was cut short (the control process completes it when it starts)"
        )
    try:
        level = [leaf_hash(entry) for entry in reader.entries()]
    except IntegrityError as error:
        report.errors.append(str(error))
        return report
    if root_of(level) != reader.checkpoint.root:
        report.errors.append("the entries do not give the root of the checkpoint")
    number = 0
    while level:
        report.errors += _odd_tiles(reader, number, level)
        level = [root_of(level[at : at + WIDTH]) for at in range(0, len(level) // WIDTH * WIDTH, WIDTH)]
        number += 1
    return report


def _odd_tiles(reader: LogReader, level: int, hashes: list[bytes]) -> list[str]:
    found = []
    for number in range(-(-len(hashes) // WIDTH)):
        try:
            data = reader.tile(level, number)
        except IntegrityError as error:
            found.append(str(error))
            continue
        if data != b"".join(hashes[number * WIDTH : (number + 1) * WIDTH]):
            found.append(f"tile {level}/{number} does not hold the hashes of its entries")
    return found


def _held(folder: Path) -> int:
    """How many entries the bundles reach to, whatever the checkpoint says."""
    bundles = folder / "tile" / "entries"
    reach = 0
    for path in bundles.rglob("*"):
        name = path.relative_to(bundles).as_posix()
        if _NAME.fullmatch(name) and path.is_file():
            number, _, width = name.partition(".p/")
            whole = int(re.sub(r"[x/]", "", number))
            reach = max(reach, whole * WIDTH + (int(width) if width else WIDTH))
    return reach
