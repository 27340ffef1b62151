"""The serving benchmark's harness with real processes: floors, failing servers, a constant rate."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from bench.serving.__main__ import generate
from bench.serving.tally import Job

pytestmark = pytest.mark.process
ROOT = Path(__file__).parent.parent.parent
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[tuple[str, int]]:
    """A server that gives the same reply to whatever arrives, and ends the connection when that is empty."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the generator leaves when its time is over
            while connection.recv(65_536):
                if not reply:
                    return
                connection.sendall(reply)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def job(address: tuple[str, int], **changes: Any) -> Job:
    base = Job(address, "tensors", "/v2/models/fraud/infer", "test-", connections=4, warm_s=0.1, measure_s=0.4)
    return Job(**{**asdict(base), **changes})


def test_a_constant_rate_sends_what_was_scheduled_and_no_more() -> None:
    with answering(GOOD) as address:
        found = generate(job(address, rate=200.0))
    assert (found["scheduled"], found["answered"], found["failed"]) == (80, 80, 0)


def test_a_status_other_than_200_fails() -> None:
    with answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}") as address:
        found = generate(job(address, rate=100.0))
    assert found["answered"] == 0
    assert found["failures"] == {"status 503": found["failed"]}


def test_an_answer_without_what_was_asked_for_fails() -> None:
    with answering(GOOD) as address:
        found = generate(job(address, must='"degraded":false'))
    assert found["requests"] == 0
    assert set(found["failures"]) == {"not the answer that was asked for"}


def test_a_connection_that_ends_before_the_reply_fails() -> None:
    with answering(b"") as address:
        found = generate(job(address, rate=50.0))
    assert found["answered"] == 0
    assert found["failures"] == {"connection lost": 25}


def test_what_is_never_answered_has_failed() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n") as address:
        found = generate(job(address, rate=50.0))
    assert found["failures"] == {"no reply": 25}


def test_the_floor_is_measured_and_a_contestant_that_cannot_start_has_a_row(tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "bench.serving",
        "--quick",
        "--only",
        "floor-own,floor-granian",
        "--out",
        str(tmp_path),
    ]
    environ = {**os.environ, "INTERLOCK_BENCH_PEERS": str(tmp_path / "nowhere")}
    done = subprocess.run(line, cwd=ROOT, env=environ, capture_output=True, check=False, timeout=110)
    found = json.loads((tmp_path / "serving.json").read_text())
    floor, missing = found["contestants"]["floor-own"], found["contestants"]["floor-granian"]
    assert floor["errors"] == 0
    assert floor["requests"] > 0
    assert floor["cpu_us"] > 0
    assert missing["rps"] is None
    assert "not installed" in missing["error"]
    assert done.returncode == 1
    assert b"floor-granian" in done.stderr
    assert {"serving.md", "serving.svg"} <= {path.name for path in tmp_path.iterdir()}
