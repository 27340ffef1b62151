"""What a supervisor keeps on its disk: the route table and the retreat latch of each service.

Both are written atomically and durably before they are acknowledged, so that a restart serves, and
stays retreated, without controller, log, registry or Git.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from interlock.base.errors import IntegrityError, InterlockError
from interlock.base.files import sync_folder, write_atomic
from interlock.decision import table as tables
from interlock.decision.admin import Latch
from interlock.decision.table import STANDING, RouteTable

_log = logging.getLogger(__name__)
_TABLE = "route-"
_LATCH = "latch-"


@dataclass
class Service:
    """One service's state in the supervisor.

    Attributes:
        slot: its place in the fence.
        table: what is installed.
        latch: the retreat in force.
    """

    slot: int
    table: RouteTable | None = None
    latch: Latch | None = None


def bundles(table: RouteTable) -> dict[str, tuple[str, str]]:
    """What a table needs: bundle to (service, folder of its admission)."""
    return {arm.bundle: (table.service, arm.folder) for arm in (*table.arms, *table.shadows)}


def beside(services: Iterable[Service]) -> frozenset[str]:
    """Bundles that are standing shadows and nothing else: no worker goes without its champion for them."""
    routed = [each.table for each in services if each.table is not None]
    shadows = {arm.bundle for table in routed for arm in table.shadows if arm.name in STANDING}
    return frozenset(shadows - {arm.bundle for table in routed for arm in table.arms})


def read(folder: Path) -> dict[str, Service]:
    """Every service on the disk.

    Raises:
        IntegrityError: a file is damaged; nothing is served from half of a state.
    """
    found: dict[str, Service] = {}
    for path in sorted(folder.glob(f"{_TABLE}*.json")):
        try:
            table = tables.decode(path.read_bytes())
        except InterlockError as error:
            raise IntegrityError(f"{path.name} is damaged", "restore it, or remove it and release again") from error
        found[table.service] = Service(len(found), table, _latch(folder, table.service))
    for path in sorted(folder.glob(f"{_LATCH}*.json")):
        name = path.stem.removeprefix(_LATCH)
        if name not in found:
            found[name] = Service(len(found), None, _latch(folder, name))
    return found


def write_table(folder: Path, table: RouteTable) -> None:
    """Keep a table; it holds the rollout's secret salt, so only its owner may read it."""
    write_atomic(folder / f"{_TABLE}{table.service}.json", tables.encode(table), 0o600)


def write_latch(folder: Path, service: str, latch: Latch | None) -> None:
    """Keep a latch, or that there is none."""
    path = folder / f"{_LATCH}{service}.json"
    if latch is not None:
        write_atomic(path, msgspec.json.encode(latch))
    elif path.exists():
        path.unlink()
        sync_folder(folder)


def _latch(folder: Path, service: str) -> Latch | None:
    path = folder / f"{_LATCH}{service}.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Latch)
    except msgspec.MsgspecError as error:
        # A latch that cannot be read still means: somebody went back.
        _log.exception("%s is damaged: staying retreated", path.name)
        raise IntegrityError(f"{path.name} is damaged", "see who went back in the log, then remove it") from error
