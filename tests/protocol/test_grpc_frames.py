"""Damaged HTTP/2 on the gRPC door: whatever comes, it is answered or closed, and nothing is left over."""

from __future__ import annotations

import asyncio

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.protocol.grpc_service import OPTIONS, SmallScoring, body, identify
from tests.protocol.h2_client import INFER

from interlock.apps.scorer.grpc import GrpcDoor
from interlock.apps.scorer.http2 import Connection
from interlock.base.clock import SystemClock

MODELS = ("fraud", "echo", "held", "gone", "wide", "nobody")
FIELDS = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": INFER, "content-type": "application/grpc"}


class Sink(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self.closed

    def close(self) -> None:
        """Write no more."""
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        """No: to close is all there is."""
        return False


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Up to three calls, some reset, some never ended; then bytes changed, lost or added."""
    h2 = H2Connection(H2Configuration(client_side=True))
    h2.initiate_connection()
    for _ in range(draw(st.integers(0, 3))):
        number = h2.get_next_available_stream_id()
        h2.send_headers(number, [*FIELDS.items()])
        h2.send_data(number, body(draw(st.sampled_from(MODELS))), end_stream=draw(st.booleans()))
        if draw(st.booleans()):
            h2.reset_stream(number, ErrorCodes.CANCEL)
    if draw(st.booleans()):
        h2.close_connection()
    data = h2.data_to_send()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=12)) + data[place + draw(st.integers(0, 12)) :]
    return data


@given(streams(), st.lists(st.integers(1, 400), min_size=1, max_size=6), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_a_connection_or_leave_anything_behind(
    data: bytes, sizes: list[int], leaves: bool, answers: bool
) -> None:
    async def meet() -> None:
        scoring = SmallScoring()
        door = GrpcDoor(scoring, identify, OPTIONS, SystemClock())
        connection, transport = Connection(door._shared), Sink()
        connection.connection_made(transport)
        at = 0
        while at < len(data) and not transport.closed:
            size = sizes[at % len(sizes)]
            connection.data_received(data[at : at + size])
            at += size
        if leaves:
            connection.leave()
            connection.settle()
        if answers:
            scoring.release()
        connection.connection_lost(None)
        if not answers:
            scoring.release()  # decided after the client is gone
        await asyncio.sleep(0)
        assert door.connections == 0
        assert connection.unfinished == 0

    asyncio.run(meet())
