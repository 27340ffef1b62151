"""A small OTLP collector in this process: takes spans over HTTP, or does not, as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """What it was sent; `status`, `answer` and `held` say how it answers.

    Attributes:
        url: `http://127.0.0.1:<port>`.
        requests: (path, content type, spans) of each export.
        spans: those that it took, as they came, with what their resource says under `resource`.
        asked: set when an export has come.
        held: an export waits for it before it is answered.
    """

    def __init__(self) -> None:
        self.status = 200
        self.answer = b"{}"
        self.held: threading.Event | None = None
        self.asked = threading.Event()
        self.requests: list[tuple[str, str, list[dict[str, Any]]]] = []
        self.spans: list[dict[str, Any]] = []
        self.url = ""
        self._more = threading.Condition()

    def take(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """One export; status and body of the answer."""
        found = []
        for resource in json.loads(body)["resourceSpans"]:
            said = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
            for scoped in resource["scopeSpans"]:
                found += [{**each, "resource": said} for each in scoped["spans"]]
        status = self.status
        with self._more:
            self.requests.append((path, kind, found))
            if status == 200:
                self.spans += found
            self._more.notify_all()
        self.asked.set()
        if self.held is not None:
            self.held.wait(20)
        return status, self.answer

    def wait_for(self, number: int, limit_s: float = 30.0) -> list[dict[str, Any]]:
        """All spans, once there are so many."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.spans) >= number, limit_s), f"{len(self.spans)} spans came"
            return list(self.spans)


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    made = Collector()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, answer = made.take(self.path, self.headers["content-type"], body)
            with contextlib.suppress(OSError):
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
