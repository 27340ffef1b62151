"""The online store on Redis or Valkey (see `features.online` for the port's MUSTs).

Claim, read and record are one script call per transaction, a batch is one pipeline, replies are
one script call per tick. A server that lost the scripts gets them again: only the calls that it
refused are repeated, since they had no effect. Durability is the server's; the truth is the base
snapshot plus the segments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import add
from struct import Struct

import hiredis

from interlock.adapters.redis.connection import Connection, Link, Reply, error_code, pack, pack_command, refuse_errors
from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError, UsageError
from interlock.features import state
from interlock.features.definition import FeatureSet
from interlock.features.lua import STATUS_COLD, replies_script, trip_script
from interlock.features.online import ANSWERED, DAMAGED, FRESH, HELD, RESUMED, Base, ColdError, TripRequest, TripResult
from interlock.features.options import StoreOptions

_LOAD_S = 30.0
_CHUNK = 2_000
_NONE: tuple[tuple[int, int], ...] = ()
_WAIT = Struct("<BI")
_APPLIED = Struct("<IIH")
"""Epoch, and the sequence as u48."""
_CLAIM = state.claim_key(b"")


class RedisOnlineStore:
    """`OnlineStore` for one feature set; make it with `connect`."""

    def __init__(self, url: str, feature_set: FeatureSet, options: StoreOptions) -> None:
        window_ms = options.window_s * 1000
        if not 0 < options.hold_ms < window_ms:
            raise UsageError("hold_ms must lie between 0 and the window", "set a hold shorter than the window")
        self._set = feature_set
        self._options = options
        self._budget_s = options.budget_ms / 1000
        self._prefixes = [f"v:{feature_set.set_hash}:{kind}:".encode() for kind in feature_set.entities]
        self._base_key = state.base_key(feature_set.set_hash)
        self._trip = trip_script(feature_set, options.hold_ms, window_ms).encode()
        self._replies = replies_script(window_ms).encode()
        self._trip_sha = hashlib.sha1(self._trip, usedforsecurity=False).hexdigest().encode()
        self._replies_sha = hashlib.sha1(self._replies, usedforsecurity=False).hexdigest().encode()
        self._keys = len(feature_set.entities) + 2
        self._values_at = 2 + state.APPLIED_SIZE * len(feature_set.entities)
        self._link = Link(url, options.stall_ms / 1000, options.backoff_ms / 1000, self._load_scripts)

    @classmethod
    async def connect(cls, url: str, feature_set: FeatureSet, options: StoreOptions) -> RedisOnlineStore:
        """A store that connects, and reconnects, by itself.

        It waits up to a second for the first connection, and does not raise when there is none:
        a scorer starts degraded and recovers.
        """
        store = cls(url, feature_set, options)
        await store._link.open(patience_s=1.0)
        return store

    @property
    def connected(self) -> bool:
        """Whether the store can be asked now."""
        return self._link.connected

    async def trip(self, batch: Sequence[TripRequest]) -> list[TripResult]:
        """See the port."""
        commands = [self._command(request) for request in batch]
        replies = await self._link.call(b"".join(commands), len(commands), self._budget_s)
        if hiredis.ReplyError in map(type, replies):
            replies = await self._repeat_lost(commands, replies)
        return [self._result(reply) for reply in replies]

    async def store_replies(self, replies: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """See the port."""
        if not replies:
            return []
        keys = [_CLAIM + claim for claim, _ in replies]
        command = pack_command(("EVALSHA", self._replies_sha, len(keys), *keys, *[reply for _, reply in replies]))
        answer = (await self._link.call(command, 1, self._budget_s))[0]
        if isinstance(answer, hiredis.ReplyError):
            answer = (await self._repeat_lost([command], [answer]))[0]
        found: list[bytes | None] = answer
        return found

    async def load(self, states: Iterable[tuple[str, str, bytes]], base: Base) -> None:
        """See the port: the store is cold until everything is in.

        Raises:
            UsageError: the base names another set of velocities.
            UnreachableError: the server refused or did not answer; the store stays cold.
        """
        if base.set_hash != self._set.set_hash:
            raise UsageError("the base belongs to another set of velocities", "build it with this feature set")
        await self._ask(("DEL", self._base_key))
        await self._drop_states()
        prefixes = dict(zip(self._set.entities, self._prefixes, strict=True))
        horizon = {v.entity: v.horizon_s for v in self._set.velocities}
        commands = (
            pack_command(("SET", prefixes[kind] + token.encode(), data, "EX", horizon[kind]))
            for kind, token, data in states
        )
        while chunk := list(islice(commands, _CHUNK)):
            refuse_errors(await self._link.call(b"".join(chunk), len(chunk), _LOAD_S))
        body = {"snapshot": base.snapshot, "set_hash": base.set_hash, "epoch": base.epoch, "events": base.events}
        await self._ask(("SET", self._base_key, canonical(body)))

    async def base(self) -> Base | None:
        """See the port.

        Raises:
            IntegrityError: the key holds something else.
        """
        raw = await self._ask(("GET", self._base_key))
        if raw is None:
            return None
        try:
            body = json.loads(raw)
            return Base(str(body["snapshot"]), str(body["set_hash"]), int(body["epoch"]), int(body["events"]))
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError("the declared base is unreadable", "load the store again from a snapshot") from error

    async def state(self, kind: str, token: str) -> bytes | None:
        """The stored state of one entity (tools and tests)."""
        found: bytes | None = await self._ask(("GET", state.state_key(self._set.set_hash, kind, token)))
        return found

    async def close(self) -> None:
        """See the port."""
        await self._link.close()

    def _command(self, request: TripRequest) -> bytes:
        return pack_command(
            (
                b"EVALSHA",
                self._trip_sha,
                self._keys,
                _CLAIM + request.claim,
                self._base_key,
                *map(add, self._prefixes, request.entities),
                request.event_ms,
                request.amount,
                request.holder,
            )
        )

    def _result(self, reply: bytes) -> TripResult:
        status = reply[0]
        if status in (FRESH, RESUMED):
            pairs = _APPLIED.iter_unpack(reply[2 : self._values_at])
            applied = tuple([(epoch, low | high << 32) for epoch, low, high in pairs])
            return TripResult(status, None, reply[1], applied, reply[self._values_at :], 0)
        if status == ANSWERED:
            return TripResult(ANSWERED, reply[1:], 0, _NONE, b"", 0)
        if status == HELD:
            return TripResult(HELD, None, 0, _NONE, b"", _WAIT.unpack(reply)[1])
        if status == STATUS_COLD:
            raise ColdError("the online store is cold: it holds no base", "load it from a snapshot")
        # An overflow, like a foreign key, concerns one transaction: it was not recorded.
        return TripResult(DAMAGED, None, 0, _NONE, b"", 0)

    async def _repeat_lost(self, commands: Sequence[bytes], replies: Sequence[Reply]) -> list[Reply]:
        """Load the scripts again and repeat exactly the calls that found none."""
        fixed = list(replies)
        lost = [i for i, r in enumerate(fixed) if isinstance(r, hiredis.ReplyError) and error_code(r) == "NOSCRIPT"]
        if lost:
            payload = b"".join([self._script_loads(), *[commands[i] for i in lost]])
            answers = await self._link.call(payload, 2 + len(lost), self._budget_s)
            for index, answer in zip(lost, answers[2:], strict=True):
                fixed[index] = answer
        refuse_errors(fixed)
        return fixed

    def _script_loads(self) -> bytes:
        return pack([("SCRIPT", "LOAD", self._trip), ("SCRIPT", "LOAD", self._replies)])

    async def _load_scripts(self, connection: Connection) -> None:
        refuse_errors(await connection.call(self._script_loads(), 2, _LOAD_S))

    async def _ask(self, command: tuple[bytes | str | int, ...]) -> Reply:
        replies = await self._link.call(pack([command]), 1, max(self._budget_s, 1.0))
        refuse_errors(replies)
        return replies[0]

    async def _drop_states(self) -> None:
        """Remove every state of this set: one that the new base lacks must not live on."""
        cursor = b"0"
        while True:
            command = ("SCAN", cursor, "MATCH", f"v:{self._set.set_hash}:*", "COUNT", 5_000)
            replies = await self._link.call(pack([command]), 1, _LOAD_S)
            refuse_errors(replies)
            cursor, keys = replies[0]
            if keys:
                refuse_errors(await self._link.call(pack([("UNLINK", *keys)]), 1, _LOAD_S))
            if cursor == b"0":
                return
