"""Accepting on a listener that several processes share.

Contract. One connection is taken per turn of the loop, so that workers share a burst; when there is
no room, further ones stay in the kernel's queue for whoever has. What was taken becomes a
connection, also when accepting ends in between (uvloop keeps this promise, asyncio's own server
does not: cpython#109564). The listener is closed here, never shut down: it lives on in others. With TLS a
connection is one after its handshake; one that is slow about it keeps its place no longer than allowed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from interlock.base.errors import UnreachableError
from interlock.serving.options import ServingOptions

_log = logging.getLogger(__name__)
_NO_ROOM_S = 0.5
"""Pause after the system had no descriptor or memory for a new connection."""


class Listening:
    """One process's use of the listener.

    Args:
        listener: inherited, non-blocking.
        protocol: makes the protocol of a new connection.
        connections: how many are open.
        most: how many may be.
        tls: the context for a connection that begins now; None of it: plaintext.
        handshake_s: how long a TLS handshake may take.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Callable[[], int],
        most: int,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        handshake_s: float = 10.0,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._most = most
        self._tls = tls
        self._handshake_s = handshake_s
        self._watching = False
        self._ended = False
        self._arriving: set[asyncio.Task[Any]] = set()

    def watch(self) -> None:
        """Accept while there is room; call it when a connection has ended."""
        if not (self._watching or self._ended or self._full()):
            self._watching = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self.accept)

    def accept(self) -> bool:
        """Take one connection, if one waits."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False  # another worker was faster, or the client left
        except OSError as error:
            _log.error("no connection can be accepted: %s", error.strerror)
            self._ignore()
            asyncio.get_running_loop().call_later(_NO_ROOM_S, self.watch)
            return False
        accepted.setblocking(False)
        self.adopt(accepted)
        return True

    @property
    def encrypted(self) -> bool:
        """Whether connections begin with a handshake: then what others began in plain cannot go on here."""
        return self._tls() is not None

    def room(self) -> bool:
        """Whether one plain connection more may be open here."""
        return not (self._ended or self._full() or self.encrypted)

    def adopt(self, accepted: socket.socket) -> None:
        """Make a connection of a socket that does not block, accepted here or by a predecessor."""
        task = asyncio.get_running_loop().create_task(self._welcome(accepted))
        self._arriving.add(task)
        task.add_done_callback(self._arrived)
        if self._full():
            self._ignore()

    async def end(self, last: bool, patience_s: float) -> None:
        """Accept no more.

        Args:
            last: nobody else serves the listener, so what the kernel has queued is taken first.
            patience_s: for what was taken to become connections.
        """
        while last and self._watching and self.accept():
            pass
        self._ignore()
        self._ended = True
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=patience_s)
        self._listener.close()

    def _full(self) -> bool:
        return self._connections() + len(self._arriving) >= self._most

    def _ignore(self) -> None:
        if self._watching:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._watching = False

    def _arrived(self, task: asyncio.Task[Any]) -> None:
        self._arriving.discard(task)
        self.watch()  # a handshake that failed gives its place back, and no connection ends to say so

    async def _welcome(self, accepted: socket.socket) -> None:
        loop, context = asyncio.get_running_loop(), self._tls()
        try:
            if context is None:
                await loop.connect_accepted_socket(self._protocol, accepted)
            else:
                await loop.connect_accepted_socket(
                    self._protocol, accepted, ssl=context, ssl_handshake_timeout=self._handshake_s
                )
        except OSError:
            accepted.close()


def doorways(options: ServingOptions) -> tuple[socket.socket, socket.socket | None]:
    """The listeners that a supervisor opens for its workers: HTTP, and gRPC if there is one.

    Raises:
        UnreachableError: a port is taken.
    """
    listener = _listen(options.host, options.port, options.backlog)
    if not options.grpc:
        return listener, None
    port = options.grpc_port
    if port is None:
        port = options.port + 1 if options.port else 0
    try:
        return listener, _listen(options.host, port, options.backlog)
    except UnreachableError:
        listener.close()
        raise


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnreachableError(
            f"port {port} cannot be opened", "choose another: scoring.port, scoring.grpc_port (0: any)"
        ) from error
    listener.listen(backlog)
    listener.setblocking(False)
    return listener
