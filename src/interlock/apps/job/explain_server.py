"""The socket of the process that explains: one question per connection, a bounded number at a time.

MUSTs: one such process per home (a lock beside the socket says so); one question is worked on at
a time, on a thread, so that the loop always answers; beyond `queue` questions the next is refused
at once; a question whose client has gone is not begun. SIGTERM: what was asked is still answered.
A question that takes longer than `hang_s` ends the process: native code cannot be interrupted, and
whoever started the process starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.base.files import listen_alone
from interlock.decision import admin
from interlock.decision import explain as messages
from interlock.decision.admin import Failed, Frames
from interlock.decision.explain import MAX_REQUEST, Explain, Explained
from interlock.governance.options import ExplainOptions

Answer = Callable[[Explain], bytes]

_log = logging.getLogger(__name__)
_ASK_S = 5.0
_DRAIN_S = 10.0
_PIECE = 1 << 14


async def serve(
    path: Path, answer: Answer, options: ExplainOptions, ready: Callable[[], None], warm: Callable[[], None]
) -> None:
    """Serve at `path` until SIGTERM or SIGINT.

    Args:
        path: of the unix socket.
        answer: what answers a question.
        options: bounds.
        ready: called once it listens.
        warm: called before the first question is worked on, and not counted as part of it.

    Raises:
        RefusedError: another process explains the decisions of this home.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        listener, lock = listen_alone(path)
    except BlockingIOError as error:
        raise RefusedError(
            "a process explains this home's decisions already", "stop it first, or use another INTERLOCK_HOME"
        ) from error
    door = Door(answer, options, warm)
    server = await asyncio.start_unix_server(door.talk, sock=listener)
    try:
        ready()
        await stop.wait()
    finally:
        server.close()
        await door.close()
        os.close(lock)


class Door:
    """Talks to clients on the running loop, and hands their questions to one thread.

    Args:
        answer: what answers a question; called on that thread alone.
        options: bounds.
        warm: called on that thread before any question.
    """

    def __init__(self, answer: Answer, options: ExplainOptions, warm: Callable[[], None] = lambda: None) -> None:
        self._answer = answer
        self._queue = options.queue
        self._hang_s = options.hang_s
        self._watch: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._thread.submit(warm)
        self._loop = asyncio.get_running_loop()
        self.under_way = 0
        """Questions that are worked on or wait."""
        self._talks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Answer what was asked, for as long as one may wait for that; then end every conversation."""
        if self._talks:
            _, silent = await asyncio.wait(self._talks, timeout=_DRAIN_S)
            for task in silent:
                task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its question to its end."""
        task = asyncio.current_task()
        if task is not None:
            self._talks.add(task)
            task.add_done_callback(self._talks.discard)
        try:
            if (said := await self._converse(reader)) is not None:
                writer.write(messages.frame(said))
                await writer.drain()
        except (ConnectionError, TimeoutError):
            _log.info("a client left")
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader) -> Explained | Failed | None:
        try:
            body = await _question(reader)
            if body is None:
                return None
            work = self._begin(messages.request(body))
        except InterlockError as error:
            return admin.failed(error)
        gone = asyncio.ensure_future(_end_of(reader))
        reply = asyncio.wrap_future(work)
        gone.add_done_callback(lambda _: reply.cancel())
        try:
            return await reply
        except asyncio.CancelledError:
            # Not begun yet: it never will be. Begun: it ends by itself, and nobody reads it.
            return None
        finally:
            gone.cancel()

    def _begin(self, asked: Explain) -> Future[Explained | Failed]:
        if self.under_way >= self._queue:
            raise UnreachableError("the explainer is busy", "ask again in a second")
        self.under_way += 1
        work = self._thread.submit(self._work, asked)
        work.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._ended))
        return work

    def _started(self) -> None:
        self._rest()
        self._watch = self._loop.call_later(self._hang_s, _give_up)

    def _ended(self) -> None:
        self.under_way -= 1

    def _rest(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _work(self, asked: Explain) -> Explained | Failed:
        self._loop.call_soon_threadsafe(self._started)
        try:
            return Explained(self._answer(asked))
        except InterlockError as error:
            return admin.failed(error)
        except Exception as error:
            _log.exception("an explanation failed")
            why = f"the explainer failed ({type(error).__name__})"
            return Failed("unreachable", why, "read run/explain.log, then try again")
        finally:
            self._loop.call_soon_threadsafe(self._rest)


def _give_up() -> None:
    _log.critical("a question does not end: the process does")
    os._exit(1)


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the client has gone, or says more than its one question."""
    with contextlib.suppress(ConnectionError):
        await reader.read(1)


async def _question(reader: asyncio.StreamReader) -> bytes | None:
    frames = Frames(MAX_REQUEST)
    async with asyncio.timeout(_ASK_S):
        while piece := await reader.read(_PIECE):
            if found := frames.feed(piece):
                return found[0]
    return None
