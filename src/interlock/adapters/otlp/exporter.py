"""Sends spans to a collector over OTLP/HTTP, from a thread of its own.

Contract. `offer` never waits and never fails: what does not fit into the queue is dropped and
counted, and so is a batch that the collector does not take. One attempt a batch: spans are samples,
and a queue behind a dead collector would only be older. After a failure the collector is left alone
for a while, longer each time. `close` sends what is there within its patience and counts the rest.
The thread sleeps while there is nothing to send. A collector's answer is read up to a bound.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from interlock.adapters.otlp import encoding
from interlock.base.errors import UsageError
from interlock.serving.trace import Attribute, Span

BATCH = 128
"""Spans in one export: encoding them holds the interpreter, which a scoring loop wants back soon."""
GATHER_S = 0.5
"""How long spans gather before they are sent."""
PATIENCE_S = 2.0
"""For the collector to accept a connection, and for each piece of its answer."""
LONGEST_PAUSE_S = 30.0
_MOST = 65_536
_log = logging.getLogger(__name__)


class OtlpExporter:
    """A queue and the thread that empties it.

    Args:
        url: of the collector, `http://` or `https://`; `/v1/traces` is meant where it has no path.
        resource: what the spans are of, such as `service.name`.
        room: spans that may wait.

    Raises:
        UsageError: the URL is none of the two.
    """

    def __init__(self, url: str, resource: Mapping[str, Attribute], room: int) -> None:
        self._target = _target(url)
        self._resource = dict(resource)
        self._room = room
        self._waiting: deque[Span] = deque()
        self._awake = threading.Event()
        self._leave = threading.Event()
        self._refused = self._lost = 0
        self._pause_s = 0.0
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that reached nobody: of a full queue, and of a collector that did not take them."""
        return self._refused + self._lost  # two counters, since two threads count

    def offer(self, spans: Sequence[Span]) -> None:
        """Take a request's spans, all of them or none: half a trace misleads."""
        if len(self._waiting) + len(spans) > self._room or self._leave.is_set():
            self._refused += len(spans)
            return
        self._waiting.extend(spans)
        self._awake.set()

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Send what waits, for so long, and end; call it from where waiting is allowed."""
        self._leave.set()
        self._awake.set()
        self._thread.join(patience_s)
        self._refused += len(self._waiting)
        self._waiting.clear()

    def _work(self) -> None:
        while not self._leave.is_set():
            if not self._waiting:
                self._awake.wait()
            self._leave.wait(max(GATHER_S, self._pause_s))
            self._awake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._waiting:
            self._send()
            if self._pause_s:  # it failed: not again before the pause
                return

    def _send(self) -> None:
        batch: list[Span] = []
        while self._waiting and len(batch) < BATCH:
            batch.append(self._waiting.popleft())
        try:
            self._lost += encoding.rejected(self._post(encoding.request(batch, self._resource)))
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._lost += len(batch)
            if not self._pause_s:
                _log.warning("spans cannot be exported, dropping them: %s", type(error).__name__)
            self._pause_s = min(max(2 * self._pause_s, 1.0), LONGEST_PAUSE_S)
        else:
            if self._pause_s:
                _log.warning("spans are exported again")
            self._pause_s = 0.0

    def _post(self, body: bytes) -> bytes:
        kind = http.client.HTTPSConnection if self._target.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._target.hostname or "", self._target.port, timeout=PATIENCE_S)
        try:
            connection.request("POST", self._target.path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            answer = response.read(_MOST)
            if not 200 <= response.status < 300:
                raise OSError(f"the collector answered {response.status}")
            return answer
        finally:
            connection.close()


def _target(url: str) -> SplitResult:
    wrong = UsageError("otlp_url is not a collector's address", "write such as http://collector:4318")
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        raise wrong from None
    if found.scheme not in ("http", "https") or not found.hostname or port == 0 or found.username or found.query:
        raise wrong
    return found if found.path.strip("/") else found._replace(path="/v1/traces")
