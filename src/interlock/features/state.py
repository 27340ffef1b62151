"""Bytes of one entity's velocity state and of a claim: what script, reducer and loader share.

State, little-endian (version 1):
    head:    u8 version · u32 epoch · u48 seq · u48 high water (ms)
    windows: per window u32 open tile · u8 closed tiles · u32,i48 count and sum of the open tile ·
             u32,i64 count and sum of all kept tiles
    tiles:   per window, oldest first, per closed tile u8 index mod 256 · u32 count · i48 sum
A tile is kept while its index >= floor((hw-W-L)/h), so equal events give equal bytes.

Claim: `A` and the reply, or `H`, u8 attempt, u32 (the remaining TTL in ms at which the hold
lapses), the body, and the holder. Body: per entity u32 epoch, u48 seq; then the values, int64.
"""

from __future__ import annotations

from interlock.features.definition import FeatureSet, Velocity

VERSION = 1
HEAD_FORMAT = "<BI4I6I6"
HEAD_SIZE = 17
WINDOW_FORMAT = "I4BI4i6I4i8"
WINDOW_SIZE = 27
TILE_FORMAT = "<BI4i6"
TILE_SIZE = 11
SUM_LIMIT = 2**47

APPLIED_SIZE = 10
CLAIM_HEAD = 6


def closed_offset(velocity: Velocity) -> int:
    """Where the closed tiles start."""
    return HEAD_SIZE + WINDOW_SIZE * len(velocity.windows)


def body_size(feature_set: FeatureSet) -> int:
    """Bytes of a body: applied pairs and values."""
    return APPLIED_SIZE * len(feature_set.velocities) + 8 * feature_set.value_count


def state_key(set_hash: str, kind: str, token: str) -> bytes:
    """The key of an entity's state."""
    return f"v:{set_hash}:{kind}:{token}".encode()


def base_key(set_hash: str) -> bytes:
    """The key of the declared base."""
    return f"base:{set_hash}".encode()


def claim_key(claim: bytes) -> bytes:
    """The key of a transaction's claim."""
    return b"c:" + claim
