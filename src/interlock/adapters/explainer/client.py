"""The process that explains decisions, from the other end: one connection and one question per call.

MUSTs: nothing here loads a model, so that a scorer may import it; a call never takes longer than
its patience, and one that is cancelled closes its connection, which gives the question up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from interlock.base.errors import InterlockError, UnreachableError
from interlock.base.files import socket_address
from interlock.decision import admin
from interlock.decision import explain as messages
from interlock.decision.admin import Failed, Frames
from interlock.decision.explain import Explain

_PIECE = 1 << 16


class ExplainClient:
    """The explainer behind one unix socket.

    Args:
        path: the home's `run/explain.sock`.
        patience_s: how long one call may take.
    """

    def __init__(self, path: Path, patience_s: float = 30.0) -> None:
        self._path = path
        self._patience_s = patience_s

    async def explain(  # long: the question's fields
        self,
        service: str,
        *,
        decisions: Sequence[str] = (),
        transactions: Sequence[str] = (),
        actor: str,
        roles: Collection[str],
        trace_id: str = "",
    ) -> bytes:
        """The explanations of recorded decisions: the JSON text `{"explanations": [...]}`.

        Args:
            service: whose decisions.
            decisions: their ids.
            transactions: ids of transactions; the last decision on each is meant.
            actor: who asks, as authenticated; it is recorded with every explanation.
            roles: of the actor.
            trace_id: of the request.

        Raises:
            UsageError: nothing of it can be explained (unknown, or no model decided), or too much was asked.
            RefusedError: the actor lacks the role `explain`.
            IntegrityError: record, bundle and native model are not of one piece.
            UnreachableError: no explainer answers in time, or it is busy: try again later.
        """
        asked = Explain(
            service=service,
            actor=actor,
            roles=sorted(roles),
            decisions=list(decisions),
            transactions=list(transactions),
            trace_id=trace_id,
        )
        try:
            async with asyncio.timeout(self._patience_s):
                answer = messages.reply(await self._exchange(messages.frame(asked)))
        except (OSError, TimeoutError) as error:
            raise _silent(error) from error
        if isinstance(answer, Failed):
            raise admin.error_of(answer)
        return answer.body

    async def _exchange(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(socket_address(self._path))
        frames = Frames()
        try:
            writer.write(data)
            while piece := await reader.read(_PIECE):
                if found := frames.feed(piece):
                    return found[0]
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        raise ConnectionResetError


def _silent(error: OSError | TimeoutError) -> InterlockError:
    return UnreachableError(
        f"the process that explains decisions does not answer ({type(error).__name__})",
        "start it with `interlock up`, or read run/explain.log",
    )
