"""A supervisor's admin socket, from the other end: the `Scorers` port of rollout, for one supervisor.

Each call opens a connection of its own, so that a slow load never stands before a retreat. Safe to
use from several threads. What the supervisor refuses is raised as the same kind of error here.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TypeVar

from interlock.base.errors import IntegrityError, UnreachableError
from interlock.base.files import socket_address
from interlock.decision import admin
from interlock.decision.admin import Done, Failed, Frames, Installed, Loaded, Observed
from interlock.decision.table import RouteTable

_QUICK_S = 15.0
_LOAD_S = 180.0
_REPLACE_S = 900.0
"""Many workers, each of which loads everything and lets its predecessor drain."""
_R = TypeVar("_R", Done, Installed, Loaded, Observed)


class ScorerClient:
    """The supervisor behind one admin socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, service: str, bundle: str, folder: str) -> Loaded:
        """Try, verify, load and warm a bundle in every worker."""
        return self._call(admin.Load(bundle, folder, service), Loaded, _LOAD_S)

    def install(self, table: RouteTable) -> Installed:
        """Route by a table in every worker."""
        return self._call(admin.Install(table), Installed, _QUICK_S)

    def unload(self, bundle: str) -> None:
        """Forget a bundle."""
        self._call(admin.Unload(bundle), Done, _QUICK_S)

    def retreat(self, service: str, latch: str, reason: str, actor: str, at_ns: int) -> None:
        """Set the retreat latch."""
        self._call(admin.Retreat(service, latch, reason, actor, at_ns), Done, _QUICK_S)

    def observe(self, service: str | None = None, seals_after: int = 0) -> Observed:
        """States, counts and new seals."""
        return self._call(admin.Observe(service, seals_after), Observed, _QUICK_S)

    def renew(self, service: str, epoch: int, generation: int) -> None:
        """Extend a lease."""
        self._call(admin.Renew(service, epoch, generation), Done, _QUICK_S)

    def seal(self) -> None:
        """Close and seal every open segment."""
        self._call(admin.SealNow(), Done, _QUICK_S)

    def replace(self, worker: str | None = None) -> None:
        """Replace a worker, or all one by one, without a client noticing."""
        self._call(admin.Replace(worker), Done, _REPLACE_S)

    def status(self) -> Observed:
        """States alone."""
        return self._call(admin.Status(), Observed, _QUICK_S)

    def _call(self, request: admin.Request, kind: type[_R], patience_s: float) -> _R:
        body = self._exchange(admin.frame(request), patience_s)
        reply = admin.reply(body)
        if isinstance(reply, Failed):
            raise admin.error_of(reply)
        if not isinstance(reply, kind):
            raise IntegrityError("the supervisor gave another kind of reply", "run both ends of one version")
        return reply

    def _exchange(self, data: bytes, patience_s: float) -> bytes:
        frames = Frames()
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(patience_s)
                connection.connect(socket_address(self._path))
                connection.sendall(data)
                while piece := connection.recv(1 << 16):
                    found = frames.feed(piece)
                    if found:
                        return found[0]
        except OSError as error:
            raise UnreachableError(
                f"the scorer's admin socket does not answer ({type(error).__name__})", "see `interlock doctor`"
            ) from error
        raise UnreachableError("the scorer closed the admin connection", "read run/scorer.log, then try again")
