"""`interlock up`, `down`, `doctor`: the platform of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit, hint, note, rows

if TYPE_CHECKING:
    import threading

    from interlock.wiring.platform import Part, Platform

_RESTARTS = 5
"""So many restarts of ended parts within `_RESTART_WINDOW_S` are one too many."""
_RESTART_WINDOW_S = 60.0
_WATCH_S = 0.5
_REST_S = 10.0
"""A part that is not vital is started again after so long at the earliest."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(up)
    app.command()(down)
    app.command()(doctor)


def up(output: Output = "table") -> None:
    """Start the whole platform and stay in the foreground; Ctrl-C drains it."""
    import signal
    import threading

    from interlock import settings
    from interlock.wiring.platform import Platform

    wanted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: wanted.set())
    current = settings.load()
    platform = Platform.start(current)
    try:
        emit(output, {"home": str(current.home), **platform.endpoints})
        note(f"logs: {current.places.run}/*.log; Ctrl-C drains and ends everything")
        if current.rollout.repository is None:
            hint("interlock release init DIR, then set rollout.repository in settings.yaml")
        _keep_up(platform, wanted)
    finally:
        note("draining")
        platform.stop()


def _keep_up(platform: Platform, wanted: threading.Event) -> None:
    import time
    from collections import deque

    from interlock.base.errors import UnreachableError

    restarts: deque[float] = deque(maxlen=_RESTARTS)
    tried: dict[str, float] = {}
    while not wanted.wait(_WATCH_S):
        for part in platform.ended():
            now = time.monotonic()
            if not part.vital:
                if now - tried.get(part.name, -_REST_S) >= _REST_S:
                    tried[part.name] = now
                    start_if_it_will(platform, part)
                continue
            if len(restarts) == _RESTARTS and now - restarts[0] < _RESTART_WINDOW_S:
                raise UnreachableError(f"the {part.name} ends again and again", f"read run/{part.name}.log")
            restarts.append(now)
            note(f"the {part.name} ended; starting it again (see run/{part.name}.log)")
            platform.start_part(part)


def start_if_it_will(platform: Platform, part: Part) -> None:
    """Start a part that nothing else waits for; what keeps it from starting is told, and tried again later."""
    from interlock.base.errors import UnreachableError

    note(f"the {part.name} ended; starting it again (see run/{part.name}.log)")
    try:
        platform.start_part(part)
    except UnreachableError as error:
        note(error.message)


def down(output: Output = "table") -> None:
    """Drain and end the platform that `interlock up` started in this home."""
    from interlock import settings
    from interlock.wiring.platform import bring_down

    stopped = bring_down(settings.load().places.run)
    emit(output, {"stopped": stopped})


def doctor(output: Output = "table") -> None:
    """Check this installation: every check, what was found, and what to do about it."""
    from dataclasses import asdict, astuple

    from interlock.wiring.doctor import examine

    findings = examine()
    broken = any(finding.state == "broken" for finding in findings)
    emit(
        output,
        {"ok": not broken, "checks": [asdict(finding) for finding in findings]},
        lambda: rows(["check", "state", "finding", "fix"], [astuple(finding) for finding in findings]),
    )
    if broken:
        raise typer.Exit(EXIT_FAILED)
