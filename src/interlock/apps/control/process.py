"""The control process put together: one per home, proven by a lock on `run/control.lock`.

The lock is held for the life of the process and given up by the kernel at its death, however it
dies. Holding it therefore proves that every earlier controller of this home is gone, and the new
one may continue under the same lease at once instead of waiting for its end. Controllers of other
homes or machines have other names and go through the lease.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route

from interlock.apps.control import webhook
from interlock.apps.control.api import create
from interlock.apps.control.courier import Couriers, Desk, couriers, post
from interlock.apps.control.door import Door
from interlock.apps.control.gate import AdmissionGate
from interlock.apps.control.pace import Runner
from interlock.apps.control.reconciler import Ports, Reconciler
from interlock.apps.control.sequencer import Sequencer
from interlock.apps.control.server import Loop, listen, serve
from interlock.base.canonical import sha256_hex
from interlock.base.clock import SystemClock
from interlock.base.errors import RefusedError
from interlock.base.ids import SystemIds
from interlock.rollout import notices
from interlock.settings import Settings, publish_endpoint
from interlock.trust.ports import EventStore
from interlock.wiring import control as rows

Wrap = Callable[[str, Any], Any]
"""Puts something around a port, by name (`scorers`, `source`, `store`): crash tests kill there."""


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_log = logging.getLogger(__name__)


def run(settings: Settings, wrap: Wrap = lambda name, port: port) -> None:
    """The control process, until it is told to stop.

    Raises:
        RefusedError: a control process of this home runs already.
    """
    lock = _only_one(settings.places.run / "control.lock")
    if settings.control.host not in _LOOPBACK:
        _log.warning("the control API is open beyond this machine, in clear: encrypt before it")
    try:
        wake = threading.Event()
        reconciler = assemble(settings, wrap, wake)

        def hurry() -> None:
            reconciler.hurry()
            wake.set()

        app = api(settings, (webhook.route(settings.home, settings.control.webhook_secret, hurry),))
        listener = listen(settings.control.host, settings.control.port)
        host, port = listener.getsockname()[:2]
        loop = Loop(reconciler, settings.control.loop_s, wake)
        telling = messengers(settings, rows.event_store(settings))
        telling.start()
        try:
            serve(app, listener, loop, lambda: publish_endpoint(settings.home, "control", f"http://{host}:{port}"))
        finally:
            telling.stop()
            publish_endpoint(settings.home, "control", None)
    finally:
        os.close(lock)


def api(settings: Settings, hooks: Sequence[Route] = ()) -> Starlette:
    """The control API of this installation, with its door; `hooks` check their callers themselves."""
    store, clock, token = rows.event_store(settings), SystemClock(), rows.api_token(settings)
    make = partial(rows.token_verifier, settings)
    door = Door(token, store, clock, settings.places.trust / "access.yaml", make)
    return create(store, token, clock, settings.rollout, door, hooks)


def assemble(
    settings: Settings, wrap: Wrap = lambda name, port: port, wake: threading.Event | None = None
) -> Reconciler:
    """The reconciler of this installation; it sets `wake` when a turn is due early."""
    store, clock = rows.event_store(settings), SystemClock()
    holder = _holder(settings)
    sequencer = Sequencer(store, rows.sequenced_log(settings), clock, holder)
    source = rows.source(settings)
    ports = Ports(
        store=wrap("store", store),
        scorers=wrap("scorers", rows.scorers(settings)),
        source=None if source is None else wrap("source", source),
        gate=AdmissionGate(store, sequencer, settings, clock, source),
        clock=clock,
        ids=SystemIds(),
        runner=Runner(4, wake or threading.Event()),
        sequence=sequencer.run_once,
    )
    return Reconciler(ports, settings.rollout, settings.control, holder)


def messengers(settings: Settings, store: EventStore) -> Couriers:
    """Those who tell the endpoints of the settings, beside the reconciler and never before it.

    Raises:
        UsageError: an endpoint, or a type of event, that is none.
    """
    return couriers(
        Desk(
            store=store,
            clock=SystemClock(),
            ids=SystemIds(),
            post=post(settings.notify.timeout_s),
            secrets=lambda: notices.secrets(rows.notify_secret(settings)),
            options=settings.notify,
            holder=_holder(settings),
        )
    )


def _holder(settings: Settings) -> str:
    return f"{socket.gethostname()}:{sha256_hex(str(settings.home).encode())[:12]}"


def _only_one(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RefusedError("a control process of this home runs already", "stop it first: `interlock down`") from error
    return lock
