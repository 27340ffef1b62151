"""The gRPC door on a real loop and socket, in a thread or a process of its own, before a small scoring.

What the small scoring answers goes by the model's name: `fraud` scores three features and `echo`
returns its inputs; `held` waits for `release`; `busy`, `broken`, `gone` and `wide` fail or answer at
length. Everything it was asked is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import uvloop

from interlock.apps.scorer.calls import Call
from interlock.apps.scorer.grpc import GrpcDoor
from interlock.apps.scorer.ports import Caller, Changed, Finished
from interlock.apps.scorer.tls import GRPC, tls_context
from interlock.base.clock import SystemClock
from interlock.serving.call import Unanswered
from interlock.serving.options import ServingOptions
from interlock.serving.wire import grpc as wire
from interlock.serving.wire import oip
from interlock.serving.wire.grpc import Code

FEATURES = ("a", "b", "c")
CARD = "4111111111111111"
VECTOR = np.array([[1.5, 2.0, 3.0]], np.float32)
OPTIONS = ServingOptions(body_timeout_s=0.6, idle_timeout_s=60.0, linger_s=1.0, max_body_bytes=100_000)


class SmallScoring:
    """Implements `ports.Scoring`."""

    def __init__(self) -> None:
        self.asked: list[tuple[oip.InferRequest, Caller]] = []
        self.held: list[tuple[oip.InferRequest, Finished]] = []
        self.changes: list[tuple[str, str]] = []
        self.is_ready = True
        self.arrived = threading.Semaphore(0)

    def infer(self, request: oip.InferRequest, caller: Caller, done: Finished) -> None:
        """See the module."""
        self.asked.append((request, caller))
        if request.model == "held":
            oip.vectors(request, FEATURES, 8)  # what is wrong is refused at once, as everywhere
            self.held.append((request, done))
        elif request.model == "busy":
            raise Unanswered(429, f"too many for {CARD}", 2)
        elif request.model == "gone":
            done(Unanswered(503, "not now", 0))
        elif request.model == "broken":
            raise RuntimeError(f"no sense in {CARD}")
        elif request.model == "wide":
            data = np.arange(request.inputs[0].shape[0] * 10_000, dtype=np.float32)
            done(oip.InferResponse("wide", "1", request.id, {}, (oip.Tensor("score", "FP32", data.shape, data),)))
        elif request.model == "echo":
            parameters = {**request.parameters, "more": 1.5}
            done(oip.InferResponse("echo", "1", request.id, parameters, request.inputs))
        else:
            self.score(request, done)
        self.arrived.release()

    def score(self, request: oip.InferRequest, done: Finished) -> None:
        """Twice the first feature."""
        self._know(request.model)
        oip.check_outputs(request, False)
        vectors = oip.vectors(request, FEATURES, 8)
        done(oip.scores(request, "7", vectors[:, 0] * 2, ["APPROVE"] * len(vectors)))

    def release(self) -> None:
        """Answer what is held, as any request; call it on the loop."""
        for request, done in self.held:
            self.score(oip.InferRequest("fraud", "", request.id, {}, request.inputs), done)
        self.held.clear()

    def services(self) -> Sequence[str]:
        """One."""
        return ["fraud"]

    def versions(self, service: str) -> Sequence[str]:
        """One."""
        self._know(service)
        return ["7"]

    def describe(self, service: str, version: str) -> dict[str, Any]:
        """Of three features."""
        self._know(service)
        return oip.model_metadata(service, self.versions(service), FEATURES, len(FEATURES))

    def ready(self) -> bool:
        """As told."""
        return self.is_ready

    def model_ready(self, service: str, version: str) -> bool:
        """As told."""
        self._know(service)
        return self.is_ready

    def repository_index(self) -> Sequence[dict[str, str]]:
        """One that answers, one that does not."""
        return [
            {"name": "fraud", "version": "7", "state": "READY", "reason": ""},
            {"name": "old", "version": "1", "state": "UNAVAILABLE", "reason": "no admission"},
        ]

    def repository_load(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """Remembered, with the version if one is named."""
        self._change(f"load {version}".strip(), service, caller, done)

    def repository_unload(self, service: str, caller: Caller, done: Changed, version: str = "") -> None:
        """Remembered, with the version if one is named."""
        self._change(f"unload {version}".strip(), service, caller, done)

    def _change(self, verb: str, service: str, caller: Caller, done: Changed) -> None:
        if "operate" not in caller.roles:
            raise Unanswered(403, "role operate is needed", 0)
        self.changes.append((verb, service))
        done(None if service == "fraud" else Unanswered(404, "no such model", 0))

    def _know(self, service: str) -> None:
        if service != "fraud":
            raise Unanswered(404, "no such model", 0)


def identify(metadata: Mapping[str, str], certificate: Mapping[str, Any] | None) -> Caller:
    """By the certificate's names, or by a word in `authorization`."""
    if certificate is not None:
        return Caller(certificate["subjectAltName"][0][1])
    word = metadata.get("authorization", "")
    if word == "Bearer stranger":
        raise Unanswered(401, "the key is not known", 0)
    if word == "Bearer reader":
        raise Unanswered(403, "role score is needed", 0)
    return Caller(word or "anonymous", frozenset({"score", "operate"} if word else {"score"}))


def vector(rows: int = 1) -> triton.InferInput:
    """The model's own input."""
    made = triton.InferInput("vectors", [rows, 3], "FP32")
    made.set_data_from_numpy(np.repeat(VECTOR, rows, axis=0))
    return made


def body(model: str = "fraud", **fields: Any) -> bytes:
    """A framed request."""
    inputs = [{"name": "vectors", "datatype": "FP32", "shape": [1, 3]}]
    whole = {"model_name": model, "inputs": inputs, "raw_input_contents": [VECTOR.tobytes()]} | fields
    return wire.framed(wire.INFERENCE.messages["ModelInferRequest"](**whole).SerializeToString())


def listening() -> socket.socket:
    """A listener on a free port of this machine alone."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    return listener


class Service:
    """A door in a thread, through `serving()`."""

    def __init__(self, listener: socket.socket, options: ServingOptions) -> None:
        self.scoring = SmallScoring()
        self.noted: list[tuple[str, str, Code]] = []
        self.port = int(listener.getsockname()[1])
        self.loop = uvloop.new_event_loop()
        self.door: GrpcDoor
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(listener, options), self.loop).result(10)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def _start(self, listener: socket.socket, options: ServingOptions) -> None:
        self.door = GrpcDoor(self.scoring, identify, options, SystemClock(), self._note)
        context = tls_context(options, Path(), GRPC)
        await self.door.start(listener, lambda: context)

    def _note(self, call: Call, code: Code) -> None:
        self.noted.append((call.path.rpartition("/")[2], call.label, code))

    def release(self) -> None:
        """Answer what is held; it has been when this returns."""

        async def work() -> None:
            self.scoring.release()

        asyncio.run_coroutine_threadsafe(work(), self.loop).result(10)

    def stopping(self, drain_s: float = 5.0) -> Any:
        """Begin to stop; `.result()` waits for the end."""
        return asyncio.run_coroutine_threadsafe(self.door.stop(drain_s), self.loop)

    def end(self) -> None:
        """Stop the loop."""
        with contextlib.suppress(Exception):
            self.stopping(0.0).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextlib.contextmanager
def serving(listener: socket.socket | None = None, options: ServingOptions = OPTIONS) -> Iterator[Service]:
    """A door that serves until the block ends."""
    service = Service(listener or listening(), options)
    try:
        yield service
    finally:
        service.end()


async def _worker(descriptor: int) -> None:
    listener = socket.socket(fileno=descriptor)
    listener.setblocking(False)
    door = GrpcDoor(SmallScoring(), identify, OPTIONS, SystemClock())
    await door.start(listener)
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    os.write(1, b"ready\n")
    await leave.wait()
    await door.stop(5.0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(_worker(int(sys.argv[1])))
