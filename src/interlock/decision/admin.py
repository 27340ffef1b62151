"""The admin protocol between a supervisor and whoever steers it, without any I/O.

Contract. A stream of frames on the unix socket `run/scorer.sock`: u32 little-endian length, then
one msgpack message with a `type` tag. The client sends one request and reads one reply; a frame
above `MAX_FRAME` or an unknown message ends the connection. Every request is idempotent: sending
it again after a lost reply does no harm. `Installed` is sent only when every live worker has the
table; `Loaded` only when every live worker has the model ready and warm. `Retreat` is effective
when its `Done` arrives, and needs no worker to answer.
"""

from __future__ import annotations

import struct

import msgspec

from interlock.base.errors import (
    IntegrityError,
    InterlockError,
    RefusedError,
    UnreachableError,
    UsageError,
)
from interlock.decision.counts import WorkerCounts
from interlock.decision.seal import Seal
from interlock.decision.table import RouteTable

MAX_FRAME = 64 * 1024 * 1024
_LENGTH = struct.Struct("<I")


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Try a bundle, verify its admission for `folder`, and make it ready in every worker."""

    bundle: str
    folder: str
    service: str


class Install(msgspec.Struct, frozen=True, tag="install"):
    """Route by this table from the next tick on."""

    table: RouteTable


class Unload(msgspec.Struct, frozen=True, tag="unload"):
    """Release a bundle that no table in use names."""

    bundle: str


class Retreat(msgspec.Struct, frozen=True, tag="retreat"):
    """Set the service's retreat latch: any epoch, no questions, durable before the reply."""

    service: str
    latch: str
    reason: str
    actor: str
    at_ns: int


class Observe(msgspec.Struct, frozen=True, tag="observe"):
    """Read states, counts and the seals with a number above `seals_after`."""

    service: str | None = None
    seals_after: int = 0


class SealNow(msgspec.Struct, frozen=True, tag="seal"):
    """Close and seal every open segment now."""


class Replace(msgspec.Struct, frozen=True, tag="replace"):
    """Replace a worker by a new process, or all of them one by one; `Done` when the old ones have left."""

    worker: str | None = None


class Renew(msgspec.Struct, frozen=True, tag="renew"):
    """Extend the lease of an unsettled table, if it is still the current one."""

    service: str
    epoch: int
    generation: int


class Status(msgspec.Struct, frozen=True, tag="status"):
    """Read states without counts: for `doctor` and for people."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The bundle is ready in every live worker; `trial` is the throwaway process's report."""

    bundle: str
    trial: dict[str, float | int | str]
    workers: int


class Installed(msgspec.Struct, frozen=True, tag="installed"):
    """Every live worker routes by this generation."""

    generation: int
    workers: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It holds."""


class Latch(msgspec.Struct, frozen=True):
    """A retreat in force: who went back, when and why."""

    id: str
    reason: str
    actor: str
    at_ns: int
    epoch: int = 0
    generation: int = 0


class ServiceState(msgspec.Struct, frozen=True):
    """One service as its supervisor sees it.

    Attributes:
        generation: of the installed table (0: none).
        epoch: of the installed table.
        oldest_generation: the oldest generation a request in flight still refers to, shadows
            included: `drained(g)` holds when it is at least g.
        latch: the retreat in force, or None.
        lease_left_s: seconds until the supervisor retreats; None when settled.
        loaded: digests of the bundles ready in every live worker.
        table: the installed table, so that a new controller can continue from it.
    """

    generation: int
    epoch: int
    oldest_generation: int
    latch: Latch | None = None
    lease_left_s: float | None = None
    loaded: list[str] = []
    table: RouteTable | None = None


class Denial(msgspec.Struct, frozen=True):
    """What the scoring doors did not allow, as often as it happened between two reports.

    Attributes:
        principal: whose credential it was; `unknown` when it did not hold, `anonymous` without one.
        action: of `trust.grants.ACTIONS`, or `authenticate`.
        service: which it concerned; empty: none in particular.
        reason: in words, without anything that the caller sent.
        count: how often.
        number: ascends over all that a supervisor gives out, also over its restarts; 0: not given out yet.
        at_ns: wall clock at which the supervisor heard of it.
    """

    principal: str
    action: str
    service: str
    reason: str
    count: int
    number: int = 0
    at_ns: int = 0


class Observed(msgspec.Struct, frozen=True, tag="observed"):
    """The fleet at one instant.

    Attributes:
        workers: that take requests.
        services: by name.
        counts: of each worker.
        seals: those asked for.
        denials: the newest; whoever has recorded them goes by their numbers.
        began_ns: wall clock at which this supervisor began: another number is another supervisor. 0: not told.
    """

    workers: int
    services: dict[str, ServiceState]
    counts: list[WorkerCounts] = []
    seals: list[Seal] = []
    denials: list[Denial] = []
    began_ns: int = 0


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """An error of `base.errors`, carried over."""

    kind: str
    message: str
    remedy: str


Request = Load | Install | Unload | Retreat | Observe | SealNow | Replace | Renew | Status
Reply = Loaded | Installed | Done | Observed | Failed

_KINDS: dict[str, type[InterlockError]] = {
    "usage": UsageError,
    "refused": RefusedError,
    "integrity": IntegrityError,
    "unreachable": UnreachableError,
}
_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def failed(error: InterlockError) -> Failed:
    """The reply that carries `error` to the other end."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(error, cls))
    return Failed(kind, error.message, error.remedy)


def error_of(reply: Failed) -> InterlockError:
    """The error that a reply carries, ready to be raised."""
    return _KINDS.get(reply.kind, IntegrityError)(reply.message, reply.remedy)


def frame(message: Request | Reply) -> bytes:
    """One message as a frame.

    Raises:
        UsageError: it is longer than `MAX_FRAME`.
    """
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise UsageError("an admin message is too long", "observe one service at a time")
    return framed(body)


def framed(body: bytes) -> bytes:
    """A frame's body with its length before it."""
    return _LENGTH.pack(len(body)) + body


def request(body: bytes) -> Request:
    """The request in a frame's body.

    Raises:
        UsageError: it is none that this version knows.
    """
    try:
        return _requests.decode(body)
    except msgspec.MsgspecError as error:
        raise UsageError("not a request of the admin protocol", "use the client of the same version") from error


def reply(body: bytes) -> Reply:
    """The reply in a frame's body.

    Raises:
        IntegrityError: it is none that this version knows.
    """
    try:
        return _replies.decode(body)
    except msgspec.MsgspecError as error:
        raise IntegrityError("not a reply of the admin protocol", "run client and supervisor of one version") from error


class Frames:
    """Cuts a byte stream into frame bodies.

    `feed` what arrived, in any pieces; it returns the bodies that are complete, in order.

    Args:
        limit: bytes that a frame's body may have.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> list[bytes]:
        """The complete bodies after `data` arrived.

        Raises:
            UsageError: a frame announces more than the limit; the connection must be closed.
        """
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._limit:
                raise UsageError("an admin frame is too long", "close the connection")
            end = start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return bodies
