"""One decision as it was made: everything needed to prove it and to compute it again.

Contract. Records hold tokens, never card numbers. The field order is the format (`array_like`):
a field is appended with a default, never moved or removed, and `schema` rises when a meaning
changes. The payload bytes are what the segment's Merkle root covers.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from interlock.base.errors import IntegrityError

SCHEMA = 1

STORE_DOWN = 1
"""The online store did not answer in time: the fallback decided."""
MISS = 2
"""The chosen arm missed its deadline: the champion answered."""
ERROR = 4
"""The chosen arm failed: the champion answered."""
RETREATED = 8
"""A retreat was in force: the champion answered in place of the chosen arm."""
FALLBACK = 16
"""No model answered: the service's fallback did."""
RESUMED = 32
"""A retry reused the vector that an earlier attempt had recorded."""
GIVEN = 64
"""The caller gave the vector itself: no inputs and no velocities stand behind it."""
PINNED = 128
"""The caller named the version: the decision stands outside the split, and in no arm's counts."""


class DecisionRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One decision.

    Attributes:
        decision_id: UUIDv7.
        service: whose model, table and arms decided.
        attempt: 1, or more when an earlier attempt did not finish.
        inputs: the tokenised velocity inputs: card, terminal, device, ip, amount, currency, mcc,
            country, event_time; empty when the caller gave the vector.
        received_ns: wall-clock receive time.
        edge_ns: time on the edge clock, the clock of every window.
        clock: [origin_ns or None, speed] of the edge clock.
        epoch: of the route table.
        generation: of the route table.
        arm: the arm that answered (`champion`, `candidate` or `fallback`).
        bundle: digest of the bundle that answered; empty for the constant fallback.
        folder: digest of the service folder whose admission let it in; empty likewise.
        feature_set: digest of the feature set of `vector`.
        applied: per entity, in feature-set order, [epoch, seq] this event got in the store.
        vector: float32 little-endian; empty when the store was down.
        score: the float32 score, or None for the constant fallback.
        threshold_set: digest of the threshold set that decided.
        propensity: share of entities the chosen arm had.
        degraded: flags of this module, or-ed.
        principal: who asked.
        model_ns: model time of the batch this decision was part of.
        batch: size of that batch.
        trace_id: W3C trace id, hexadecimal, or empty.
        asked: the service that was called, when its routing gave the transaction to `service`; else empty.
    """

    schema: int = SCHEMA
    decision_id: str
    service: str
    transaction_id: str
    attempt: int
    inputs: dict[str, str | int]
    received_ns: int
    edge_ns: int
    clock: tuple[int | None, float]
    epoch: int
    generation: int
    arm: str
    bundle: str
    folder: str
    version: str
    feature_set: str
    applied: tuple[tuple[int, int], ...]
    vector: bytes
    score: float | None
    threshold_set: str
    decision: str
    propensity: float
    degraded: int = 0
    principal: str = ""
    model_ns: int = 0
    batch: int = 1
    trace_id: str = ""
    asked: str = ""

    @property
    def called(self) -> str:
        """The service that the caller named; idempotency is its matter."""
        return self.asked or self.service

    def features(self) -> npt.NDArray[np.float32]:
        """The recorded vector, float32 [features]."""
        return np.frombuffer(self.vector, "<f4").astype(np.float32)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DecisionRecord)


def encode(record: DecisionRecord) -> bytes:
    """The record's payload: msgpack of its fields in order."""
    return _encoder.encode(record)


def decode(payload: bytes) -> DecisionRecord:
    """A record from its payload.

    Raises:
        IntegrityError: the bytes are no record of a known schema.
    """
    try:
        record = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise IntegrityError("these bytes are no decision record", "keep the segment and restore a copy") from error
    if record.schema != SCHEMA:
        raise IntegrityError(f"decision schema {record.schema} is unknown", "read it with the version that wrote it")
    return record
