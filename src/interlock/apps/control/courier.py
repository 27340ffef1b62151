"""Carries notices to endpoints: the events table is the queue, and one thread an endpoint empties it.

Contract. At least once and in order for each endpoint: the next notice is sent when the one before was
taken (2xx) or given up. What an endpoint is done with is an event (`rollout.notices`), so a process
that was killed between sending and recording sends again, under the same `webhook-id`. A dead endpoint
delays only itself; the reconciler never waits. A failed attempt is repeated with growing pauses until
the event is `give_up_h` old, then recorded as failed; 410 ends an endpoint until the process starts
again; a redirect is a failure. Of several control processes one sends to an endpoint, by lease. An
endpoint that was never told anything begins with what happens from now on.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, UnreachableError
from interlock.base.ids import Ids
from interlock.rollout import notices
from interlock.rollout.notices import DELIVERED, FAILED, Endpoint
from interlock.rollout.options import NotifyOptions
from interlock.trust.event import Event, NewEvent
from interlock.trust.ports import EventStore

_log = logging.getLogger(__name__)
_PAGE = 100
_LEASE_NS = 60 * NS_PER_S
_GONE = 410
_STOP_S = 2.0
_CHANCES = 1 << 32

Post = Callable[[Endpoint, Mapping[str, str], bytes], int]
"""Sends one notice; the status of the answer. UnreachableError: there was none."""


@dataclass(frozen=True)
class Desk:
    """What all couriers of a process share."""

    store: EventStore
    clock: Clock
    ids: Ids
    post: Post
    secrets: Callable[[], tuple[bytes, ...]]
    """Read anew for each attempt: a rotation needs no restart."""
    options: NotifyOptions
    holder: str
    """Of leases."""


class Courier:
    """One endpoint's; `turn` it."""

    def __init__(self, to: Endpoint, types: Sequence[str], desk: Desk) -> None:
        self._to = to
        self._types = tuple(types)
        self._desk = desk
        self._cursor: int | None = None
        self._queue: deque[Event] = deque()
        self._owed: NewEvent | None = None
        self._attempts = 0
        self._not_before = 0
        self._lease_until = 0
        self.gone = False
        """It said that it wants nothing any more."""

    def turn(self) -> float:
        """Do what is due; seconds until the next turn."""
        idle = self._desk.options.poll_s
        if self.gone:
            return idle
        try:
            return self._turn(idle)
        except InterlockError as error:  # the store: nothing is lost, and nothing is sent twice for it
            _log.warning("notices to %s wait: %s", self._to.host, error)
            return max(idle, self._desk.options.first_retry_s)

    def _turn(self, idle: float) -> float:
        if self._owed is not None:
            self._pay(self._owed)
        if self._cursor is None:
            self._cursor = self._begin()
        event = self._next(self._cursor)
        if event is None:
            return idle
        left = self._not_before - self._desk.clock.monotonic_ns()
        if left > 0:
            return left / NS_PER_S
        if not self._lead():
            return 0.0 if self._lease_until else idle
        return self._deliver(event, idle)

    def _begin(self) -> int:
        """Where to go on: after what was recorded last, or from now on."""
        found = notices.cursor(self._all((DELIVERED, FAILED)), self._to)
        if found is not None:
            return found
        newest = max((event.id for event in self._all(self._types)), default=0)
        self._desk.store.append(
            notices.record(DELIVERED, self._to, newest, self._desk.clock.now_ns(), {"begins": True})
        )
        return newest

    def _all(self, types: Sequence[str]) -> list[Event]:
        found: list[Event] = []
        while page := self._desk.store.after(found[-1].id if found else 0, types):
            found += page
        return found

    def _next(self, cursor: int) -> Event | None:
        if not self._queue:
            self._queue.extend(self._desk.store.after(cursor, self._types, _PAGE))
        return self._queue[0] if self._queue else None

    def _lead(self) -> bool:
        """Whether this process sends; what another one has sent is read before the first notice."""
        now = self._desk.clock.now_ns()
        if now < self._lease_until - _LEASE_NS // 2:
            return True
        before = self._lease_until > now
        if self._desk.store.lease(f"notify/{self._to.name}", self._desk.holder, now, _LEASE_NS) is None:
            self._lease_until, self._cursor = 0, None
            self._queue.clear()
            return False
        self._lease_until = now + _LEASE_NS
        if not before:
            self._cursor = None
            self._queue.clear()
        return before

    def _deliver(self, event: Event, idle: float) -> float:
        self._attempts += 1
        message = notices.message_id(event)
        told: dict[str, object] = {"type": event.type, "webhook": message, "attempts": self._attempts}
        try:
            status = self._send(event, message)
        except InterlockError as error:
            return self._failed(event, told, error.message)
        if 200 <= status < 300:
            self._done(event, DELIVERED, {**told, "status": status})
            return 0.0
        if status == _GONE:
            self.gone = True
            self._done(event, FAILED, {**told, "reason": "the endpoint is gone (410)"})
            return idle
        return self._failed(event, told, f"the endpoint answered {status}")

    def _send(self, event: Event, message: str) -> int:
        content = notices.body(event)
        at_s = self._desk.clock.now_ns() // NS_PER_S
        return self._desk.post(self._to, notices.headers(message, at_s, content, self._desk.secrets()), content)

    def _failed(self, event: Event, told: dict[str, object], reason: str) -> float:
        options = self._desk.options
        if notices.too_old(event, self._desk.clock.now_ns(), options.give_up_h * 3600):
            self._done(event, FAILED, {**told, "reason": reason})
            return 0.0
        if self._attempts == 1:
            _log.warning("a notice to %s failed and is tried again: %s", self._to.host, reason)
        chance = int.from_bytes(self._desk.ids.random(4), "big") / _CHANCES
        pause = notices.pause_s(self._attempts, chance, options.first_retry_s, options.longest_retry_s)
        self._not_before = self._desk.clock.monotonic_ns() + round(pause * NS_PER_S)
        return pause

    def _done(self, event: Event, kind: str, told: dict[str, object]) -> None:
        self._queue.popleft()
        self._cursor, self._attempts, self._not_before = event.id, 0, 0
        outcome = "success" if kind == DELIVERED else "failure"
        if outcome == "failure":
            _log.error("a notice to %s is given up: %s", self._to.host, told["reason"])
        self._pay(notices.record(kind, self._to, event.id, self._desk.clock.now_ns(), told, outcome))

    def _pay(self, record: NewEvent) -> None:
        """Record it now, or first thing next time: what was sent is not sent again for a store that was away."""
        self._owed = record
        self._desk.store.append(record)
        self._owed = None


class Couriers:
    """All endpoints of a process, each on a thread of its own."""

    def __init__(self, couriers: Sequence[Courier]) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name="courier", daemon=True) for each in couriers
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what is being sent may be sent again by the next process."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_STOP_S)

    def _run(self, courier: Courier) -> None:
        while not self._stop.is_set():
            try:
                pause = courier.turn()
            except Exception:  # a defect in telling must not end what is told about
                _log.exception("a notice could not be handled")
                pause = 60.0
            self._stop.wait(pause)


def couriers(desk: Desk) -> Couriers:
    """One for each endpoint of the options.

    Raises:
        UsageError: an endpoint or a type that is none.
    """
    types = notices.selected(desk.options.events)
    return Couriers([Courier(to, types, desk) for to in notices.endpoints(desk.options.urls)])


def post(timeout_s: float) -> Post:
    """Sends over HTTP: no redirect is followed, the answer's body is not read.

    A proxy of the environment is for the outside world, so an endpoint of this machine is reached without.
    """
    # It logs every URL that is asked for, and an endpoint's may hold a secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)

    def send(to: Endpoint, headers: Mapping[str, str], content: bytes) -> int:
        try:
            with (
                httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=not to.here) as client,
                client.stream("POST", to.url, headers=dict(headers), content=content) as reply,
            ):
                return reply.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise UnreachableError(
                f"the endpoint does not answer ({type(error).__name__})", "see that it runs, and that this host may"
            ) from error

    return send
