"""Unary gRPC calls over HTTP/2: grpclib's protocol layer, with bounds and a drain that loses nothing.

Contract. Bounded: bytes of a message and of all unfinished ones of a connection, header list, concurrent
streams, resets (CVE-2023-44487), time to the end of a request and to the reading of its answer,
unread replies (the connection is not read further), idle time, connections per worker.

Leaving (RFC 9113, 6.8): accept no more; tell every client with GOAWAY and the highest stream id
there is, so that calls on their way still count; when it has echoed a PING it has seen that, and the
GOAWAY with the last stream taken follows; calls under way are answered; then the sending side is
closed and the peer's end awaited. The listener is closed, never shut down: others share it.
grpclib's own server does none of this (`Server.close` cancels calls), hence this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Buffer, EventsProcessor, H2Protocol, Stream
from grpclib.protocol import Connection as Wire
from grpclib.utils import Wrapper
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, PingAckReceived
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes, Settings

from interlock.apps.scorer.calls import UNFINISHED, Call, Shared
from interlock.base.clock import NS_PER_S
from interlock.serving.wire import grpc as wire
from interlock.serving.wire.grpc import Code, Refusal

MAX_STREAMS = 128
"""Concurrent calls of one connection; a client waits or opens another connection."""
MAX_RESETS = 200
"""Calls that a client may reset beyond those it let finish, before its connection ends."""
_WINDOW = 65_535
_ECHO_S = 1.0
_LAST_STREAM = 2**31 - 1
_PING = b"leaving!"
_GOAWAYS = (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY)
_CONFIGURATION = Configuration()
_H2_CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding="latin-1",  # never fails; values are compared or bounded, not decoded further
    validate_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_inbound_headers=False,
    normalize_outbound_headers=False,
)
_log = logging.getLogger(__name__)

_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK = ((b"grpc-status", b"0"),)


def joined(headers: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Each field once, as RFC 9110 section 5.3 joins them: of two credentials neither counts."""
    found = dict(headers)
    if len(found) < len(headers):
        for name in found:
            found[name] = ", ".join(value for each, value in headers if each == name)
    return found


class _States(H2ConnectionStateMachine):
    """h2 takes a GOAWAY for the end of everything; it only ends new streams (RFC 9113, 6.8)."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        """The next state."""
        if input_ in _GOAWAYS and self.state is not ConnectionState.CLOSED:
            return []
        return super().process_input(input_)


class _H2(H2Connection):
    """Remembers fewer closed streams: h2's own default keeps 65,536 ids for each long-lived connection."""

    MAX_CLOSED_STREAMS = 256

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.state_machine = _States()


class _Events(EventsProcessor):
    """grpclib's dispatch; an event that it does not know is no reason to fail (RFC 9113, 5.5)."""

    def process(self, event: Event) -> None:
        """Act on one event."""
        if event.__class__ in getattr(self, "processors", ()):
            super().process(event)

    def process_ping_ack_received(self, event: PingAckReceived) -> None:
        """The client has echoed a PING of ours, and so has read what was sent before."""
        if event.ping_data == _PING:
            cast(Connection, self.handler).settle()

    def process_connection_terminated(self, event: ConnectionTerminated) -> None:
        """The client sent GOAWAY: some clients say so first and then wait for their answers (netty's)."""
        if event.error_code == ErrorCodes.NO_ERROR and self.streams:
            cast(Connection, self.handler).outlive()
        else:
            super().process_connection_terminated(event)


class Connection(H2Protocol, AbstractHandler):
    """One client's connection: grpclib's protocol, and the handler of its streams."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(self, _CONFIGURATION, _H2_CONFIGURATION)
        self.shared = shared
        self.unfinished = 0
        self.certificate: Mapping[str, Any] | None = None
        self._under_way: dict[Stream, Call] = {}
        self._credit = MAX_RESETS
        self._used_ns = shared.now_ns()
        self._stuck_ns = 0
        self._heard = self._announced = self._final = self._ended = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what is accepted here."""
        self._transport = cast(asyncio.Transport, transport)
        self.certificate = transport.get_extra_info("peercert") or None
        self._h2 = _H2(config=_H2_CONFIGURATION)
        options = self.shared.options
        most, window = options.max_header_bytes, max(_WINDOW, options.max_body_bytes + wire.PREFIX)
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: most,
                SettingCodes.INITIAL_WINDOW_SIZE: window,
            },
        )
        self._h2.decoder.max_header_list_size = most
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(UNFINISHED * window)
        self.connection = Wire(self._h2, self._transport, config=_CONFIGURATION)
        self.processor = _Events(self, self.connection)
        self.connection.flush()
        self.shared.connections.add(self)

    @property
    def under_way(self) -> int:
        """Calls that are not answered yet."""
        return len(self._under_way)

    def data_received(self, data: bytes) -> None:
        """Frames have come."""
        if self._over():
            return
        try:
            events = self.connection.feed(data)
        except ProtocolError:
            self._hang_up()  # h2 has written the GOAWAY that names the error
            return
        self._heard = True
        for event in events:
            if not self._over():
                self.processor.process(event)
        if self._over():
            return
        self.connection.flush()
        if self.shared.leaving:
            self.leave()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The end, whoever wanted it."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        self.shared.gone(self)

    def pause_writing(self) -> None:
        """Replies are not read: read no requests either."""
        super().pause_writing()
        self._stuck_ns = self.shared.now_ns()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Replies are read again."""
        super().resume_writing()
        self._stuck_ns = 0
        self._transport.resume_reading()

    # What grpclib calls on a handler.

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:
        """A call begins."""
        call = Call(self, stream, joined(headers), release_stream)
        self._used_ns = call.started_ns
        stream.buffer, stream.wrapper = cast(Buffer, call), cast(Wrapper, call)
        self._under_way[stream] = call
        if self._final:
            self._reset(call, ErrorCodes.REFUSED_STREAM)  # it came after the last GOAWAY: safe to try elsewhere
        else:
            call.begin()

    def cancel(self, stream: Stream) -> None:
        """The client has reset a stream (its call was cancelled just before)."""
        call = self._under_way.pop(stream, None)
        if call is not None:
            call.release()
        self._credit -= 1
        if self._credit < 0:
            _log.warning("a client resets calls faster than it lets them finish: its connection is closed")
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._hang_up()
        self._end_when_idle()

    def outlive(self) -> None:
        """The client says that it will send no further call; the answers under way are still its own."""
        self._announced = self._final = True
        self._end_when_idle()

    def close(self) -> None:
        """The connection is gone: every call under way loses its answer (grpclib cancels it), and nothing else."""
        self._under_way.clear()

    # Answers.

    def send(self, call: Call, data: bytes) -> None:
        """Send a framed message, then OK: at once if the client's windows have room."""
        number = cast(int, call.stream.id)
        try:
            self._h2.send_headers(number, _HEAD)
            if len(data) > min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size):
                call.waits_ns = self.shared.now_ns()
                call.task = asyncio.get_running_loop().create_task(self._trickle(call, data))
                return
            self._h2.send_data(number, data)
            self._h2.send_headers(number, _OK, end_stream=True)
        except H2Error:
            _log.debug("a client left before its answer")
        self._settled(call, Code.OK)

    def turn_away(self, call: Call, status: int) -> None:
        """Answer what is no gRPC call with a bare HTTP status (gRPC over HTTP/2: 415 for another content type)."""
        with contextlib.suppress(H2Error):
            self._h2.send_headers(cast(int, call.stream.id), [(b":status", b"%d" % status)], end_stream=True)
        self._settled(call, Code.INVALID_ARGUMENT)

    def send_status(self, call: Call, why: Refusal) -> None:
        """Send a status alone; if an answer is half sent, end the stream."""
        if call.task is not None:
            self._reset(call, ErrorCodes.CANCEL)
            return
        fields = [
            *_HEAD,
            (b"grpc-status", b"%d" % why.code),
            (b"grpc-message", wire.percent_encoded(why.message).encode()),
        ]
        if why.code == Code.UNIMPLEMENTED:
            fields.append((b"grpc-accept-encoding", wire.CODINGS.replace(" ", "").encode()))
        if why.retry_s:
            fields.append((b"grpc-retry-pushback-ms", b"%d" % (why.retry_s * 1_000)))
        try:
            self._h2.send_headers(cast(int, call.stream.id), fields, end_stream=True)
        except H2Error:
            _log.debug("a client left before its answer")
        self._settled(call, why.code)

    # Leaving.

    def leave(self) -> None:
        """Announce the end, as soon as the client has spoken; it takes new calls elsewhere from then on."""
        if self._announced or not self._heard or self._over():
            return
        self._announced = True
        self._h2.close_connection(last_stream_id=_LAST_STREAM)
        self._h2.ping(_PING)
        self.connection.flush()
        self._timer = asyncio.get_running_loop().call_later(_ECHO_S, self.settle)

    def settle(self) -> None:
        """The client knows, or does not say: take no further call."""
        if self._final or not self._announced or self._over():
            return
        self._final = True
        self._h2.close_connection(last_stream_id=self._h2.highest_inbound_stream_id)
        self.connection.flush()
        self._end_when_idle()

    def give_up(self) -> None:
        """Time is up: refuse what is not answered."""
        for call in list(self._under_way.values()):
            call.refuse(Refusal(Code.UNAVAILABLE, "the server is leaving", 1))
        if not self._heard:
            self.abort()
        self.leave()
        self.settle()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def check(self, now_ns: int) -> None:
        """End what has been slow or idle for too long."""
        options = self.shared.options
        patience = int(options.body_timeout_s * NS_PER_S)
        for call in list(self._under_way.values()):
            if call.waits_ns and now_ns - call.waits_ns > patience:
                call.refuse(Refusal(Code.DEADLINE_EXCEEDED, "the message did not arrive, or was not read, in time"))
        if self._stuck_ns and now_ns - self._stuck_ns > patience:
            self.abort()
        elif not self._under_way and now_ns - self._used_ns > options.idle_timeout_s * NS_PER_S:
            if self._heard:
                self.leave()
            else:
                self.abort()

    def _reset(self, call: Call, why: ErrorCodes) -> None:
        try:
            self._h2.reset_stream(cast(int, call.stream.id), why)
        except H2Error:
            _log.debug("a stream had ended before it was reset")
        self._settled(call, Code.UNAVAILABLE)

    def _settled(self, call: Call, code: Code) -> None:
        """A call is over: whatever the client still sends for it is not wanted."""
        call.finish()
        if not self.connection.is_closing():
            if call.stream.closable:
                call.stream.reset_nowait()
            self.connection.flush()
        self._under_way.pop(call.stream, None)
        call.release()
        self._credit = min(MAX_RESETS, self._credit + 1)
        self._used_ns = self.shared.now_ns()
        self.shared.note(call, code)
        self._end_when_idle()

    async def _trickle(self, call: Call, data: bytes) -> None:
        """An answer that the client's windows have no room for yet."""
        try:
            await call.stream.send_data(data)
            self._h2.send_headers(cast(int, call.stream.id), _OK, end_stream=True)
        except H2Error:
            _log.debug("a client left before its answer")
        call.task = None  # it is this very task: finishing must not cancel it
        self._settled(call, Code.OK)

    def _end_when_idle(self) -> None:
        if self._final and not self._under_way and not self._over():
            self._hang_up()

    def _over(self) -> bool:
        """Whether nothing may be sent any more."""
        return self._ended or self.connection.is_closing()

    def _hang_up(self) -> None:
        """Send no more, and read on for a while, so that no reset overtakes what was sent."""
        self.connection.flush()
        self._ended = True
        for call in self._under_way.values():
            call.cancel(ConnectionResetError())
        if self._timer is not None:
            self._timer.cancel()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            linger = self.shared.options.linger_s
            self._timer = asyncio.get_running_loop().call_later(linger, self._transport.close)
        else:
            self._transport.close()
