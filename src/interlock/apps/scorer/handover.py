"""Idle keep-alive connections go from a leaving worker to its successor; their clients see nothing.

Protocol. Every worker is born with one end of a SOCK_SEQPACKET pair; the other end, its estate, is
inherited by the process that replaces it. The leaver sends one message per connection, a u32
little-endian number with the descriptor beside it (SCM_RIGHTS); the heir answers with the number
and one byte, 1: it is mine, 0: I have no room. A connection is given only when nothing of it is
in user space: no request, no byte of one, no unsent reply, no TLS state. Bytes that arrive
meanwhile stay in the kernel for whoever reads next. The leaver stops reading before it sends, and
lets go only when the heir has said that it is its own; what was not taken is read on.

Nobody ever reads a connection twice, whoever stalls or dies: the heir says "mine" before it reads,
and when it cannot say so any more (the leaver has shut its receiving side and gone on by itself), it
drops the descriptor. The leaver shuts first and reads the answers that are already there second.
"""

from __future__ import annotations

import array
import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger(__name__)
_NUMBER = struct.Struct("<I")
_ANSWER = struct.Struct("<IB")
_ROOM = 64
"""Connections on their way at once: bounds the descriptors that only the kernel holds."""
_TURNS = 3
"""A connection that was just answered is quiet one or two turns of the loop later."""


class Lendable(Protocol):
    """What a leaver needs of a connection."""

    @property
    def quiet(self) -> bool:
        """Whether no request is being received or answered."""
        ...

    def lend(self) -> int | None:
        """Stop reading; the descriptor, or None when something of it is in this process."""
        ...

    def keep(self) -> None:
        """Nobody took it: read on."""
        ...

    def abort(self) -> None:
        """Close this process's copy, without a word to the client."""
        ...


def pair() -> tuple[socket.socket, socket.socket]:
    """(the end a worker gives through, its estate), neither of which blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
    return ends


class Giving:
    """The leaving worker's side.

    Args:
        line: the end it was born with.

    Attributes:
        given: connections that the heir has taken.
        ended: set when the heir takes nothing more.
    """

    def __init__(self, line: socket.socket) -> None:
        self.given = 0
        self.ended = asyncio.Event()
        self._line = line
        self._numbers = 0
        self._lent: dict[int, Lendable] = {}
        self._waiting: deque[Lendable] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(line.fileno(), self._hear)

    def offer(self, connection: Lendable, turns: int = _TURNS) -> None:
        """Give it away in the next turns of the loop, if it is quiet then."""
        # Never at once: its parser may be in the middle of a piece that holds another request.
        self._loop.call_soon(self._give, connection, turns)

    def end(self) -> None:
        """Give no more; what is on its way and not taken is read on."""
        self.ended.set()
        self._loop.remove_reader(self._line.fileno())
        try:
            # From here on the heir cannot say "mine"; what it said before is still to be read.
            self._line.shutdown(socket.SHUT_RD)
            while self._answer():
                pass
        except OSError as error:
            _log.warning("the successor's line broke (%s)", error.strerror)
        self._line.close()
        lent, self._lent = self._lent, {}
        for connection in lent.values():
            connection.keep()

    def _give(self, connection: Lendable, turns: int) -> None:
        if self.ended.is_set() or connection in self._lent.values():
            return
        if len(self._lent) >= _ROOM:
            self._waiting.append(connection)
            return
        descriptor = connection.lend()
        if descriptor is None:
            if turns and connection.quiet:
                self._loop.call_soon(self._give, connection, turns - 1)
            return
        self._numbers += 1
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            self._line.sendmsg([_NUMBER.pack(self._numbers)], [rights])
        except BlockingIOError:
            connection.keep()
            self._waiting.append(connection)
        except OSError:  # the heir has ended
            connection.keep()
            self.ended.set()
        else:
            self._lent[self._numbers] = connection

    def _hear(self) -> None:
        try:
            while self._answer():
                pass
        except BlockingIOError:
            pass
        except OSError:
            self.ended.set()
        for _ in range(min(len(self._waiting), _ROOM - len(self._lent))):
            self.offer(self._waiting.popleft())

    def _answer(self) -> bool:
        """Take one answer; False at the end of the line."""
        data = self._line.recv(_ANSWER.size)
        if len(data) < _ANSWER.size:
            self.ended.set()
            self._loop.remove_reader(self._line.fileno())
            return False
        number, taken = _ANSWER.unpack(data)
        connection = self._lent.pop(number, None)
        if connection is not None and taken:
            self.given += 1
            connection.abort()
        elif connection is not None:
            connection.keep()
        return True


class Taking:
    """The successor's side.

    Args:
        estate: the other end of the predecessor's line.
        room: whether one connection more may be open.
        adopt: serves a socket from the next turn of the loop on.
    """

    def __init__(self, estate: socket.socket, room: Callable[[], bool], adopt: Callable[[socket.socket], None]) -> None:
        self._estate = estate
        self._room = room
        self._adopt = adopt
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(estate.fileno(), self._take)

    def _take(self) -> None:
        for _ in range(_ROOM):
            try:
                data, descriptors, _, _ = socket.recv_fds(self._estate, _NUMBER.size, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("the predecessor's line broke (%s)", error.strerror)
                data, descriptors = b"", []
            if len(data) < _NUMBER.size:
                self._loop.remove_reader(self._estate.fileno())
                self._estate.close()
                return
            # No descriptor arrives when this process may open no more.
            offered = socket.socket(fileno=descriptors[0]) if descriptors else None
            if not self._decide(data, offered) and offered is not None:
                offered.close()

    def _decide(self, number: bytes, offered: socket.socket | None) -> bool:
        taken = offered is not None and self._room()
        try:
            self._estate.send(number + bytes([taken]))
        except OSError:  # the leaver has gone on without us: the connection is still its own
            return False
        if offered is None or not taken:
            return False
        offered.setblocking(False)
        self._adopt(offered)
        return True
