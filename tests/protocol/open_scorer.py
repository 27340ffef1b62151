"""A real scorer whose caller holds every role by one key: for clients, the conformance suite and fuzzing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doorkeeper import access_file, key, key_entry
from tests.failures.load import transaction
from tests.failures.scorer_home import ScorerHome

from interlock import settings
from interlock.serving.wire.v1 import Transaction

ROLES = ["score", "explain", "operate", "observe"]


@dataclass(frozen=True)
class Open:
    """The scorer and how to reach it."""

    home: ScorerHome
    url: str
    grpc: str
    token: str

    @property
    def address(self) -> str:
        """HOST:PORT of the HTTP door."""
        return self.url.removeprefix("http://")

    @property
    def header(self) -> dict[str, str]:
        """What a caller sends to be somebody."""
        return {"authorization": f"Bearer {self.token}"}

    def written(self) -> Iterator[tuple[str, bytes]]:
        """Every file that the processes wrote as text or records: logs, segments, tables."""
        for folder in (self.home.places.run, self.home.places.segments, self.home.places.tables):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    with contextlib.suppress(FileNotFoundError):
                        yield path.name, path.read_bytes()


@contextlib.contextmanager
def open_scorer(folder: Path, **scoring: Any) -> Iterator[Open]:
    """It serves version 1.0.0 of `fraud`, settled."""
    made = ScorerHome(folder, **scoring)
    made.places.trust.mkdir(parents=True, exist_ok=True)
    path = made.places.trust / "access.yaml"
    path.write_bytes(access_file(keys=[key_entry(1, roles=ROLES, services="all")], anonymous={"roles": ["score"]}))
    path.chmod(0o600)
    try:
        made.start_store()
        made.serve()
        made.settle()
        ends = settings.read_endpoints(made.home)
        yield Open(made, made.url, str(ends["grpc"]), key(1).text)
    except BaseException:
        print(made.log()[-6000:])
        raise
    finally:
        made.stop()


def columns(*names: str) -> list[dict[str, Any]]:
    """Transactions of these names as V2 inputs: one tensor per field."""
    rows = [transaction(name, number) for number, name in enumerate(names)]
    return [
        {
            "name": field,
            "datatype": "INT64" if field == "amount" else "BYTES",
            "shape": [len(rows)],
            "data": [row[field] for row in rows],
        }
        for field in Transaction.__struct_fields__
    ]
