"""The admin door: `decision.admin` on a unix socket that only its owner may open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interlock.base.errors import InterlockError, RefusedError, UsageError
from interlock.base.files import listen_alone
from interlock.decision import admin
from interlock.decision.admin import Done, Frames, Installed, Loaded

if TYPE_CHECKING:
    from interlock.apps.scorer.supervisor import Supervisor

_log = logging.getLogger(__name__)


class AdminDoor:
    """Answers one request after the other per connection; connections do not wait for each other."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._server: asyncio.Server | None = None
        self._lock: int | None = None
        self._open: set[asyncio.Task[Any]] = set()

    async def open(self, path: Path) -> None:
        """Listen at `path`; a socket that a dead supervisor left is replaced.

        Raises:
            RefusedError: a supervisor that lives listens there.
        """
        try:
            listener, self._lock = listen_alone(path)
        except BlockingIOError as error:
            raise RefusedError(
                "a scorer already serves this home", "stop it first, or use another INTERLOCK_HOME"
            ) from error
        self._server = await asyncio.start_unix_server(self._talk, sock=listener)

    async def close(self) -> None:
        """Stop listening and end the conversations."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        frames = Frames()
        try:
            while data := await reader.read(1 << 16):
                for body in frames.feed(data):
                    writer.write(admin.frame(await self._answer(body)))
                    await writer.drain()
        except (ConnectionError, UsageError) as error:
            _log.warning("an admin connection ended: %s", type(error).__name__)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, body: bytes) -> admin.Reply:
        try:
            return await self._do(admin.request(body))
        except InterlockError as error:
            return admin.failed(error)
        except Exception as error:
            _log.exception("an admin request failed")
            why = f"the supervisor failed ({type(error).__name__})"
            return admin.Failed("unreachable", why, "read run/scorer.log, then try again")

    async def _do(self, asked: admin.Request) -> admin.Reply:  # long: one row per message
        boss = self._supervisor
        match asked:
            case admin.Retreat():
                boss.retreat(asked.service, asked.latch, asked.reason, asked.actor, asked.at_ns)
                return Done()
            case admin.Observe():
                return boss.observe(asked.service, asked.seals_after, counted=True)
            case admin.Status():
                return boss.observe(None, 0, counted=False)
            case admin.Load():
                report, workers = await boss.load(asked.service, asked.bundle, asked.folder)
                return Loaded(asked.bundle, report, workers)
            case admin.Install():
                return Installed(asked.table.generation, await boss.install(asked.table))
            case admin.Unload():
                await boss.unload(asked.bundle)
                return Done()
            case admin.Renew():
                boss.renew(asked.service, asked.epoch, asked.generation)
                return Done()
            case admin.Replace():
                await boss.replace(asked.worker)
                return Done()
            case admin.SealNow():
                await boss.seal()
                return Done()
