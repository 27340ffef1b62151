"""An endpoint of notices on the loopback."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 60.0


class Receiver:
    """An endpoint on the loopback: keeps what it is sent, and answers as it is told to."""

    def __init__(self) -> None:
        self.got: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        self.answers: dict[str, int] = {}
        self.hold = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.put((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                if self.path == "/slow":
                    receiver.hold.wait(WAIT_S)
                self.send_response(receiver.answers.get(self.path, 204))
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def next(self) -> tuple[str, dict[str, str], bytes]:
        return self.got.get(timeout=WAIT_S)

    def reason(self) -> str:
        found: str = json.loads(self.next()[2])["data"]["reason"]
        return found

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
