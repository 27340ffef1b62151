"""`interlock rollout abort`, `pause`, `resume`, `rollback`: what people do to a rollout.

Exit codes without `--wait`: 0 the order is recorded (an abort: or the latch holds), 1 refused, 2 usage, 3 nobody was
reached. With `--wait` the end of what was ordered: 0 as ordered, 1 refused or superseded, 3 still under way or held
when the time is over, 4 rolled back although something else was ordered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EXIT_ROLLED_BACK,
    Output,
    emit,
    hint,
    note,
)

if TYPE_CHECKING:
    from interlock.apps.control.client import ControlClient
    from interlock.settings import Settings
    from interlock.trust.event import Event

_POLL_S = 0.5
_Service = Annotated[str, typer.Argument(help="Whose rollout.")]
_Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
_Person = Annotated[str | None, typer.Option(help="Who; the login name if not given.")]
_Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it has ended, and tell what happens.")]
_Timeout = Annotated[float, typer.Option(min=0.0, help="With --wait: seconds to stay at most.")]
_ENDS = {"settled": EXIT_OK, "refused": EXIT_FAILED, "superseded": EXIT_FAILED, "rolled_back": EXIT_ROLLED_BACK}

Line = dict[str, Any]
Judge = Callable[[Line], int | None]
"""A rollout's line to the exit code that it means; None: go on waiting."""


def add_to(group: typer.Typer) -> None:
    """Add the commands to the noun."""
    group.command()(pause)
    group.command()(resume)
    group.command()(abort)
    group.command()(rollback)


def pause(
    service: _Service,
    reason: _Reason,
    person: _Person = None,
    wait: _Wait = False,
    timeout: _Timeout = 600.0,
    output: Output = "table",
) -> None:
    """Stop a rollout where it is; its guards go on, and a breach still takes it back."""
    with _control() as client:
        event = client.pause(service, reason, _actor(person))
        end = _follow(client, service, timeout, _held) if wait else None
    _tell(output, event, end, f"interlock rollout resume {service} --reason …")


def resume(  # long: a command's options
    service: _Service,
    reason: _Reason,
    advance: Annotated[
        bool, typer.Option("--advance", help="Accept the evidence that is missing: begin the next part now.")
    ] = False,
    person: _Person = None,
    wait: _Wait = False,
    timeout: _Timeout = 600.0,
    output: Output = "table",
) -> None:
    """Let a held rollout go on, with a new deadline."""
    with _control() as client:
        event = client.resume(service, reason, _actor(person), advance)
        end = _follow(client, service, timeout, _Resumed()) if wait else None
    _tell(output, event, end, "interlock rollout show")


def rollback(  # long: a command's options
    service: _Service,
    reason: _Reason,
    to: Annotated[str | None, typer.Option(metavar="VERSION", help="The release before the live one if not given.")] = (
        None
    ),
    person: _Person = None,
    wait: _Wait = False,
    timeout: _Timeout = 600.0,
    output: Output = "table",
) -> None:
    """Return to a version that had settled: by the inverse commit, without a new analysis. A rollout is aborted."""
    with _control() as client:
        event = client.rollback(service, reason, _actor(person), to)
        end = _returned(client, event, timeout) if wait else None
    _tell(output, event, end, "interlock rollout show")


def abort(
    service: Annotated[str, typer.Argument(help="The service to take back to its champion.")],
    reason: _Reason,
    person: _Person = None,
    wait: _Wait = False,
    timeout: _Timeout = 60.0,
    output: Output = "table",
) -> None:
    """Take all traffic back to the champion now: the supervisor's latch first, then the record."""
    from interlock import settings
    from interlock.apps.control import orders
    from interlock.base.errors import InterlockError, UnreachableError, UsageError

    current, actor, why = settings.load(), _actor(person), orders.line(reason, orders.MAX_REASON)
    if not why:
        raise UsageError("an abort needs a reason", "say why: it is recorded")
    traffic = _traffic(current, service)
    latch = _latch(current, service, why, actor) if traffic != "settled" else ""
    recorded, end = True, None
    try:
        with _control(current) as client:
            client.abort(service, why, actor, bool(latch))
    except InterlockError as error:
        if not latch and not isinstance(error, UnreachableError):
            raise
        # The latch holds; the controller finds it and records it. Nothing seemed to be under way, but nobody can tell.
        recorded, latch = False, latch or (_latch(current, service, why, actor) if traffic else "")
        note(f"not recorded yet: {error}")
    if not latch and not recorded:
        raise UnreachableError("neither the supervisor nor the control API was reached", "run `interlock doctor`")
    if wait and recorded:
        with _control(current) as client:
            end = _follow(client, service, timeout, _gone)
    found = {"service": service, "latch": latch or None, "latched": bool(latch), "recorded": recorded, "reason": why}
    emit(output, found | _outcome(end))
    hint("interlock rollout show")
    raise SystemExit(EXIT_OK if not wait else EXIT_INCONCLUSIVE if end is None else end[0])


def _traffic(current: Settings, service: str) -> str:
    """What the supervisor routes: `unsettled`, or `settled` (as is what it does not know); empty: no answer."""
    from interlock.base.errors import InterlockError
    from interlock.wiring import control

    try:
        seen = control.scorers(current).observe(service, 0).services.get(service)
    except InterlockError:
        return ""
    if seen is None or seen.table is None or (seen.table.settled and seen.latch is None):
        return "settled"
    return "unsettled"


def _latch(current: Settings, service: str, reason: str, actor: str) -> str:
    """The id of a latch that holds now; empty: the supervisor was not reached."""
    from interlock.base.clock import SystemClock
    from interlock.base.errors import InterlockError
    from interlock.base.ids import SystemIds, uuid7
    from interlock.wiring import control

    now = SystemClock().now_ns()
    latch = uuid7(now, SystemIds().random(10))
    try:
        control.scorers(current).retreat(service, latch, reason, actor, now)
    except InterlockError as error:
        note(f"the supervisor did not latch: {error}")
        return ""
    return latch


def _control(current: Settings | None = None) -> ControlClient:
    from interlock import settings
    from interlock.apps.control.client import ControlClient

    return ControlClient.open(current or settings.load())


def _actor(person: str | None) -> str:
    import getpass

    return person or getpass.getuser()


# --- waiting ------------------------------------------------------------------------------------


def _held(line: Line) -> int | None:
    return EXIT_OK if line["state"] == "held" else _ENDS.get(line["outcome"])


def _gone(line: Line) -> int | None:
    """An abort's end: settled all the same is the one that was not ordered."""
    if line["outcome"] == "unfinished":
        return None
    return EXIT_FAILED if line["outcome"] == "settled" else EXIT_OK


def _ended(line: Line) -> int | None:
    return _ENDS.get(line["outcome"])


class _Resumed:
    """Ended, or held again after it had gone on."""

    def __init__(self) -> None:
        self._went_on = False

    def __call__(self, line: Line) -> int | None:
        self._went_on = self._went_on or line["state"] != "held"
        if self._went_on and line["state"] == "held":
            return EXIT_INCONCLUSIVE
        return _ENDS.get(line["outcome"])


def _follow(
    client: ControlClient, service: str, timeout: float, judge: Judge, since: str = ""
) -> tuple[int, Line | None]:
    """Watch the service's newest rollout (that started at `since` or later) until `judge` is satisfied."""
    from interlock.base.errors import UnreachableError

    limit, told, line = time.monotonic() + timeout, "", None
    while True:
        try:
            mine = [each for each in client.rollouts() if each["service"] == service and each["started"] >= since]
        except UnreachableError as error:  # a control process that starts again must not end the waiting
            mine = [line] if line else []
            note(str(error))
        line = mine[-1] if mine else None
        if line is not None:
            words = f"{line['state']} {line['share']:.0%} {line['reason'] or ''}".rstrip()
            if words != told:
                note(f"{line['version']}: {words}")
            told, code = words, judge(line)
            if code is not None:
                return code, line
        if time.monotonic() >= limit:
            note(f"still under way after {timeout:g} s")
            return EXIT_INCONCLUSIVE, line
        time.sleep(_POLL_S)


def _returned(client: ControlClient, event: Event, timeout: float) -> tuple[int, Line | None]:
    """Wait for the answer to a return, then for the rollout that it begins or ends."""
    from interlock.base.clock import rfc3339

    service, limit = str(event.body["service"]), time.monotonic() + timeout
    answer = _answer(client, event)
    while answer is None:
        if time.monotonic() >= limit:
            note(f"not carried out after {timeout:g} s")
            return EXIT_INCONCLUSIVE, None
        time.sleep(_POLL_S)
        answer = _answer(client, event)
    if answer.type == "release.refused":
        note(str(answer.body["reason"]))
        return EXIT_FAILED, None
    outcome = str(answer.body["reverted"]).partition(" ")[0]
    if outcome == "pushed":
        return _follow(client, service, limit - time.monotonic(), _ended, rfc3339(event.time_ns))
    return _follow(client, service, limit - time.monotonic(), _gone) if outcome == "aborted" else (EXIT_OK, None)


def _answer(client: ControlClient, event: Event) -> Event | None:
    from interlock.base.errors import UnreachableError

    try:
        found = client.events(event.id, ("release.reverted", "release.refused"))
    except UnreachableError:
        return None
    return next((each for each in found if each.body.get("request") == str(event.id)), None)


def _tell(output: str, event: Event, end: tuple[int, Line | None] | None, following: str) -> None:
    emit(output, {"event": event.id, "type": event.type, "actor": event.actor, **event.body} | _outcome(end))
    hint(following)
    raise SystemExit(EXIT_OK if end is None else end[0])


def _outcome(end: tuple[int, Line | None] | None) -> dict[str, Any]:
    if end is None:
        return {}
    line = end[1]
    return {"rollout": line and line["id"], "state": line and line["state"], "why": line and line["reason"]}
