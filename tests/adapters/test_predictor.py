"""Another server's model as a runtime: what is asked once, what is believed, and what is an error."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from interlock.adapters.kserve.predictor import HEADER_LENGTH, PredictorRuntime
from interlock.base.errors import IntegrityError, InterlockError, UnreachableError, UsageError

pytestmark = pytest.mark.process  # a real HTTP server at the other end

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
SUMS = ROWS.sum(axis=1)


def binary(*outputs: tuple[str, str, list[int], bytes], **more: Any) -> tuple[bytes, int]:
    listed = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
        for name, kind, shape, raw in outputs
    ]
    head = json.dumps({"model_name": "fraud", "outputs": listed} | more).encode()
    return head + b"".join(raw for _, _, _, raw in outputs), len(head)


class Server:
    """Answers `/v2/models/fraud` and what is below it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        """Paths, with the client's port: the connection."""
        self.answer: Callable[[np.ndarray], tuple[bytes, int | None]] = lambda rows: binary(
            ("label", "BYTES", [3], b"\1\0\0\0a" * 3), ("probability", "FP32", [3, 1], rows.sum(axis=1).tobytes())
        )
        self.status = 200
        self.breaks = False
        self.closes = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.path, self.client_address[1]))
                self.say(json.dumps({"name": "fraud", "inputs": [{"name": "x"}]}).encode(), None)

            def do_POST(self) -> None:
                outer.asked.append((self.path, self.client_address[1]))
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.breaks:
                    self.close_connection = True
                    return
                length = int(self.headers[HEADER_LENGTH])
                (tensor,) = json.loads(body[:length])["inputs"]
                assert (tensor["name"], tensor["datatype"]) == ("x", "FP32")
                self.say(*outer.answer(np.frombuffer(body[length:], "<f4").reshape(tensor["shape"])))
                self.close_connection = outer.closes

            def say(self, body: bytes, length: int | None) -> None:
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                if length is not None:
                    self.send_header(HEADER_LENGTH, str(length))
                self.end_headers()
                with contextlib.suppress(OSError):  # whoever had enough of it
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def runtime(self, **more: Any) -> PredictorRuntime:
        given = {"model": "fraud", "version": "", "output": "probability", "timeout_s": 5.0, **more}
        return PredictorRuntime(f"http://127.0.0.1:{self.http.server_port}/", **given)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_scores_come_over_one_connection_a_thread(server: Server) -> None:
    runtime = server.runtime()
    for _ in range(3):
        scores = runtime.run(ROWS)
        assert (scores.dtype, scores.tolist()) == (np.float32, SUMS.tolist())
    thread = threading.Thread(target=runtime.run, args=(ROWS,))
    thread.start()
    thread.join(10)
    assert [path for path, _ in server.asked] == ["/v2/models/fraud", *["/v2/models/fraud/infer"] * 4]
    assert len({port for _, port in server.asked}) == 2


def test_a_version_is_part_of_the_path(server: Server) -> None:
    server.runtime(version="1.0.0").run(ROWS)
    assert server.asked[-1][0] == "/v2/models/fraud/versions/1.0.0/infer"


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: binary(("probability", "FP64", [3], rows.sum(axis=1).astype("<f8").tobytes())),
        lambda rows: binary(("score", "FP32", [3], rows.sum(axis=1).tobytes()), ("other", "FP32", [1], b"\0" * 4)),
        lambda rows: binary(("anything", "FP32", [3, 1], rows.sum(axis=1).tobytes())),
        lambda rows: (
            json.dumps(
                {"outputs": [{"name": "probability", "datatype": "FP32", "shape": [3, 2], "data": [0, 1, 0, 5, 0, 9]}]}
            ).encode(),
            None,
        ),
    ],
)
def test_the_score_is_found_however_it_is_framed(server: Server, answer: Any) -> None:
    server.answer = answer
    assert server.runtime().run(ROWS).tolist() == SUMS.tolist()


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: (b"{", None),
        lambda rows: (b"[]", None),
        lambda rows: (b'{"outputs": 7}', None),
        lambda rows: (b'{"outputs": []}', None),
        lambda rows: (b'{"outputs": [{"name": "score", "datatype": "FP32", "shape": [2], "data": [1, 2]}]}', None),
        lambda rows: (b'{"outputs": [{"name": "score", "datatype": "FP32", "shape": [3], "data": ["a"]}]}', None),
        lambda rows: binary(("a", "FP32", [3], b"\0" * 12), ("b", "FP32", [3], b"\0" * 12)),
        lambda rows: binary(("probability", "FP32", [3], b"\0" * 8)),
        lambda rows: (binary(("probability", "FP32", [3], b"\0" * 12))[0][:-1], 90),
        lambda rows: (b" " * (4 * 1_048_576 + 1), None),
    ],
)
def test_what_is_no_response_with_a_score_per_row_is_an_error(server: Server, answer: Any) -> None:
    server.answer = answer
    with pytest.raises(IntegrityError):
        server.runtime().run(ROWS)


def test_an_error_of_the_predictor_is_one_and_does_not_repeat_it(server: Server) -> None:
    runtime = server.runtime()
    runtime.run(ROWS)
    server.status = 503
    with pytest.raises(UnreachableError, match="503") as caught:
        runtime.run(ROWS)
    assert "outputs" not in str(caught.value)


def test_a_request_that_breaks_under_way_is_not_sent_again(server: Server) -> None:
    runtime = server.runtime()
    runtime.run(ROWS)
    server.breaks = True
    before = len(server.asked)
    with pytest.raises(UnreachableError):
        runtime.run(ROWS)
    assert len(server.asked) == before + 1
    server.breaks = False
    assert runtime.run(ROWS).tolist() == SUMS.tolist()


def test_a_connection_that_the_predictor_closed_is_opened_anew_before_anything_is_sent(server: Server) -> None:
    runtime = server.runtime()
    server.closes = True  # without saying so
    for _ in range(3):
        runtime.run(ROWS)
        kept = runtime._mine.connection.sock
        assert kept.recv(1, socket.MSG_PEEK) == b"", "its end has arrived"
    assert len({port for path, port in server.asked if path.endswith("infer")}) == 3


def test_a_predictor_that_is_not_there_or_says_nothing_is_unreachable(server: Server) -> None:
    goes_on = threading.Event()
    server.answer = lambda rows: (goes_on.wait(10) and b"", None)  # type: ignore[return-value]
    with pytest.raises(UnreachableError, match="TimeoutError"):
        server.runtime(timeout_s=0.1).run(ROWS)
    goes_on.set()
    with pytest.raises(UnreachableError):
        PredictorRuntime("http://127.0.0.1:9", "fraud", "", "score", 1.0).run(ROWS)


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:9", "ftp://host", "http://", "http://host?x=1", "http://host:port", "http://[", "http://host#x"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        PredictorRuntime(url, "fraud", "", "score", 1.0)
    assert isinstance(caught.value, InterlockError)
