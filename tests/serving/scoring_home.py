"""A home with an admitted model that serves, a history snapshot, and batches to score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from tests.admitting import Office, admit
from tests.builders import tiny_bundle
from tests.serving.batches import CUTS, instant

from interlock import settings
from interlock.adapters.delta import snapshots
from interlock.adapters.files.keys import token_key
from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.apps.job.score import Request, score
from interlock.apps.scorer import shelf
from interlock.base.clock import SystemClock
from interlock.decision.decide import Model
from interlock.decision.model import open_model
from interlock.decision.table import BUCKETS, CHAMPION, Arm, RouteTable
from interlock.privacy.token import Tokeniser
from interlock.registry.bundle import Bundle
from interlock.settings import Settings


class ScoringHome:
    """A folder with a home in it; `bundle` is admitted and serves as `fraud`."""

    def __init__(self, folder: Path, serves: bool = True) -> None:
        self.folder = folder
        self.home = folder / "home"
        settings.write(self.home, {"scoring": {"port": 0}, "control": {"port": 0}})
        self.settings: Settings = settings.load(self.home, {})
        self.bundle: Bundle = tiny_bundle(self.settings.places.bundles, trees=60, cuts=CUTS)
        self.key = token_key(self.settings.places.trust)
        if serves:
            self.serve()

    @property
    def model(self) -> Model:
        """The bundle, ready to decide."""
        return open_model(self.bundle, OnnxRuntime.from_bytes)

    def serve(self) -> None:
        """Admit the bundle and route everything to it."""
        folder = admit(self.home, self.bundle, Office())
        arm = Arm(CHAMPION, self.bundle.digest, folder, "1.0.0", ((0, BUCKETS),))
        table = RouteTable(service="fraud", epoch=1, generation=1, arms=(arm,), salt="5a" * 16)
        self.settings.places.tables.mkdir(parents=True, exist_ok=True)
        shelf.write_table(self.settings.places.tables, table)

    def remember(self, rows: list[dict[str, Any]]) -> snapshots.Snapshot:
        """Rows as the next snapshot of `transactions`."""
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "event_time"}
        columns["event_time"] = np.array([instant(row) for row in rows], np.int64)
        table = snapshots.tokenise(columns, Tokeniser(self.key))
        return snapshots.write_snapshot(self.settings.places.tables / "transactions", table, "transactions", "a test")

    def score(self, source: Path | str, target: Path | str, report: Any = None, **options: Any) -> dict[str, Any]:
        """Score in this process (its workers are processes of their own)."""
        if not {"service", "bundle"} & options.keys():
            options["service"] = "fraud"
        request = Request(source=str(source), target=str(target), **({"workers": 2, "user": "ada"} | options))
        return score(self.settings, request, SystemClock(), report or (lambda step, done, total: None))

    def command(self, *arguments: str | Path) -> list[str]:
        """`interlock score …`."""
        return [sys.executable, "-m", "interlock.apps.cli.main", "score", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """Of a command in this home."""
        return {**os.environ, "INTERLOCK_HOME": str(self.home), "NO_COLOR": "1"}

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        return subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, check=False
        )


def rows_of(path: Path) -> list[dict[str, Any]]:
    """An output's rows."""
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def told_of(path: Path) -> dict[str, Any]:
    """What an output file says of itself."""
    found: dict[str, Any] = json.loads(pq.read_schema(path).metadata[b"interlock"])
    return found


def until_it_shows(root: Path, pattern: str, running: subprocess.Popen[bytes]) -> Path:
    """The work folder in which a file of that name appears while the run goes on."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for path in root.glob(f"*/{pattern}"):
            return path.parent
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    raise AssertionError("it never got there")


def workers_on(folder: Path) -> list[int]:
    """The processes that work on a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
