"""One home for the whole run: the store, two admitted bundles, and `interlock serve` when asked.

Everything lives in one temporary folder on free loopback ports, and ends by the ids that were
started here. The admissions are real: people, statements, quorum, log, as in the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import redis
from bench.serving import model
from tests.admitting import Office, admit

from interlock import settings
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.scorers.client import ScorerClient
from interlock.adapters.valkey.launcher import Valkey
from interlock.base.errors import InterlockError
from interlock.base.guard import guarded
from interlock.decision.table import BUCKETS, Arm, RouteTable
from interlock.features.definition import FRAUD
from interlock.features.online import Base
from interlock.features.options import StoreOptions

LIMIT_S = 60.0
SERVICE = "fraud"
STORE = {"budget_ms": 30}
"""The default of 15 ms is for a machine of its own; here store, generator and scorer share two cores."""
_T = TypeVar("_T")


def until(holds: Callable[[], _T], what: str, limit_s: float = LIMIT_S) -> _T:
    """Wait until something holds.

    Raises:
        TimeoutError: saying what did not come true.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(InterlockError, OSError):
            if found := holds():
                return found
        time.sleep(0.02)
    raise TimeoutError(f"it did not happen that {what}")


class Home:
    """The store and our own scorer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        settings.write(self.home, {"scoring": {"port": 0, "workers": 1}, "store": STORE})
        self.places = settings.load(self.home, {}).places
        self.places.run.mkdir(parents=True, exist_ok=True)
        self.valkey = Valkey()
        self.client = ScorerClient(self.places.admin_socket)
        self.arms: list[Arm] = []
        self.bundles: dict[str, Any] = {}
        self.generation = 0
        self.filled = ""
        """Whose features the store holds, if any."""
        self._office = Office()
        self._epoch = 0
        self._salt = secrets.token_hex(16)

    # --- before the run -------------------------------------------------------------------------

    def prepare(self, models: bool = True) -> None:
        """Start the store; train and admit two versions, unless only empty servers are measured."""
        self.valkey.start(self.places.run)
        if not models:
            return
        for version, seed in (("1.0.0", 7), ("1.1.0", 11)):
            made = model.write_bundle(self.places.bundles, version, seed)
            folder = admit(self.home, made, self._office)
            self.arms.append(Arm("champion", made.digest, folder, version))
            self.bundles[version] = made
        champion = self.bundles["1.0.0"].files  # for the peers: native and exported
        (self.folder / "model.ubj").write_bytes(champion["explain/booster.ubj"])
        (self.folder / "model.onnx").write_bytes(champion["model.onnx"])

    def empty_store(self) -> None:
        """Forget every key, and declare an empty base: without one every answer is degraded."""
        client = redis.Redis(unix_socket_path=str(self.places.run / "valkey.sock"))
        client.flushall()
        self.filled = ""
        client.close()

        async def base() -> None:
            store = await RedisOnlineStore.connect(self.valkey.url, FRAUD, StoreOptions(budget_ms=1_000))
            await store.load([], Base.empty(FRAUD.set_hash))
            await store.close()

        asyncio.run(base())

    # --- our scorer -----------------------------------------------------------------------------

    def serve(self, workers: int = 1) -> subprocess.Popen[bytes]:
        """Start `interlock serve` on an empty store, with the champion answering everything."""
        self.empty_store()
        settings.write(self.home, {"scoring": {"port": 0, "workers": workers}, "store": STORE})
        self.places.endpoints.unlink(missing_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        own = {"INTERLOCK_HOME": str(self.home), "INTERLOCK_STORE_URL": self.valkey.url}
        with (self.places.run / "scorer.log").open("ab") as log:
            process = subprocess.Popen(
                guarded([sys.executable, "-m", "interlock.apps.cli.main", "serve"], signal.SIGTERM),
                env={**kept, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            until(lambda: self.client.status().workers == workers, "every worker serves")
            self.begin(self.arms[0])
        except Exception as error:
            end(process)
            raise ChildProcessError(f"{error}; the scorer's log ends: {self.log()}") from error
        return process

    def settle(self, arm: Arm, **more: Any) -> None:
        """Let one version answer everything."""
        self.client.load(SERVICE, arm.bundle, arm.folder)
        self.route((Arm("champion", arm.bundle, arm.folder, arm.version, ((0, BUCKETS),)),), **more)

    def begin(self, arm: Arm) -> None:
        """Settle in a new epoch, whatever was routed before; a retreat that is in force ends."""
        state = self.client.status().services.get(SERVICE)
        latch = state.latch if state else None
        self._epoch += 1
        self.settle(arm, clears=latch.id if latch else None)

    def route(self, arms: tuple[Arm, ...], **more: Any) -> None:
        """Install the next table."""
        self.generation += 1
        table = RouteTable(
            service=SERVICE, epoch=self._epoch, generation=self.generation, arms=arms, salt=self._salt, **more
        )
        self.client.install(table)

    def endpoint(self, name: str) -> tuple[str, int]:
        """A published address.

        Raises:
            LookupError: the scorer publishes none of that name.
        """
        found = settings.read_endpoints(self.home).get(name)
        if found is None:
            raise LookupError(f"interlock serve publishes no {name} endpoint")
        host, _, port = found.rpartition("://")[2].rpartition(":")
        return host, int(port)

    def log(self) -> str:
        """The end of what the scorer logged."""
        return (self.places.run / "scorer.log").read_text(errors="replace")[-2_000:]

    def stop(self) -> None:
        """End the store."""
        self.valkey.stop()


def end(process: subprocess.Popen[bytes], patience_s: float = 15.0) -> None:
    """SIGTERM, then SIGKILL to what was started in a session of its own or alone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    if process.poll() is None:
        process.kill()
        process.wait()
