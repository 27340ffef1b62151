"""One request of the scoring API and the place of its response."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from interlock.serving.trace import Trace
from interlock.serving.wire import v1

if TYPE_CHECKING:
    from interlock.apps.scorer.http import Connection

JSON = b"application/json"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Head:
    """A request's head; shared by all requests whose heads are equal.

    Attributes:
        method: such as `POST`.
        path: without the query.
        headers: lower-case names; repeated ones joined by commas.
        length: bytes of the body, where the head alone tells.
        plan: what the door has found out about it, which depends on nothing else.
    """

    __slots__ = ("headers", "length", "method", "path", "plan")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[bytes, bytes] = {}
        self.length = 0
        self.plan: Any = None


class Exchange:
    """One request and the place of its response.

    Attributes:
        head: of the request.
        body: whole.
        closes: the connection ends after this one.
        label: `<service>|<model version>` for the latency metric, or empty.
        trace: what it goes through, where that is sampled.
    """

    __slots__ = ("_connection", "body", "closes", "head", "label", "response", "started_ns", "trace")

    def __init__(self, connection: Connection, head: Head, started_ns: int) -> None:
        self._connection = connection
        self.head = head
        self.body = b""
        self.closes = False
        self.label = ""
        self.trace: Trace | None = None
        self.started_ns = started_ns
        self.response: tuple[bytes, bytes] | None = None
        """(head without its last line, body): whether it closes is known when it goes out."""

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The verified certificate of the client, as `getpeercert()` gives it; None: it has none."""
        return self._connection.certificate

    def answer(self, body: bytes) -> None:
        """Answer 200 with JSON: the usual case, kept short."""
        if self.response is None:
            server = self._connection.server
            server.note(self, 200)
            self.response = b"%b%d\r\n" % (server.usual, len(body)), body
            self._connection.flush()

    def respond(self, status: int, body: bytes, kind: bytes = JSON, extra: bytes = b"") -> None:
        """Answer; it goes out when everything before it has."""
        if self.response is not None:
            return
        server = self._connection.server
        server.note(self, status)
        head = b"HTTP/1.1 %d %b\r\ndate: %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b" % (
            status,
            _REASONS.get(status, b"Unknown"),
            server.date,
            kind,
            len(body),
            extra,
        )
        self.response = head, b"" if self.head.method == "HEAD" else body
        self._connection.flush()

    def refuse(self, status: int, message: str, retry_s: int = 0, extra: bytes = b"") -> None:
        """Answer with the protocol's error object."""
        again = b"retry-after: %d\r\n" % retry_s if retry_s else b""
        self.respond(status, v1.error(message), extra=again + extra)


def plain(raw: bytes, headers: dict[bytes, bytes], fields: int) -> bool:
    """Whether equal bytes always are exactly this head, and what follows is a body of the length it states.

    One line ending per field, per request line and at the end: then nothing is folded, no line ends
    without CR, and the head ends where `raw` does. A trace id makes every head another one.
    """
    return (
        raw.count(b"\n") == raw.count(b"\r\n") == fields + 2
        and b"transfer-encoding" not in headers
        and b"expect" not in headers
        and b"traceparent" not in headers
    )


def path_of(url: bytes) -> str:
    """The path of a request's target, in origin or absolute form (RFC 9112 section 3.2), without its query."""
    target = url.split(b"?", 1)[0].decode("ascii", "replace")
    if target.startswith("/") or "://" not in target:
        return target
    return urlsplit(target).path or "/"
