"""One real scorer for failure tests: store, supervisor, workers, admitted bundles; no controller.

Real processes in a folder of their own, on free ports, ended by their ids at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.admitting import Office, admit
from tests.builders import tiny_bundle
from tests.failures.load import transaction

from interlock import settings
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.scorers.client import ScorerClient
from interlock.adapters.valkey.launcher import Valkey
from interlock.base.errors import InterlockError
from interlock.decision import segment
from interlock.decision.admin import Installed, ServiceState
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, Arm, RouteTable
from interlock.features.definition import FRAUD
from interlock.features.online import Base
from interlock.features.options import StoreOptions

LIMIT_S = 60.0
SALT = "ab" * 32
_T = TypeVar("_T")


def until(holds: Callable[[], _T], what: str, limit_s: float = LIMIT_S) -> _T:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(InterlockError, OSError, http.client.HTTPException):
            if found := holds():
                return found
        time.sleep(0.02)
    raise AssertionError(f"it did not happen that {what}")


class ScorerHome:
    """Use it through `scorer_home(folder)`."""

    def __init__(self, folder: Path, **scoring: Any) -> None:
        self.home = folder / "home"
        self.office = Office()
        self.valkey = Valkey()
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        options = {"port": 0, "workers": 2, "lag_s": 0.2, "drain_s": 0.5, "linger_s": 0.5, "report_ms": 50}
        store = {"budget_ms": 500, "hold_ms": 1_000}  # A busy machine must not answer degraded by chance.
        settings.write(self.home, {"scoring": options | scoring, "store": store})
        self.places = settings.load(self.home, {}).places
        self.client = ScorerClient(self.places.admin_socket)

    # --- processes ------------------------------------------------------------------------------

    def start_store(self) -> None:
        """Start an empty store with a declared base: without one every answer is degraded."""
        self.valkey.start(self.places.run)

        async def base() -> None:
            store = await RedisOnlineStore.connect(self.valkey.url, FRAUD, StoreOptions(budget_ms=1_000))
            await store.load([], Base.empty(FRAUD.set_hash))
            await store.close()

        asyncio.run(base())

    def serve(self) -> None:
        """Start `interlock serve` and wait until every worker serves."""
        self.places.run.mkdir(parents=True, exist_ok=True)
        settings.publish_endpoint(self.home, "scoring", None)
        self.process = self.launch()
        self.url = until(lambda: settings.read_endpoints(self.home).get("scoring"), "the scorer listens") or ""
        wanted = settings.load(self.home, {}).scoring.workers
        until(lambda: self.client.status().workers == wanted, "every worker serves")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start `interlock serve`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        own = {"INTERLOCK_HOME": str(self.home)}
        if settings.load(self.home, {}).scoring.mode != "tensors-only":
            own["INTERLOCK_STORE_URL"] = self.valkey.url
        with (self.places.run / "scorer.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "interlock.apps.cli.main", "serve"],
                env={**kept, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def terminate(self) -> int:
        """SIGTERM; the supervisor's exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def workers(self) -> list[int]:
        """Process ids of the scorer's workers."""
        assert self.process is not None
        folder = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = [int(pid) for pid in folder.read_text().split()]
        return [pid for pid in found if b"scorer.worker" in _command(pid)]

    def log(self) -> str:
        """What the scorer logged."""
        return (self.places.run / "scorer.log").read_text(errors="replace")

    def stop(self) -> None:
        """End everything."""
        if self.process is not None and self.process.poll() is None:
            stopped = self.workers()
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.valkey.stop()

    # --- releases -------------------------------------------------------------------------------

    def admitted(self, version: str, name: str = "champion", **bundle: Any) -> Arm:
        """An admitted bundle as an arm without traffic."""
        made = tiny_bundle(self.places.bundles, version=version, **bundle)
        return Arm(name, made.digest, admit(self.home, made, self.office), version)

    def load(self, arm: Arm, service: str = "fraud") -> None:
        """Load an arm's bundle in every worker."""
        self.client.load(service, arm.bundle, arm.folder)

    def route(self, *arms: Arm, generation: int = 1, epoch: int = 1, **more: Any) -> Installed:
        """Install a table."""
        more = {"service": "fraud", **more}
        table = RouteTable(epoch=epoch, generation=generation, arms=arms, salt=SALT, **more)
        return self.client.install(table)

    def settle(self, version: str = "1.0.0", service: str = "fraud", **more: Any) -> Arm:
        """Load a champion and let it answer everything."""
        arm = self.admitted(version, service=service)
        self.load(arm, service)
        whole = Arm(arm.name, arm.bundle, arm.folder, arm.version, ((0, BUCKETS),))
        self.route(whole, service=service, **more)
        until(self.ready, "the scorer is ready")
        return whole

    def split(self, champion: Arm, version: str = "1.1.0", share: int = 5_000, **more: Any) -> Arm:
        """Load a candidate and let it answer a share."""
        bundle = {key: more.pop(key) for key in ("trees", "seed") if key in more}
        candidate = self.admitted(version, "candidate", **{"seed": 3, **bundle})
        self.load(candidate)
        self.route(
            *weights(champion, candidate, share), **{"generation": 2, "lease_s": 120.0, "tau_ns": 200_000, **more}
        )
        return candidate

    def state(self) -> ServiceState:
        """The service as the supervisor sees it."""
        return self.client.status().services["fraud"]

    # --- requests -------------------------------------------------------------------------------

    def connection(self) -> http.client.HTTPConnection:
        """A new connection to the scorer."""
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=20)

    def ready(self) -> bool:
        """What the readiness probe says."""
        return get(self.connection(), "/v2/health/ready")[0] == 200

    def ask(self, names: Sequence[str], each_anew: bool = True) -> list[dict[str, Any]]:
        """Predictions for transactions of different cards, one request each, on new connections or one."""
        connection = self.connection()
        found = []
        for number, name in enumerate(names):
            if each_anew:
                connection = self.connection()
            status, body = predict(connection, [transaction(name, number)])
            assert status == 200, body
            found += json.loads(body)["predictions"]
        return found

    def versions(self, prefix: str, count: int) -> Counter[str]:
        """Which versions answered `count` new transactions."""
        names = [f"{prefix}-{number}" for number in range(count)]
        return Counter(each["model_version"] for each in self.ask(names))

    def recorded(self) -> Counter[str]:
        """Transaction ids in all segments, open or closed."""
        found: Counter[str] = Counter()
        for path in sorted(self.places.segments.iterdir()):
            if path.suffix in (segment.OPEN_SUFFIX, segment.CLOSED_SUFFIX) and not path.name.startswith("."):
                found.update(record.transaction_id for record in segment.read(path).records())
        return found


def predict(connection: http.client.HTTPConnection, instances: list[dict[str, Any]]) -> tuple[int, bytes]:
    """One predict request on a connection."""
    body = json.dumps({"instances": instances})
    connection.request("POST", "/v1/models/fraud:predict", body, {"content-type": "application/json"})
    reply = connection.getresponse()
    return reply.status, reply.read()


def get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    """One GET on a connection."""
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@contextlib.contextmanager
def scorer_home(folder: Path, **scoring: Any) -> Iterator[ScorerHome]:
    """A scorer that serves, without a release."""
    made = ScorerHome(folder, **scoring)
    try:
        made.start_store()
        made.serve()
        yield made
    except BaseException:
        print(made.log()[-6000:])
        raise
    finally:
        made.stop()
