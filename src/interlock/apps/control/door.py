"""The door of the control API: who asks, and whether the table lets them.

Contract. The token of `run/control.token` is the local operator: everything is allowed, and who acts
is whom the caller names. Everybody else needs an API key or an issuer's token of
`trust/access.yaml`, is asked for one action of `trust.grants`, and acts under the principal's own
name. Nobody is anonymous here, whatever the file grants to the anonymous. A credential that does not
hold is 401, what is not granted 403, and nothing was done. Denials become `access.denied` events:
the first of its kind at once, those after it counted and told once a minute, so that whoever is
denied does not fill the log. A changed file is in force at the next request; a broken or removed
one leaves the one of before.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool

from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError
from interlock.privacy import pan
from interlock.trust.access import Access
from interlock.trust.access_file import SOURCE, UNKNOWN
from interlock.trust.event import NewEvent
from interlock.trust.ports import EventStore
from interlock.trust.principal import Issuer, Principal

TELL_S = 60
"""Pause between two events of one kind of denial."""
KINDS = 64
"""Kinds of denials told apart; those beyond share one event."""
ANY = "*"
"""A service that no list of services holds: what concerns all of them."""
_MAX_CREDENTIAL = 8_192 + 16
_log = logging.getLogger(__name__)
Judged = TypeVar("Judged")


class UnidentifiedError(RefusedError):
    """Nobody knows who asks."""


class DeniedError(RefusedError):
    """Known, and not allowed."""


class Tokens(Protocol):
    """Verifies tokens; `adapters.oidc.verifier.Verifier`."""

    def verify(self, token: str, judge: Callable[[Mapping[str, Any]], Judged]) -> Judged:
        """What `judge` says of the claims, if the signature holds; RefusedError, UnreachableError."""
        ...

    async def refresh(self, now_ns: int) -> bool:
        """Renew keys where it is time to."""
        ...


MakeTokens = Callable[[Collection[Issuer], Any], Tokens | None]


@dataclass(frozen=True)
class Caller:
    """Who asks; `principal` None: the local operator."""

    principal: Principal | None = None

    @property
    def actor(self) -> str | None:
        """The name that an event carries; None: the one that the caller gives."""
        return None if self.principal is None else self.principal.name


class Denials:
    """What was denied: at once, then counted. Pure but for its memory."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._told_ns: dict[tuple[str, str, str, str], int] = {}

    def note(self, what: tuple[str, str, str, str], now_ns: int) -> list[NewEvent]:
        """Count a denial (principal, action, service, reason); the events that are due."""
        if what not in self._told_ns and len(self._told_ns) >= KINDS:
            what = (UNKNOWN, "several", "", "denials beyond those listed")
        self._counts[what] = self._counts.get(what, 0) + 1
        return self.due(now_ns)

    def due(self, now_ns: int) -> list[NewEvent]:
        """The events of those whose pause is over; kinds that have been quiet for that long are forgotten."""
        over = [what for what, told in self._told_ns.items() if now_ns - told >= TELL_S * NS_PER_S]
        for what in over:
            del self._told_ns[what]
        ready = [what for what in self._counts if what not in self._told_ns]
        self._told_ns.update(dict.fromkeys(ready, now_ns))
        return [_denied(what, self._counts.pop(what), now_ns) for what in ready]

    @property
    def waiting(self) -> bool:
        """Whether something counted is not told yet."""
        return bool(self._counts)


class Door:
    """See the module's contract.

    Args:
        token: of the local operator.
        store: takes the events of denials.
        clock: wall clock for expiry and denials, monotonic for keys.
        path: `trust/access.yaml`; None: only the local operator.
        make_tokens: verifier of the listed issuers' tokens, from them and the verifier of before.
    """

    def __init__(
        self,
        token: str,
        store: EventStore,
        clock: Clock,
        path: Path | None = None,
        make_tokens: MakeTokens = lambda issuers, before: None,
    ) -> None:
        self._token = token.encode()
        self._store = store
        self._clock = clock
        self._path = path
        self._make_tokens = make_tokens
        self._mark: tuple[int, int, int] | None = None
        self._access: Access | None = None
        self._tokens: Tokens | None = None
        self._denials = Denials()
        self._later: asyncio.Task[None] | None = None

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Who asks, from lower-case headers.

        Raises:
            UnidentifiedError: nobody, or a credential that does not hold.
            UnreachableError: an issuer's keys are not known yet.
        """
        scheme, _, given = headers.get("authorization", "").partition(" ")
        credential = (headers.get("x-api-key", "") or (given if scheme.lower() == "bearer" else "")).strip()
        if not credential:
            raise UnidentifiedError("no credential", "send the token of run/control.token, a key, or a token")
        if hmac.compare_digest(credential.encode(), self._token):
            return Caller()
        try:
            return Caller(await self._principal(credential))
        except RefusedError as error:
            await self._note(UNKNOWN, "authenticate", "", error.message)
            raise UnidentifiedError(error.message, error.remedy) from error

    async def check(self, caller: Caller, action: str, service: str = "") -> None:
        """Let somebody do that.

        Args:
            caller: as `identify` found it.
            action: of `trust.grants.ACTIONS`.
            service: which it concerns; empty: none in particular; `ANY`: all of them.

        Raises:
            DeniedError: the table, or the services granted, do not say so.
        """
        principal = caller.principal
        if principal is None or self.sees(caller, action, service):
            return
        await self._note(principal.name, action, service, "not granted")
        raise DeniedError(f"{action} is not granted here", f"ask for a role in {SOURCE}")

    def sees(self, caller: Caller, action: str, service: str) -> bool:
        """Whether somebody may, without a denial when not."""
        if caller.principal is None:
            return True
        return self._access is not None and self._access.allows(caller.principal, action, service)

    async def _principal(self, credential: str) -> Principal:
        await self._reread()
        if self._access is None or len(credential) > _MAX_CREDENTIAL:
            raise RefusedError("no valid credential", f"list keys and issuers in {SOURCE}")
        access, tokens, now_ns = self._access, self._tokens, self._clock.now_ns()
        if credential.startswith("ilk_"):
            return access.by_key(credential, now_ns)
        if tokens is None:
            raise RefusedError("no valid credential", f"list the token's issuer in {SOURCE}")
        await tokens.refresh(self._clock.monotonic_ns())
        return tokens.verify(credential, lambda claims: access.by_claims(claims, now_ns))

    async def _reread(self) -> None:
        mark = None if self._path is None else _mark(self._path)
        if self._path is None or mark is None or mark == self._mark:
            return
        try:
            access = Access.parse(await run_in_threadpool(self._path.read_bytes))
        except (InterlockError, OSError) as error:
            _log.error("the grants of before stay in force: %s", error)
        else:
            self._access = access
            self._tokens = self._make_tokens(tuple(access.issuers.values()), self._tokens)
        self._mark = mark

    async def _note(self, principal: str, action: str, service: str, reason: str) -> None:
        shown = service if not pan.find(service) and len(service) <= 64 and service.isprintable() else "?"
        await self._tell(self._denials.note((principal, action, shown, reason), self._clock.now_ns()))
        if self._denials.waiting and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._tell_later())

    async def _tell_later(self) -> None:
        while self._denials.waiting:
            await asyncio.sleep(TELL_S)
            await self._tell(self._denials.due(self._clock.now_ns()))

    async def _tell(self, events: list[NewEvent]) -> None:
        for event in events:
            _log.warning("denied: %s %s %s", event.actor, event.body["action"], event.body["reason"])
            try:
                await run_in_threadpool(self._store.append, event)
            except InterlockError as error:  # a denial that cannot be recorded is a denial all the same
                _log.error("a denial was not recorded: %s", error)


def _denied(what: tuple[str, str, str, str], count: int, now_ns: int) -> NewEvent:
    principal, action, service, reason = what
    return NewEvent(
        time_ns=now_ns,
        type="access.denied",
        actor=principal,
        origin="control-api",
        object=f"service/{service}" if service else "control-api",
        outcome="refused",
        body={"action": action, "service": service, "reason": reason, "count": count},
    )


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
