"""The port to the online store: claims, velocity and replies.

MUSTs for every implementation:
- claim, read and record of one transaction are atomic; a batch is one round trip;
- `values` is the state *before* the event, `applied` the (epoch, seq) given to *this* event;
- a transaction id seen within the window is never recorded again: it is ANSWERED (the first
  reply, byte-equal), HELD (a worker works on it: ask again after `retry_ms`), or RESUMED
  (the holder's time lapsed: the stored values again, `attempt` one higher);
- what the store cannot vouch for is a declared state, never zeros: no base in the store raises
  `ColdError`; a key that is not a state of ours makes that one transaction DAMAGED (nothing was
  recorded; answer it degraded);
- a batch not answered within the budget raises UnreachableError, and its late answers reach
  nobody; whether it was recorded is unknown, and a retry finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from interlock.base.errors import UnreachableError

FRESH = 0
ANSWERED = 1
HELD = 2
RESUMED = 3
DAMAGED = 4


class ColdError(UnreachableError):
    """The store answers, but holds no base: it was emptied, or never loaded."""


class TripRequest(NamedTuple):
    """One transaction on its way to the store.

    `claim` is `<service>:<transaction_id>`; `entities` are tokens in the feature set's order;
    `event_ms` is the edge clock; `amount` is in minor units.
    """

    claim: bytes
    holder: bytes
    entities: tuple[bytes, ...]
    event_ms: int
    amount: int


class TripResult(NamedTuple):
    """What the store says to one transaction.

    `values` are int64 little-endian: entity, window, (count, sum).
    """

    status: int
    reply: bytes | None
    attempt: int
    applied: tuple[tuple[int, int], ...]
    values: bytes
    retry_ms: int


@dataclass(frozen=True)
class Base:
    """What an online store was loaded from: the start of every replay.

    Attributes:
        snapshot: digest of the snapshot, or `empty`.
        set_hash: the `FeatureSet.set_hash` of the states.
        epoch: the epoch of the loaded states.
        events: events in the snapshot.
    """

    snapshot: str
    set_hash: str
    epoch: int
    events: int

    @classmethod
    def empty(cls, set_hash: str) -> Base:
        """A store that starts with no history, said on purpose."""
        return cls("empty", set_hash, 1, 0)


class OnlineStore(Protocol):
    """See the module's contract."""

    async def trip(self, batch: Sequence[TripRequest]) -> list[TripResult]:
        """Claim, read and record a batch in one round trip.

        Raises:
            UnreachableError: no answer within the budget (ColdError: no base).
        """
        ...

    async def store_replies(self, replies: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """Store `(claim, reply)` pairs in one round trip; the first stored reply wins.

        Returns:
            Per pair None when stored, else the reply another attempt stored first: send that one.

        Raises:
            UnreachableError: no answer within the budget.
        """
        ...

    async def load(self, states: Iterable[tuple[str, str, bytes]], base: Base) -> None:
        """Replace all states by `(kind, token, state)`; the base is declared last."""
        ...

    async def base(self) -> Base | None:
        """The declared base, or None: the store is cold."""
        ...

    async def close(self) -> None:
        """Drop the connection."""
        ...


class NoStore:
    """The store of a scorer that has none, because it decides no transaction."""

    async def trip(self, batch: Sequence[TripRequest]) -> list[TripResult]:
        """Fails."""
        raise UnreachableError("this scorer has no online store", "set scoring.mode to full, and store.url")

    async def store_replies(self, replies: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """Fails."""
        raise UnreachableError("this scorer has no online store", "set scoring.mode to full, and store.url")

    async def load(self, states: Iterable[tuple[str, str, bytes]], base: Base) -> None:
        """Fails."""
        raise UnreachableError("this scorer has no online store", "set scoring.mode to full, and store.url")

    async def base(self) -> Base | None:
        """None."""
        return None

    async def close(self) -> None:
        """Nothing to drop."""
