"""gRPC as a client that sends any bytes: grpclib underneath, messages stay as they are serialised.

Contract. One channel per set of calls, nothing retried. A status, however the server came to it, is
an Answer; so is a stream or connection that ended without one (`LOST`). Only a server that cannot
be connected to raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from interlock.apps.conformance.case import Answer, Call, Calls
from interlock.base.errors import UnreachableError, UsageError

SERVICE = "inference.GRPCInferenceService"
LOST = "LOST"
"""Stands where a code's name does when no status came."""
_SAYS = 200


class _AsTheyAre(CodecBase):
    """Messages are bytes already."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


@dataclass(frozen=True, slots=True)
class RpcDoor:
    """Where the gRPC server is, and what every call carries."""

    host: str
    port: int
    metadata: tuple[tuple[str, str], ...] = ()
    wait_s: float = 10.0

    @classmethod
    def at(cls, address: str, metadata: Sequence[tuple[str, str]] = (), wait_s: float = 10.0) -> RpcDoor:
        """A door at HOST:PORT.

        Raises:
            UsageError: that is no address.
        """
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise UsageError("that is no address of a gRPC server", "give it as --grpc HOST:PORT")
        return cls(host, int(port), tuple((name.lower(), value) for name, value in metadata), wait_s)


async def hold_calls(door: RpcDoor, calls: Calls) -> list[Answer]:
    """Make the calls in order on one channel: one answer each.

    Raises:
        UnreachableError: the server cannot be connected to.
    """
    channel = Channel(door.host, door.port, codec=_AsTheyAre())
    try:
        return [await _one(door, channel, each) for each in calls.calls]
    finally:
        channel.close()


async def _one(door: RpcDoor, channel: Channel, call: Call) -> Answer:
    method = UnaryUnaryMethod[bytes, bytes](channel, f"/{SERVICE}/{call.method}", bytes, bytes)
    try:
        return Answer("OK", await method(call.message, timeout=door.wait_s, metadata=list(door.metadata)))
    except GRPCError as error:
        return Answer(error.status.name, says=(error.message or "")[:_SAYS])
    except (StreamTerminatedError, ProtocolError, AssertionError) as error:
        return Answer(LOST, says=f"the stream ended without a status ({type(error).__name__})")
    except TimeoutError:
        return Answer(LOST, says=f"nothing came within {door.wait_s:g} s")
    except OSError as error:
        raise UnreachableError("the gRPC server cannot be connected to", "name its port with --grpc") from error
