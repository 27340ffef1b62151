"""What a person may order of a rollout, and what is refused before it is recorded: pure.

An order becomes one event with exactly these bodies: `{"service", "reason"}`, for a resumption also
`advance`, for a return also `version` (a text, or null for the release before). The reconciler reads
them and judges again with what it knows then; what is refused here could not have been carried out
when it was asked. Who asks and why is mandatory. An abort is never refused for its wording, nor
because something could not be read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.apps.control.memory import ABORT, PAUSE, RESUME, RETURN, Memory
from interlock.base.errors import RefusedError, UsageError
from interlock.privacy.redact import redact
from interlock.rollout.options import RolloutOptions
from interlock.rollout.states import FINAL, State
from interlock.rollout.values import Rollout
from interlock.trust.event import NewEvent

KINDS: Mapping[str, str] = {"abort": ABORT, "pause": PAUSE, "resume": RESUME, "rollback": RETURN}
"""Order to the type of its event."""
MAX_REASON = 400
MAX_ACTOR = 128
_MAX_VERSION = 64
_GOING_BACK = (State.ROLLING_BACK, State.RETREATED)
_CAN_ADVANCE = (State.SHADOW, State.CANARY, State.WATCHING)
_FIELDS: Mapping[str, frozenset[str]] = {
    "abort": frozenset({"actor", "reason", "latched"}),
    "pause": frozenset({"actor", "reason"}),
    "resume": frozenset({"actor", "reason", "advance"}),
    "rollback": frozenset({"actor", "reason", "version"}),
}


class UnknownError(UsageError):
    """There is no such thing: another name is needed."""


class NotNowError(RefusedError):
    """Not in the state that it is in."""


@dataclass(frozen=True)
class Order:
    """What somebody asks for.

    Attributes:
        kind: of `KINDS`.
        service: whose rollout.
        actor: who asks; one printable line.
        reason: why; one printable line without card numbers.
        advance: of a resumption: accept what evidence is missing.
        version: of a return: to which; None: the release before the live one.
        latched: of an abort: the supervisor was latched before, so the rollout may have ended by now.
    """

    kind: str
    service: str
    actor: str
    reason: str
    advance: bool = False
    version: str | None = None
    latched: bool = False


@dataclass(frozen=True)
class Standing:
    """What the events say of a service when something is asked of it.

    Attributes:
        known: any rollout or refused release of it is recorded.
        under_way: its unfinished rollout.
        authors: who wrote the release under way.
        live: the version that serves when nothing is under way.
        earlier: versions within the horizon, newest first.
    """

    known: bool
    under_way: Rollout | None = None
    authors: tuple[str, ...] = ()
    live: str | None = None
    earlier: tuple[str, ...] = ()


def line(text: Any, most: int) -> str:
    """`text` as one printable line without card numbers, at most `most` characters; empty: nothing was said.

    Redacted before it is cut, so that no part of a number is left, and after, since a cut may make one.
    """
    if not isinstance(text, str):
        return ""
    flat = " ".join(text[: 8 * most].split())
    printable = "".join(each if each.isprintable() else "?" for each in flat)
    return redact(redact(printable)[:most])[:most].strip()


def parse(kind: str, service: str, body: Mapping[str, Any], actor: str | None = None) -> Order:
    """The order that a body asks for.

    Args:
        kind: of `KINDS`.
        service: from the path.
        body: as it was sent.
        actor: who was identified; None: the body says it.

    Raises:
        UsageError: an unknown field, or no actor, or no reason.
    """
    unknown = sorted(set(body) - _FIELDS[kind])
    if unknown:
        raise UsageError(f"an unknown field in the order to {kind}", f"known: {', '.join(sorted(_FIELDS[kind]))}")
    who = actor if actor is not None else line(body.get("actor"), MAX_ACTOR)
    reason = line(body.get("reason"), MAX_REASON)
    if not who or not reason:
        raise UsageError(f"an order to {kind} needs an actor and a reason", 'send {"actor": …, "reason": …}')
    advance, latched, version = body.get("advance", False), body.get("latched", False), body.get("version")
    if not isinstance(advance, bool) or not isinstance(latched, bool):
        raise UsageError("a switch is neither true nor false", "leave it out, or send true")
    if version is not None and (not isinstance(version, str) or not version or line(version, _MAX_VERSION) != version):
        raise UsageError("the version is no name", "send a version's name, or leave it out for the release before")
    return Order(kind, service, who, reason, advance, version, latched)


def standing(memory: Memory, service: str, options: RolloutOptions, now_ns: int, known: bool = True) -> Standing:
    """The standing of a service, from what the reconciler itself would fold.

    `known` is for a service of which nothing is unfinished or settled; authors are not in memory.
    """
    active = memory.active(service)
    under_way = active if active is not None and active.state not in FINAL else None
    settled = memory.settled.get(service, [])
    earlier = memory.earlier(service, options, now_ns)
    return Standing(
        known or bool(active or settled),
        under_way,
        (),
        settled[-1].version if settled else None,
        tuple(dict.fromkeys(each.version for each in earlier)),
    )


def check(order: Order, now: Standing) -> None:
    """Let an order pass, or say why it cannot be carried out.

    Raises:
        UnknownError: no such service or version.
        NotNowError: not in the state that it is in.
        RefusedError: this person may not.
    """
    if not now.known:
        raise UnknownError("no release of this service is known here", "see `interlock rollout list`")
    _CHECKS[order.kind](order, now)


def event(order: Order, now_ns: int) -> NewEvent:
    """The event that records an order."""
    body: dict[str, Any] = {"service": order.service, "reason": order.reason}
    if order.kind == "resume":
        body["advance"] = order.advance
    if order.kind == "rollback":
        body["version"] = order.version
    return NewEvent(
        time_ns=now_ns,
        type=KINDS[order.kind],
        actor=order.actor,
        origin="control-api",
        object=f"service/{order.service}",
        outcome="success",
        body=body,
    )


def _abort(order: Order, now: Standing) -> None:
    if now.under_way is None and not order.latched:
        raise _idle(order, now)


def _pause(order: Order, now: Standing) -> None:
    if now.under_way is None:
        raise _idle(order, now)
    if now.under_way.state in _GOING_BACK:
        raise NotNowError(_going_back(order), "there is nothing left to stop")


def _resume(order: Order, now: Standing) -> None:
    rollout = now.under_way
    if rollout is None:
        raise _idle(order, now)
    if rollout.state in _GOING_BACK:
        raise NotNowError(_going_back(order), "propose the release again when its cause is mended")
    held = rollout.state is State.HELD or bool(rollout.asked)
    if rollout.hold == "blocked":
        raise NotNowError("the candidate is the only healthy copy", "bring the champion back first; it then goes on")
    if not held and not (order.advance and rollout.state in _CAN_ADVANCE):
        raise NotNowError(
            f"the rollout of {order.service} is not held ({rollout.state.value})",
            "wait for it; `--advance` accepts the evidence that a part still waits for",
        )
    if order.advance:
        _another(order, rollout, now.authors)


def _another(order: Order, rollout: Rollout, authors: Collection[str]) -> None:
    """Four eyes: where evidence decides, its absence is not for the release's own author to accept."""
    if rollout.plan is None or rollout.plan.advance != "evidence":
        return
    names = {order.actor.lower(), order.actor.partition("@")[0].lower()}
    if names & {author.lower() for author in authors}:
        raise RefusedError(
            "an author of the release may not accept that its evidence is missing", "have somebody else do it"
        )


def _rollback(order: Order, now: Standing) -> None:
    known = ", ".join(now.earlier) or "none"
    if now.live is None:
        raise NotNowError(f"{order.service} has no settled version to return to", "abort what is under way instead")
    if now.under_way is not None and order.version in (None, now.live):
        return  # the abort that this also is leaves what was wanted
    if order.version is not None and order.version == now.live:
        raise NotNowError(f"{order.service} serves this version already", f"within the horizon besides it: {known}")
    if order.version is None and not now.earlier:
        raise NotNowError("no earlier version is within the horizon", "propose one as a release")
    if order.version is not None and order.version not in now.earlier:
        raise UnknownError(
            "this version is not within the horizon", f"within it: {known}; propose any other as a release"
        )


def _idle(order: Order, now: Standing) -> NotNowError:
    serves = f"; it serves {now.live}" if now.live else ""
    remedy = f"to return to an earlier version: `interlock rollout rollback {order.service} --reason …`"
    if order.kind != "abort" or not now.earlier:
        remedy = "see `interlock rollout list`"
    return NotNowError(f"no rollout of {order.service} is under way{serves}", remedy)


def _going_back(order: Order) -> str:
    return f"the rollout of {order.service} is going back already"


_CHECKS: Mapping[str, Callable[[Order, Standing], None]] = {
    "abort": _abort,
    "pause": _pause,
    "resume": _resume,
    "rollback": _rollback,
}
