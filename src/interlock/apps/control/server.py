"""The control process: the API on uvicorn, and the reconciler on a thread of its own.

The API answers from the events table alone and never waits for the reconciler. SIGTERM and SIGINT
end the reconciler between two turns (a turn is never cut), give the lease back, and withdraw the
endpoint. A reconciler that raises something unexpected ends the process: whoever started it starts
it again, and it resumes from its journal.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from interlock.apps.control.reconciler import Reconciler

_log = logging.getLogger(__name__)


class Loop:
    """Turns a reconciler until stopped.

    Args:
        reconciler: whose turns.
        pause_s: the longest pause between two turns.
        wake: ends a pause; of any thread.
    """

    def __init__(self, reconciler: Reconciler, pause_s: float, wake: threading.Event) -> None:
        self._reconciler = reconciler
        self._pause_s = pause_s
        self._wake = wake
        self._stop = threading.Event()
        self.failed: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present turn, and give the lease back."""
        self._stop.set()
        self._wake.set()
        self._thread.join(30)
        if self.failed is None:
            self._reconciler.leave()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._wake.clear()  # what ends from here on deserves a turn of its own
                self._reconciler.turn()
                self._wake.wait(self._reconciler.pause_s(self._pause_s))
        except BaseException as error:
            _log.exception("the reconciler stopped")
            self.failed = error
            self.on_failure()


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one. Who connects before the API runs is answered when it does."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def serve(app: Starlette, listener: socket.socket, loop: Loop, ready: Callable[[], None]) -> None:
    """Serve until a signal, or until the reconciler fails.

    Args:
        app: the control API.
        listener: where it listens.
        loop: the reconciler.
        ready: called once whoever connects will be answered.
    """
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5))
    loop.on_failure = lambda: setattr(server, "should_exit", True)
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises a signal again when it has shut down, and SIGTERM would then end the process
        # before the lease is given back.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
    loop.start()
    ready()
    try:
        server.run(sockets=[listener])
    finally:
        loop.stop()
    if loop.failed is not None:
        raise loop.failed
