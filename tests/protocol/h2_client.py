"""HTTP/2 frame by frame, for what no official client does: a blocking socket and h2's client side."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes

INFER = "/inference.GRPCInferenceService/ModelInfer"


class _States(H2ConnectionStateMachine):
    """Goes on after a GOAWAY, as real clients do and h2 does not."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        """The next state."""
        goes_away = self.state is not ConnectionState.CLOSED and input_ is ConnectionInputs.RECV_GOAWAY
        return [] if goes_away else super().process_input(input_)


class Client:
    """One connection."""

    def __init__(self, port: int, window: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.state_machine = _States()
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()
        self.events: list[Event] = []
        self.closed = False

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what h2 has written."""
        self.socket.sendall(self.h2.data_to_send())

    def send(self, path: str, body: bytes, end: bool = True, **headers: str) -> int:
        """Begin a call; its stream's id."""
        number = self.h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "here",
            "te": "trailers",
            "content-type": "application/grpc",
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        self.h2.send_headers(number, [*fields.items()])
        self.h2.send_data(number, body, end_stream=end)
        self.flush()
        return number

    def until(self, done: Callable[[], bool]) -> None:
        """Read until something is there, or the server has closed."""
        while not done() and not self.closed:
            self.read()
        assert done(), f"the server closed first: {self.events}"

    def read(self) -> None:
        """One piece of what the server sends."""
        data = self.socket.recv(65_536)
        if not data:
            self.closed = True
            return
        self.events += self.h2.receive_data(data)
        self.flush()

    def until_closed(self) -> None:
        """Read to the end."""
        while not self.closed:
            self.read()

    def of(self, kind: type[Any], number: int | None = None) -> list[Any]:
        """Events of a kind, of one stream."""
        return [each for each in self.events if type(each) is kind and number in (None, getattr(each, "stream_id", 0))]

    def status(self, number: int) -> tuple[str, str]:
        """Wait for a call's end: `grpc-status` and message (or `:status` of what is no gRPC answer)."""
        self.until(lambda: bool(self._ends(number)))
        fields = dict(self._ends(number)[-1].headers or ())
        return str(fields.get("grpc-status", fields.get(":status"))), str(fields.get("grpc-message", ""))

    def data(self, number: int) -> bytes:
        """The bytes of a response so far."""
        return b"".join(each.data for each in self.of(DataReceived, number))

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """Last stream id and error code of each GOAWAY."""
        return [(each.last_stream_id, int(each.error_code)) for each in self.of(ConnectionTerminated)]

    def resets(self, number: int) -> list[int]:
        """Error codes of a stream's resets."""
        return [int(each.error_code) for each in self.of(StreamReset, number)]

    def _ends(self, number: int) -> list[Any]:
        heads = [each for each in self.of(ResponseReceived, number) if each.stream_ended is not None]
        return heads + self.of(TrailersReceived, number)
