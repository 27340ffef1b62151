"""A home of admitted versions, and one worker that loads them on demand, without a supervisor."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tests.builders import tiny_files
from tests.serving.one_worker import FOLDER, OneWorker

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.apps.scorer.desk import Desk
from interlock.apps.scorer.ports import Caller
from interlock.base.canonical import digest_hex, digest_of
from interlock.base.clock import EdgeClock, ManualClock, SystemClock
from interlock.base.errors import InterlockError, RefusedError
from interlock.base.ids import SeededIds
from interlock.features.definition import FRAUD
from interlock.privacy.token import Tokeniser
from interlock.registry import bundle as bundles
from interlock.serving.call import Unanswered
from interlock.serving.catalogue import Admitted, Catalogue
from interlock.serving.ondemand import OnDemand, Ordered
from interlock.serving.repository import Repository
from interlock.serving.wire import oip

VECTOR = np.zeros(FRAUD.width, np.float32)
OPERATOR = Caller("olga", frozenset({"operate"}))


@functools.cache
def _files(version: str, seed: int) -> dict[str, bytes]:
    return tiny_files(version=version, seed=seed)


class VersionsHome:
    """Its folder, and everything between a desk and the disk; it is the desk's house too."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.worker = OneWorker(**options)
        self.pipelines = {"fraud": self.worker.pipeline}
        self.catalogue = Catalogue(folder / "bundles", folder / "admissions", self.worker.wall)
        self.withdrawn = False
        self.loads: list[str] = []
        """Versions whose admission was verified, which every load begins with."""
        self.orders: list[str] = []
        """Versions that all workers were to load."""
        self.may_load = threading.Event()
        self.may_load.set()
        admissions = folder / "admissions"
        # A clock that stands still: warm by the second look.
        still = ManualClock()
        self.repository = Repository(folder / "bundles", admissions, self._verify, OnnxRuntime.from_bytes, still)
        around = self.worker.pipeline._around
        self.loaders = ThreadPoolExecutor(2)
        self.ondemand: OnDemand | None = OnDemand(self.repository, self.catalogue, around, self.loaders, self._order)
        clock = SystemClock()
        edge = (Tokeniser(b"k" * 32), FRAUD)
        self.desk = Desk(self, edge, clock, EdgeClock(clock), SeededIds(7), self.worker.options)
        self.tasks: set[asyncio.Task[None]] = set()

    def admitted(self, version: str, seed: int = 0) -> str:
        """An admitted bundle's digest; an admission is judged by `withdrawn` alone."""
        files = _files(version, seed)
        index = bundles.index_of(files)
        digest = digest_of(index)
        folder = self.folder / "bundles" / digest_hex(digest)
        folder.mkdir(parents=True)
        for name, data in {**files, bundles.INDEX: index}.items():  # nothing here need survive a crash
            (folder / name).write_bytes(data)
        path = self.folder / "admissions" / digest_hex(digest) / f"{digest_hex(FOLDER)}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(version.encode())
        return digest

    def ready(self) -> bool:
        """Always."""
        return True

    def metrics(self, give: Any) -> None:
        """None."""

    def _verify(self, data: bytes, service: str, bundle: str, folder: str) -> None:
        self.may_load.wait(10)
        self.loads.append(data.decode())
        if self.withdrawn:
            raise RefusedError("withdrawn", "ask again")

    def _order(self, admitted: Admitted, ordered: Ordered, drop: bool) -> None:
        assert self.ondemand is not None
        if drop:
            self.ondemand.drop(admitted.service, admitted.version)
            ordered(None)
            return
        self.orders.append(admitted.version)
        task = asyncio.get_running_loop().create_task(self._carry(admitted, ordered))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _carry(self, admitted: Admitted, ordered: Ordered) -> None:
        assert self.ondemand is not None
        try:
            await self.ondemand.load(admitted)
        except InterlockError as error:
            ordered(error)
        else:
            ordered(None)

    async def close(self) -> None:
        """End everything."""
        assert self.ondemand is not None
        await self.ondemand.idle()
        for name, version in [(each.service, each.version) for each, _, _ in self.ondemand.admitted()]:
            self.ondemand.drop(name, version)
        await self.worker.pipeline.idle()
        self.loaders.shutdown()
        self.worker.close()

    # --- requests -------------------------------------------------------------------------------

    def ask(self, version: str, rows: int = 1, service: str = "fraud") -> asyncio.Future[Any]:
        """Tensors for a version; the future gives the response or what was raised or answered instead."""
        data = np.tile(VECTOR, rows)
        tensor = oip.Tensor("vectors", "FP32", (rows, FRAUD.width), data)
        return self.send(oip.InferRequest(service, version, "r-1", {}, (tensor,)))

    def send(self, request: oip.InferRequest) -> asyncio.Future[Any]:
        """Any request."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self.desk.infer(request, Caller("carla"), future.set_result)
        except Unanswered as why:
            future.set_result(why)
        return future

    async def status(self, version: str, service: str = "fraud") -> int:
        """200, or the status of what came instead of a response."""
        outcome = await asyncio.wait_for(self.ask(version, service=service), 20)
        return outcome.status if isinstance(outcome, Unanswered) else 200

    def states(self) -> dict[str, str]:
        """The index: version to state."""
        return {each["version"]: each["state"] for each in self.desk.repository_index()}

    async def change(self, verb: str, version: str) -> int:
        """Load or unload a version as an operator; 200 or the status of the refusal."""
        future: asyncio.Future[Unanswered | None] = asyncio.get_running_loop().create_future()
        change = self.desk.repository_load if verb == "load" else self.desk.repository_unload
        try:
            change("fraud", OPERATOR, future.set_result, version)
            outcome = await asyncio.wait_for(future, 20)
        except Unanswered as why:
            outcome = why
        return 200 if outcome is None else outcome.status
