"""A real scorer for tests: supervisor, workers, embedded store, admitted bundles, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.admitting import Office, admit, folder_of
from tests.builders import tiny_bundle

from interlock import settings
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.scorers.client import ScorerClient
from interlock.adapters.valkey.launcher import Valkey
from interlock.base.errors import UnreachableError
from interlock.decision import segment
from interlock.decision.admin import Observed
from interlock.decision.record import DecisionRecord
from interlock.decision.split import weights
from interlock.decision.table import BUCKETS, CANDIDATE, CHAMPION, Arm, RouteTable
from interlock.features.definition import FRAUD
from interlock.features.online import Base
from interlock.features.options import StoreOptions
from interlock.registry.bundle import Bundle

SALT = "5a" * 16
PREDICT = "/v1/models/fraud:predict"
LIMIT_S = 60.0
SCORING = {"port": 0, "workers": 2, "lag_s": 0.3, "drain_s": 1.0, "silence_s": 5.0, "report_ms": 100}


def card(number: int) -> str:
    """A Luhn-valid number of a test range."""
    body = f"411111{number:09d}"
    total = sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(body, start=1))
    return body + str(-total % 10)


def transaction(name: str, number: int = 1, **changes: Any) -> dict[str, Any]:
    """One transaction of a card; a change to None leaves the field out."""
    whole = {
        "transaction_id": name,
        "pan": card(number),
        "amount": 1_000 + number,
        "currency": "EUR",
        "terminal_id": f"t{number % 50}",
        "device_id": f"d{number}",
        "ip": f"10.0.{number // 250 % 250}.{number % 250}",
        "mcc": "5411",
        "country": "NL",
        "event_time": "2026-11-24T09:00:00Z",
    } | changes
    return {key: value for key, value in whole.items() if value is not None}


def body_of(*transactions: Mapping[str, Any]) -> bytes:
    """A predict request's body."""
    return json.dumps({"instances": transactions}).encode()


class Scorer:
    """Use it through `scorer(folder)`; bundles are admitted by three real people."""

    def __init__(self, folder: Path, **scoring: Any) -> None:
        self.home = folder / "home"
        store = {"budget_ms": 500}  # a busy machine must not answer degraded by chance
        settings.write(self.home, {"scoring": SCORING | scoring, "store": store})
        self.valkey = Valkey()
        self.office = Office()
        self.process: subprocess.Popen[bytes] | None = None
        self._generation = 0

    @property
    def settings(self) -> settings.Settings:
        """As the processes read them."""
        return settings.load(self.home, {})

    @property
    def client(self) -> ScorerClient:
        """The admin socket."""
        return ScorerClient(self.settings.places.admin_socket)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the scoring listener."""
        host, _, port = settings.read_endpoints(self.home)["scoring"].removeprefix("http://").rpartition(":")
        return host, int(port)

    def start(self) -> None:
        """Start the supervisor and wait until all workers take requests."""
        if not self.valkey.alive():
            self.valkey.start(self.settings.places.run)
            asyncio.run(warm(self.valkey.url))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        environ |= {"INTERLOCK_HOME": str(self.home), "INTERLOCK_STORE_URL": self.valkey.url}
        with (self.settings.places.run / "scorer.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "interlock.apps.cli.main", "serve"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.until(lambda: self.status().workers == self.settings.scoring.workers, "all workers are up")

    def status(self) -> Observed:
        """The fleet's state; nobody at all while the socket is not there."""
        try:
            return self.client.status()
        except UnreachableError:
            return Observed(0, {})

    def bundle(self, version: str = "1.0.0", **options: Any) -> Bundle:
        """A small bundle, approved and admitted."""
        made = tiny_bundle(self.settings.places.bundles, version=version, **options)
        admit(self.home, made, self.office)
        return made

    def load(self, bundle: Bundle) -> None:
        """Try it and load it in every worker."""
        self.client.load("fraud", bundle.digest, folder_of(bundle))

    def table(self, champion: Bundle, candidate: Bundle | None = None, share: int = 0, **options: Any) -> RouteTable:
        """The next table: settled on the champion, or split with a candidate."""
        self._generation += 1
        arms: tuple[Arm, ...] = (arm(CHAMPION, champion, ((0, BUCKETS),)),)
        if candidate is not None:
            arms = weights(arm(CHAMPION, champion), arm(CANDIDATE, candidate), share)
            options = {"lease_s": 60.0} | options
        whole = {"epoch": 1, "generation": self._generation, "salt": SALT} | options
        return RouteTable(service="fraud", arms=arms, **whole)

    def serve(self, champion: Bundle | None = None) -> Bundle:
        """Start, load a champion and give it all traffic."""
        self.start()
        champion = champion or self.bundle()
        self.load(champion)
        self.client.install(self.table(champion))
        self.until(lambda: self.get("/v2/health/ready")[0] == 200, "it is ready")
        return champion

    def get(self, path: str) -> tuple[int, bytes]:
        """One GET on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def predict(self, *transactions: Mapping[str, Any]) -> tuple[int, bytes]:
        """One predict request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("POST", PREDICT, body_of(*transactions), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def answer(self, *transactions: Mapping[str, Any]) -> dict[str, Any]:
        """The first prediction of a request that must succeed."""
        status, body = self.predict(*transactions)
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)["predictions"][0]
        return found

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        assert self.process is not None
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                command = (path.parent / "cmdline").read_bytes()
                if int(fields[1]) == self.process.pid and b"interlock.apps.scorer.worker" in command:
                    found.append(int(path.parent.name))
        return sorted(found)

    def records(self) -> list[DecisionRecord]:
        """Every decision on the disk, sealed or not."""
        folder = self.settings.places.segments
        found: dict[str, list[DecisionRecord]] = {}
        while True:
            try:
                for path in sorted(path for path in folder.glob("[!.]*") if path.suffix in (".open", ".seg")):
                    found[segment.name_of(path)] = list(segment.read(path).records())
            except FileNotFoundError:
                continue  # closed under another name meanwhile
            return [record for records in found.values() for record in records]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds; a scorer that ends fails at once."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError, KeyError, http.client.HTTPException):
                found = holds()
                if found:
                    return found
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the scorer ended:\n{self.log()}")
            time.sleep(0.05)
        raise AssertionError(f"it did not happen that {what}:\n{self.log()}")

    def log(self) -> str:
        """The end of the processes' output."""
        path = self.settings.places.run / "scorer.log"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End the supervisor; its exit code."""
        if self.process is None:
            return None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def close(self) -> None:
        """End everything."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
            self.valkey.stop()


@contextlib.contextmanager
def scorer(folder: Path, **scoring: Any) -> Iterator[Scorer]:
    """A scorer that is not started yet; it ends with the block."""
    made = Scorer(folder, **scoring)
    try:
        yield made
    finally:
        made.close()


def arm(name: str, bundle: Bundle, ranges: tuple[tuple[int, int], ...] = ()) -> Arm:
    """An arm of that bundle."""
    return Arm(name, bundle.digest, folder_of(bundle), bundle.manifest["version"], ranges)


async def warm(url: str) -> None:
    """An empty store with a base: without one every answer would be degraded."""
    store = await RedisOnlineStore.connect(url, FRAUD, StoreOptions())
    await store.load([], Base.empty(FRAUD.set_hash))
    await store.close()


class Traffic:
    """Steady requests from a few keep-alive connections; nothing is retried, every failure is kept.

    `answered` maps transaction ids to reply bodies; `failed` lists (transaction id, why). A connection
    that the server closed with `Connection: close` is opened again, as any client does.
    """

    def __init__(self, address: tuple[str, int], rate: float = 200.0, threads: int = 4, prefix: str = "tx") -> None:
        self._address = address
        self._pause_s = threads / rate
        self._prefix = prefix
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in range(threads)]
        self.answered: dict[str, dict[str, Any]] = {}
        self.failed: list[tuple[str, str]] = []
        self.refused = 0
        self.slowest_s = 0.0

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def flows(self, more: int = 50) -> None:
        """Wait until `more` further requests were answered."""
        goal, end = len(self.answered) + more, time.monotonic() + LIMIT_S
        while len(self.answered) < goal:
            assert time.monotonic() < end, f"no traffic: {self.failed[-3:]}"
            time.sleep(0.02)

    def _run(self, lane: int) -> None:
        connection: http.client.HTTPConnection | None = None
        due, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due, number = due + self._pause_s, number + 1
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=10)
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    self.refused += 1
                    connection = None
                    continue
            connection = self._one(connection, f"{self._prefix}-{lane}-{number}", lane * 1_000 + number % 1_000)

    def _one(self, connection: http.client.HTTPConnection, name: str, number: int) -> http.client.HTTPConnection | None:
        started = time.monotonic()
        try:
            connection.request("POST", PREDICT, body_of(transaction(name, number)))
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append((name, type(error).__name__))
            connection.close()
            return None
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        if reply.status != 200:
            self.failed.append((name, f"{reply.status} {data[:120]!r}"))
        else:
            self.answered[name] = json.loads(data)["predictions"][0]
        if reply.will_close:
            connection.close()
            return None
        return connection
