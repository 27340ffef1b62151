"""The online store in memory, on the reducer: for simulations and tests of one process.

It keeps the port's MUSTs (the contract suite runs against it) with a clock that is handed in;
`down` makes every call raise, `flush` empties it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import pack

from interlock.base.clock import NS_PER_MS, NS_PER_S, Clock
from interlock.base.errors import IntegrityError, UnreachableError, UsageError
from interlock.features import reducer
from interlock.features.definition import FeatureSet
from interlock.features.online import ANSWERED, DAMAGED, FRESH, HELD, RESUMED, Base, ColdError, TripRequest, TripResult
from interlock.features.options import StoreOptions


@dataclass
class _Claim:
    until_ms: int
    expires_ms: int
    result: TripResult
    reply: bytes | None = None


class MemoryStore:
    """`OnlineStore` for one feature set, without a server."""

    def __init__(self, feature_set: FeatureSet, options: StoreOptions, clock: Clock) -> None:
        self._set = feature_set
        self._options = options
        self._clock = clock
        self._states: dict[tuple[str, bytes], bytes] = {}
        self._claims: dict[bytes, _Claim] = {}
        self._base: Base | None = None
        self.down = False

    async def trip(self, batch: Sequence[TripRequest]) -> list[TripResult]:
        """See the port."""
        self._answer()
        return [self._one(request) for request in batch]

    async def store_replies(self, replies: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """See the port."""
        self._answer()
        return [self._store(claim, reply) for claim, reply in replies]

    async def load(self, states: Iterable[tuple[str, str, bytes]], base: Base) -> None:
        """See the port."""
        self._answer()
        if base.set_hash != self._set.set_hash:
            raise UsageError("the base belongs to another set of velocities", "build it with this feature set")
        self._states = {(kind, token.encode()): data for kind, token, data in states}
        self._base = base

    async def base(self) -> Base | None:
        """See the port."""
        self._answer()
        return self._base

    async def close(self) -> None:
        """Nothing to drop."""

    def flush(self) -> None:
        """Lose everything, as a restarted server does."""
        self._states.clear()
        self._claims.clear()
        self._base = None

    def _answer(self) -> None:
        if self.down:
            raise UnreachableError("the online store did not answer", "check that it runs")

    def _now_ms(self) -> int:
        return self._clock.now_ns() // NS_PER_MS

    def _one(self, request: TripRequest) -> TripResult:
        now = self._now_ms()
        claim = self._claims.get(request.claim)
        if claim is not None and claim.expires_ms > now:
            return self._again(claim, now)
        if self._base is None:
            raise ColdError("the online store is cold: it holds no base", "load it from a snapshot")
        try:
            result = self._record(request)
        except (IntegrityError, UsageError):
            return TripResult(DAMAGED, None, 0, (), b"", 0)
        self._claims[request.claim] = _Claim(now + self._options.hold_ms, now + self._options.window_s * 1000, result)
        return result

    def _again(self, claim: _Claim, now: int) -> TripResult:
        if claim.reply is not None:
            return TripResult(ANSWERED, claim.reply, 0, (), b"", 0)
        if now < claim.until_ms:
            return TripResult(HELD, None, 0, (), b"", claim.until_ms - now)
        claim.until_ms = now + self._options.hold_ms
        claim.result = claim.result._replace(status=RESUMED, attempt=claim.result.attempt + 1)
        return claim.result

    def _record(self, request: TripRequest) -> TripResult:
        epoch = self._clock.now_ns() // NS_PER_S
        values: list[int] = []
        written: dict[tuple[str, bytes], bytes] = {}
        for velocity, token in zip(self._set.velocities, request.entities, strict=True):
            key = (velocity.entity, token)
            before = self._states.get(key)
            values += reducer.read(velocity, before, request.event_ms)
            written[key] = reducer.record(velocity, before, request.event_ms, request.amount, epoch)
        self._states |= written
        applied = tuple(reducer.position(data) for data in written.values())
        return TripResult(FRESH, None, 1, applied, pack(f"<{len(values)}q", *values), 0)

    def _store(self, claim: bytes, reply: bytes) -> bytes | None:
        expires = self._now_ms() + self._options.window_s * 1000
        found = self._claims.get(claim)
        if found is not None and found.reply is not None:
            return found.reply
        if found is None:
            found = self._claims[claim] = _Claim(0, expires, TripResult(FRESH, None, 1, (), b"", 0))
        found.reply, found.expires_ms = reply, expires
        return None
