"""Traffic is split by entity: one card never alternates between two models while weights rise.

An entity's bucket is fixed by the rollout's secret salt, and a candidate always owns the buckets
from 0 up to its share. Raising a share therefore only moves entities into the candidate, and
lowering it only moves them back.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from interlock.base.errors import UsageError
from interlock.base.keyed import keyed
from interlock.decision.table import BUCKETS, Arm


def bucket(salt: bytes, token: str) -> int:
    """The entity's bucket, 0 … 9,999: HMAC-SHA256, its first 8 bytes big-endian, mod 10,000."""
    return splitter(salt)(token)


def splitter(salt: bytes) -> Callable[[str], int]:
    """`bucket` for one salt and many tokens."""
    digest, number = keyed(salt), int.from_bytes
    return lambda token: number(digest(token.encode())[:8], "big") % BUCKETS


def weights(champion: Arm | None, candidate: Arm, share: int) -> tuple[Arm, ...]:
    """The arms of a table in which the candidate answers `share` buckets out of 10,000.

    Args:
        champion: who answers the rest; None for a first release, whose share is then everything.
        candidate: the new version.
        share: 0 … 10,000.

    Returns:
        Champion first, both with their new ranges; an arm without buckets keeps its place with
        no ranges, since a retreat needs to name it.

    Raises:
        UsageError: the share is out of range, or leaves buckets to a champion that is not there.
    """
    if not 0 <= share <= BUCKETS:
        raise UsageError("a share outside 0 to 10,000", "give ten-thousandths of the entities")
    if champion is None:
        if share != BUCKETS:
            raise UsageError("a share below 100 % without a champion", "a first release answers everything")
        return (_holding(candidate, 0, BUCKETS),)
    return _holding(champion, share, BUCKETS), _holding(candidate, 0, share)


def _holding(arm: Arm, low: int, high: int) -> Arm:
    return msgspec.structs.replace(arm, ranges=((low, high),) if low < high else ())
