"""The gate of the scoring doors: who asks, whether they may, and how often.

Contract. One per worker, on its loop; nothing here waits. A credential that does not hold is 401
and never becomes anonymous; two credentials that name different principals are 401; what the table
does not allow is 403 (401 for somebody who presented nothing); too often is 429 with the time to
wait. What held is remembered under the SHA-256 of the header until it expires or a file changes,
since verifying a signature costs more than scoring; the credential itself is not kept. `refresh`, a
few times a second, takes over a changed `trust/access.yaml` (a broken one, or none, leaves the one
before in force), renews the issuers' keys on a thread, and hands denials over.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import math
import re
import ssl
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from interlock.apps.scorer.tls import tls_context
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.decision.admin import Denial
from interlock.privacy import pan
from interlock.serving.call import Unanswered
from interlock.serving.limits import Cells, Limits, shared_cells
from interlock.settings import Settings
from interlock.trust.access import Access, certificate_names
from interlock.trust.access_file import SOURCE, UNKNOWN
from interlock.trust.principal import Issuer, Principal
from interlock.wiring import scorer as rows

CHALLENGE = b'www-authenticate: Bearer realm="interlock"\r\n'
"""Header of every 401 (RFC 9110 section 11.6.1)."""
FILE = "access.yaml"
LIMITS = "limits"
REMEMBERED = 8_192
"""Credentials kept per worker; the one unused for longest gives way."""
DENIALS = 64
"""Kinds of denials told apart between two reports."""
TELL_S = (1, 64)
"""Pause between two reports: the first after nothing was denied, doubled up to the second while it goes on."""
MAX_CREDENTIAL = 8_192 + 16

_SERVICE = re.compile(r"[A-Za-z0-9._-]{0,64}")
_log = logging.getLogger(__name__)
Judged = TypeVar("Judged")


class Tokens(Protocol):
    """Verifies tokens; `adapters.oidc.verifier.Verifier`."""

    def verify(self, token: str, judge: Callable[[Mapping[str, Any]], Judged]) -> Judged:
        """What `judge` says of the claims, if the signature holds; RefusedError, UnreachableError."""
        ...

    async def refresh(self, now_ns: int) -> bool:
        """Renew keys; whether tokens must be judged anew."""
        ...


Denied = Callable[[Sequence[Denial]], None]
MakeTokens = Callable[[Collection[Issuer], Any], Tokens | None]


class Gate:
    """See the module's contract.

    Args:
        access: the grants to begin with.
        clock: wall clock for expiry, monotonic for rates.
        denied: gets what was denied, together: at once, and then seldom while it goes on, since every kind
            becomes an event of the log and whoever is denied decides how often.
        make_tokens: verifier of the listed issuers' tokens, from them and the verifier of before.
        path: the file that `refresh` watches; None: it never changes.
        cells: the table of `serving.limits` that the workers share; None: one of its own.
    """

    def __init__(  # long: what a worker and a test hand in
        self,
        access: Access,
        clock: Clock,
        denied: Denied = lambda _: None,
        make_tokens: MakeTokens = lambda issuers, before: None,
        path: Path | None = None,
        cells: Cells | None = None,
    ) -> None:
        self._clock = clock
        self._denied = denied
        self._make_tokens = make_tokens
        self._path = path
        self._mark = _mark(path)
        self._known: OrderedDict[bytes, Principal] = OrderedDict()
        self._certificates: OrderedDict[tuple[Any, ...], Principal | None] = OrderedDict()
        self._denials: dict[tuple[str, str, str, str], int] = {}
        self._tell_at_ns = 0
        self._tell_pause_s = 0
        self._fetching: asyncio.Task[None] | None = None
        self.denials = 0
        """Since the worker began."""
        self.generation = 0
        """Grows whenever grants or keys change: who was identified before must be identified again."""
        self.access = access
        self._limits = Limits(access.rates, cells)
        self._tokens = make_tokens(tuple(access.issuers.values()), None)

    @classmethod
    def from_home(cls, settings: Settings, clock: Clock, denied: Denied = lambda _: None) -> Gate:
        """The gate of an installation.

        Raises:
            UsageError: its access file breaks a rule.
            RefusedError: it has none, and listens beyond this machine.
        """
        path = settings.places.trust / FILE
        make = partial(rows.token_verifier, settings)
        cells = shared_cells(settings.places.run / LIMITS)
        return cls(read_access(settings), clock, denied, make, path, cells)

    # --- who ------------------------------------------------------------------------------------

    def identify(self, headers: Mapping[bytes, bytes], peer: Mapping[str, Any] | None = None) -> Principal:
        """Who asks.

        Args:
            headers: of the request, by lower-case names.
            peer: the verified client certificate as `getpeercert()` gives it; None or empty: none.

        Raises:
            Unanswered: 401 when a credential does not hold, 503 when an issuer's keys are not known yet.
        """
        bearer, key = headers.get(b"authorization"), headers.get(b"x-api-key")
        if bearer is None and key is None and not peer:
            return self.access.anonymous
        try:
            found = self._certified(peer) if peer else None
            if key is not None:
                found = _one(found, self._remembered(b"key", key))
            if bearer is not None:
                found = _one(found, self._remembered(b"bearer", bearer))
        except UnreachableError as error:
            raise Unanswered(503, error.message, 1) from error
        except RefusedError as error:
            self._note(UNKNOWN, "authenticate", "", error.message)
            raise Unanswered(401, str(error), 0) from error
        return found or self.access.anonymous

    def identify_call(self, metadata: Mapping[str, str], peer: Mapping[str, Any] | None = None) -> Principal:
        """`identify`, for a gRPC call's metadata."""
        names = ("authorization", "x-api-key")
        return self.identify({name.encode(): metadata[name].encode() for name in names if name in metadata}, peer)

    def check(self, principal: Principal, action: str, service: str = "", cost: int = 1) -> None:
        """Let somebody do that, or say why not.

        Args:
            principal: as `identify` found it.
            action: of `trust.grants.ACTIONS`.
            service: the service it concerns; empty: none in particular.
            cost: tokens of the principal's rate that it takes.

        Raises:
            Unanswered: 401, 403 or 429.
        """
        if not self.access.allows(principal, action, service):
            self._refuse(principal, action, service)
        wait_s = self._limits.admit(principal.name, cost, self._clock.monotonic_ns())
        if wait_s:
            self.denials += 1  # counted, and no event: who is busy has done nothing that he may not
            again = 0 if math.isinf(wait_s) else math.ceil(wait_s)
            raise Unanswered(429, "more requests than this principal's rate allows", again)

    def sees(self, principal: Principal, service: str) -> bool:
        """Whether a service is named to somebody: no denial, whatever the answer."""
        return self.access.allows(principal, "models", service)

    def _refuse(self, principal: Principal, action: str, service: str) -> None:
        nobody = principal.kind == "anonymous"
        self._note(principal.name, action, service, "no credential" if nobody else "not granted")
        if nobody:
            raise Unanswered(401, "a credential is needed — send Authorization: Bearer, or X-API-Key", 0)
        raise Unanswered(403, f"{action} is not granted here — ask for a role in {SOURCE}", 0)

    def _remembered(self, kind: bytes, value: bytes) -> Principal:
        """Whose header that is. Looked up by digest: comparing digests in time tells nothing of the value."""
        name = hashlib.sha256(kind + value).digest()
        known = self._known
        found = known.get(name)
        now_ns = self._clock.now_ns()
        if found is not None and now_ns < found.expires_ns:
            known.move_to_end(name)
            return found
        found = self._judge(kind, value, now_ns)
        known[name] = found
        if len(known) > REMEMBERED:
            known.popitem(last=False)
        return found

    def _judge(self, kind: bytes, value: bytes, now_ns: int) -> Principal:
        if len(value) > MAX_CREDENTIAL:
            raise RefusedError("the credential is too long", "send a key, or a token of a few kilobytes")
        text = value.decode("ascii", "replace").strip()
        if kind == b"bearer":
            scheme, _, text = text.partition(" ")
            text = text.strip()
            if scheme.lower() != "bearer":
                raise RefusedError("this scheme is not accepted here", "send Authorization: Bearer")
        if kind == b"key" or text.startswith("ilk_"):
            return self.access.by_key(text, now_ns)
        if self._tokens is None:
            raise RefusedError("tokens are not accepted here", f"list their issuer in {SOURCE}")
        return self._tokens.verify(text, lambda claims: self.access.by_claims(claims, now_ns))

    def _certified(self, peer: Mapping[str, Any]) -> Principal | None:
        name = (peer.get("subject"), peer.get("subjectAltName"), peer.get("notAfter"))
        if name in self._certificates:
            found = self._certificates[name]
        else:
            expires_ns = ssl.cert_time_to_seconds(peer["notAfter"]) * NS_PER_S if "notAfter" in peer else 0
            found = self.access.by_certificate(certificate_names(peer), expires_ns)
            self._certificates[name] = found
            if len(self._certificates) > REMEMBERED:
                self._certificates.popitem(last=False)
        if found is not None and found.expires_ns and self._clock.now_ns() >= found.expires_ns:
            raise RefusedError("the client certificate has expired", "connect again with the present one")
        return found

    # --- beside the traffic -----------------------------------------------------------------------

    async def watch(self, pause_s: float = 0.5) -> None:
        """Refresh for ever; a task of the worker."""
        while True:
            try:
                await self.refresh()
            except Exception:  # a defect here must not freeze the grants for ever
                _log.exception("the gate could not be refreshed")
            await asyncio.sleep(pause_s)

    async def refresh(self) -> None:
        """Take over a changed file, begin to renew keys, report denials."""
        await self._reread()
        if self._tokens is not None and (self._fetching is None or self._fetching.done()):
            self._fetching = asyncio.create_task(self._renew(self._tokens))
        self._tell(self._clock.monotonic_ns())

    async def keys_renewed(self) -> None:
        """Wait for a renewal of keys that is under way."""
        if self._fetching is not None:
            await self._fetching

    async def _reread(self) -> None:
        mark = _mark(self._path)
        if self._path is None or mark == self._mark:
            return
        self._mark = mark
        try:
            # On a thread: parsing thousands of keys takes longer than a request may wait.
            access = await asyncio.to_thread(_read, self._path)
        except (InterlockError, OSError) as error:
            # Also when the file is gone: removing it must not open the door.
            _log.error("the grants of before stay in force: %s", error)
            return
        self._install(access)
        _log.info("%s is in force (%s)", SOURCE, access.digest)

    def _install(self, access: Access) -> None:
        self.access = access
        self._limits.rates = access.rates
        self._tokens = self._make_tokens(tuple(access.issuers.values()), self._tokens)
        self._forget()

    def _forget(self) -> None:
        self.generation += 1
        self._known.clear()
        self._certificates.clear()

    async def _renew(self, tokens: Tokens) -> None:
        try:
            if await tokens.refresh(self._clock.monotonic_ns()):
                self._forget()
        except Exception:  # nobody awaits this task
            _log.exception("keys of the issuers could not be renewed")

    def _tell(self, now_ns: int) -> None:
        if now_ns < self._tell_at_ns:
            return
        self._tell_pause_s = min(max(2 * self._tell_pause_s, TELL_S[0]), TELL_S[1]) if self._denials else 0
        if self._denials:
            self._tell_at_ns = now_ns + self._tell_pause_s * NS_PER_S
            held, self._denials = self._denials, {}
            self._denied([Denial(*what, count) for what, count in held.items()])

    def _note(self, principal: str, action: str, service: str, reason: str) -> None:
        self.denials += 1
        what = (principal, action, service if _SERVICE.fullmatch(service) and not pan.find(service) else "?", reason)
        if what not in self._denials and len(self._denials) >= DENIALS:
            what = (UNKNOWN, action, "", "denials beyond those listed")
        self._denials[what] = self._denials.get(what, 0) + 1


def prepare(settings: Settings) -> None:
    """What a supervisor does before it listens: refuse a door that would be open to everybody.

    Raises:
        UsageError: the access file, or the options of TLS, break a rule.
        RefusedError: there is no access file, and the scoring door is open beyond this machine.
    """
    access = read_access(settings)
    encrypted = tls_context(settings.scoring, settings.home) is not None
    if not encrypted and not is_loopback(settings.scoring.host):
        _log.warning(
            "the scoring door is open beyond this machine without TLS: set scoring.tls_cert, or encrypt before it"
        )
    _log.info(
        "%s", f"{SOURCE} is in force ({access.digest})" if access.digest else f"no {SOURCE}: this machine may score"
    )


def begin_limits(settings: Settings) -> None:
    """Let every bucket begin full; for a supervisor that is alone in its home, before its first worker."""
    (settings.places.run / LIMITS).unlink(missing_ok=True)


def read_access(settings: Settings) -> Access:
    """The grants of a home.

    Raises:
        UsageError: the access file breaks a rule.
        RefusedError: there is none, and the scoring door is open beyond this machine.
    """
    try:
        return _read(settings.places.trust / FILE)
    except FileNotFoundError:
        pass
    if not is_loopback(settings.scoring.host):
        raise RefusedError(
            f"the scoring door listens beyond this machine, and there is no {SOURCE}",
            "make one with `interlock access key new NAME`, or set scoring.host to 127.0.0.1",
        )
    return Access.unconfigured()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on that host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> Access:
    return Access.parse(path.read_bytes())


def _one(found: Principal | None, other: Principal) -> Principal:
    if found is not None and found.name != other.name:
        raise RefusedError("two credentials that name different principals", "send one of them")
    return other


def _mark(path: Path | None) -> tuple[int, int, int]:
    try:
        found = path.stat() if path is not None else None
    except OSError:
        found = None
    return (0, 0, 0) if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
