"""Who is measured: how each is started, what it is sent, and which settings it runs with."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bench.serving import peers
from bench.serving.home import Home, end, until
from bench.serving.peers import ROOT

from interlock.base.guard import guarded

START_S = 150.0


@dataclass(frozen=True)
class Running:
    """A started contestant.

    Attributes:
        pids: its root processes.
        address: where it listens.
    """

    pids: list[int]
    address: tuple[str, int]


Start = Callable[[Home], "contextlib.AbstractContextManager[Running]"]


@dataclass(frozen=True)
class Contestant:
    """One row of the result.

    Attributes:
        name: in the result.
        start: starts it.
        kind: of request, from `payloads.KINDS`, or `grpc`.
        target: request target.
        settings: what a reader should know about how it ran.
        must: what each reply holds.
        knows: where its velocities come from, for the score expected of its first answer: `nothing` (an empty
            store), `history` (a filled one), `vector` (the request brings all), None for a floor.
        pipeline: requests under way on each connection.
        connections: how many.
    """

    name: str
    start: Start
    kind: str
    target: str
    settings: str
    must: str = ""
    knows: str | None = None
    pipeline: int = 1
    connections: int = 64


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def command(home: Home, name: str, line: list[str], port: int) -> Iterator[Running]:
    """A server process that listens on `port` once it is ready."""
    path = home.folder / f"{name}.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "VIRTUAL_ENV"))}
    environ["OMP_NUM_THREADS"] = (
        "1"  # one core a worker: two threads spinning on one row cost the peers several times more
    )
    with path.open("wb") as log:
        process = subprocess.Popen(
            guarded(line, signal.SIGTERM),
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: process.poll() is not None or _listens(port), f"{name} listens", START_S)
        if process.poll() is not None:
            raise ChildProcessError(f"{name} ended at once: {path.read_text(errors='replace')[-1_500:]}")
        yield Running([process.pid], ("127.0.0.1", port))
    finally:
        end(process)


def floor(which: str) -> Start:
    """An empty server in our own environment."""

    def start(home: Home) -> contextlib.AbstractContextManager[Running]:
        port = free_port()
        return command(home, f"floor-{which}", [sys.executable, "-m", "bench.serving.floors", which, str(port)], port)

    return start


def python_of(environment: str) -> str:
    """The interpreter of one of the peers' environments."""
    found = peers.python(environment)
    if not found.exists():
        raise FileNotFoundError(f"the environment {environment} is not installed: see `environments` in the result")
    return str(found)


def peer(environment: str, module: str, *arguments: str) -> Start:
    """A server in one of the peers' environments: `python -m bench.peers.<module> PORT FOLDER …`."""

    def start(home: Home) -> contextlib.AbstractContextManager[Running]:
        port = free_port()
        line = [python_of(environment), "-m", f"bench.peers.{module}", str(port), str(home.folder), *arguments]
        return command(home, module, line, port)

    return start


@contextlib.contextmanager
def interlock(home: Home, endpoint: str = "scoring", workers: int = 1) -> Iterator[Running]:
    """`interlock serve`."""
    process = home.serve(workers)
    try:
        yield Running([process.pid], home.endpoint(endpoint))
    finally:
        end(process)


def feast(runtime: str) -> Start:
    """KServe's SDK with features from Feast, whose online store is filled first."""

    def start(home: Home) -> contextlib.AbstractContextManager[Running]:
        socket_path = str(home.places.run / "valkey.sock")
        if home.filled != "feast":
            home.empty_store()
            line = [python_of("kserve"), "-m", "bench.peers.feast_store", str(home.folder), socket_path]
            done = subprocess.run(line, cwd=ROOT, capture_output=True, timeout=180, check=False)
            if done.returncode:
                raise ChildProcessError(f"Feast could not be filled: {done.stderr.decode(errors='replace')[-1_500:]}")
            home.filled = "feast"
        return peer("kserve", "kserve_server", "feast", runtime, socket_path)(home)

    return start


_PREDICT = "/v1/models/fraud:predict"
_INFER = "/v2/models/fraud/infer"
_PEER = "; OMP_NUM_THREADS=1"
_OURS = "interlock serve, scoring.workers=1, store.budget_ms=30, all else default; Valkey on its unix socket"

ALL = (
    Contestant(
        "floor-own",
        floor("own"),
        "transactions",
        _PREDICT,
        "our HTTP protocol (httptools, uvloop), a handler that answers a constant",
    ),
    Contestant(
        "floor-granian",
        peer("kserve", "floor_granian"),
        "transactions",
        _PREDICT,
        "granian RSGI, workers=1, its defaults, no access log; a constant answer, the body is not read",
    ),
    Contestant(
        "floor-uvicorn",
        floor("uvicorn"),
        "transactions",
        _PREDICT,
        "uvicorn with httptools and uvloop, no access log; an ASGI constant answer, the body is not read",
    ),
    Contestant("interlock-full", interlock, "transactions", _PREDICT, _OURS, '"degraded":false', "nothing"),
    Contestant(
        "interlock-full-pipelined",
        interlock,
        "transactions",
        _PREDICT,
        _OURS + "; the client pipelines 16 requests on each connection",
        '"degraded":false',
        "nothing",
        16,
    ),
    Contestant("interlock-tensor", interlock, "tensors", _INFER, _OURS + "; V2 JSON [1,61]", '"score"', "vector"),
    Contestant(
        "interlock-tensor-binary", interlock, "binary", _INFER, _OURS + "; V2 binary [1,61]", '"score"', "vector"
    ),
    Contestant(
        "interlock-grpc",
        partial(interlock, endpoint="grpc"),
        "grpc",
        "",
        _OURS + "; gRPC ModelInfer with raw contents [1,61], 8 connections of 8 streams",
        "score",
        "vector",
        8,
        8,
    ),
    Contestant(
        "kserve-feast",
        feast("xgboost"),
        "transactions",
        _PREDICT,
        "KServe SDK ModelServer, workers=1, its defaults; look-up by Feast SDK (one feature service, four views, "
        "redis-py on the same Valkey's unix socket) and XGBoost inplace_predict in one process, V1 JSON" + _PEER,
        '"score"',
        "history",
    ),
    Contestant(
        "kserve-feast-onnx",
        feast("onnx"),
        "transactions",
        _PREDICT,
        "as kserve-feast, the model in ONNX Runtime" + _PEER,
        '"score"',
        "history",
    ),
    Contestant(
        "kserve",
        peer("kserve", "kserve_server", "tensors", "xgboost"),
        "tensors",
        _INFER,
        "KServe SDK ModelServer, workers=1, its defaults; XGBoost inplace_predict; V2 JSON [1,61]" + _PEER,
        '"score"',
        "vector",
    ),
    Contestant(
        "kserve-onnx",
        peer("kserve", "kserve_server", "tensors", "onnx"),
        "tensors",
        _INFER,
        "as kserve, the model in ONNX Runtime" + _PEER,
        '"score"',
        "vector",
    ),
    Contestant(
        "mlserver",
        peer("mlserver", "mlserver_server", "1"),
        "tensors",
        _INFER,
        "mlserver start, mlserver-xgboost, parallel_workers=1 (its default), debug=false; V2 JSON [1,61]" + _PEER,
        '"predict"',
        "vector",
    ),
    Contestant(
        "mlserver-inline",
        peer("mlserver", "mlserver_server", "0"),
        "tensors",
        _INFER,
        "as mlserver, parallel_workers=0" + _PEER,
        '"predict"',
        "vector",
    ),
    Contestant(
        "fastapi-xgboost",
        peer("kserve", "fastapi_server", "xgboost"),
        "rows",
        "/predict",
        "FastAPI with pydantic models, uvicorn[standard], one worker, no access log; XGBoost inplace_predict" + _PEER,
        '"predictions"',
        "vector",
    ),
    Contestant(
        "fastapi-onnx",
        peer("kserve", "fastapi_server", "onnx"),
        "rows",
        "/predict",
        "as fastapi-xgboost, the model in ONNX Runtime" + _PEER,
        '"predictions"',
        "vector",
    ),
)
