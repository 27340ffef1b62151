"""What a supervisor and its workers say to each other, on a socket pair, in frames of `decision.admin`.

Every order carries a number and gets exactly one `Answer` with it; reports come unasked. When the
socket ends, a worker serves what it has in hand and leaves.
"""

from __future__ import annotations

import struct

import msgspec

from interlock.decision.admin import Denial, Failed
from interlock.decision.counts import WorkerCounts
from interlock.decision.table import RouteTable
from interlock.serving.catalogue import Admitted

_LENGTH = struct.Struct("<I")


class LoadModel(msgspec.Struct, frozen=True, tag="load"):
    """Make a bundle ready."""

    number: int
    service: str
    bundle: str
    folder: str


class InstallTable(msgspec.Struct, frozen=True, tag="install"):
    """Route by this table; `slot` is the service's place in the fence."""

    number: int
    slot: int
    table: RouteTable


class UnloadModel(msgspec.Struct, frozen=True, tag="unload"):
    """Forget a bundle."""

    number: int
    bundle: str


class LoadVersion(msgspec.Struct, frozen=True, tag="load_version"):
    """Have an admitted version ready for callers who name it (`serving.ondemand`)."""

    number: int
    admitted: Admitted


class DropVersion(msgspec.Struct, frozen=True, tag="drop_version"):
    """Forget such a version."""

    number: int
    admitted: Admitted


class Roll(msgspec.Struct, frozen=True, tag="roll"):
    """Close the current segment and open the next."""

    number: int


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Begin to accept connections."""

    number: int


class HandOver(msgspec.Struct, frozen=True, tag="hand_over"):
    """Leave: the successor serves, and takes the idle connections."""

    number: int


class MetricsText(msgspec.Struct, frozen=True, tag="metrics"):
    """The supervisor's answer to `AskMetrics`."""

    number: int
    text: str


class VersionSettled(msgspec.Struct, frozen=True, tag="version_settled"):
    """The supervisor's answer to `AskVersion`."""

    number: int
    failure: Failed | None = None


Order = (
    LoadModel
    | InstallTable
    | UnloadModel
    | LoadVersion
    | DropVersion
    | Roll
    | Serve
    | HandOver
    | MetricsText
    | VersionSettled
)


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The outcome of an order; `failure` is None when it was done."""

    number: int
    failure: Failed | None = None


class Totals(msgspec.Struct, frozen=True):
    """A worker's plain counters since it began.

    Attributes:
        responses: HTTP responses by status, gRPC ones as `grpc-OK` and so on.
        latency: `<service>|<version>` to the histogram of predict requests: counts per bucket of
            `metrics.BUCKETS`, the last is +Inf.
        latency_sum: the same keys to seconds.
        held: duplicates that waited for the attempt which holds their transaction.
        repeated: duplicates answered with the stored reply.
        unrecorded: decisions answered although they could not be written.
        store_failures: ticks in which the store did not answer.
        shed: transactions refused because too many were waiting.
        expired: transactions whose caller's deadline passed before their turn.
        pinned: decisions by a version that the caller named.
        unrouted: transactions of a segment whose service did not answer here: the one that was asked decided.
        denied: requests that the gate turned away.
        score_cache_hits: scores that were known already.
        spans_dropped: of sampled requests, which reached no collector.
        cpu_seconds: user and system time of the process.
    """

    responses: dict[str, int] = {}
    latency: dict[str, list[int]] = {}
    latency_sum: dict[str, float] = {}
    held: int = 0
    repeated: int = 0
    unrecorded: int = 0
    store_failures: int = 0
    shed: int = 0
    expired: int = 0
    pinned: int = 0
    unrouted: int = 0
    denied: int = 0
    score_cache_hits: int = 0
    spans_dropped: int = 0
    cpu_seconds: float = 0.0


class Report(msgspec.Struct, frozen=True, tag="report"):
    """A worker's state, several times a second.

    Attributes:
        counts: packed arm and shadow counts.
        oldest: per service the oldest generation that something in flight refers to.
        queued: transactions waiting for a tick.
        connections: open connections.
        hung: a model call has been running for too long: replace this worker.
        degraded: the store does not answer at present.
        denials: what was not allowed since the report before.
        inflight: requests to score that are not answered yet.
        queue_age_s: since when the transaction that waits longest for a tick has been here.
    """

    counts: WorkerCounts
    oldest: dict[str, int]
    totals: Totals
    queued: int = 0
    connections: int = 0
    hung: bool = False
    degraded: bool = False
    denials: list[Denial] = []
    inflight: int = 0
    queue_age_s: float = 0.0


class AskMetrics(msgspec.Struct, frozen=True, tag="ask_metrics"):
    """A scrape arrived at this worker: the supervisor knows all of them."""

    number: int


class AskVersion(msgspec.Struct, frozen=True, tag="ask_version"):
    """A caller wants an admitted version loaded (or, with `drop`, forgotten): in every worker alike."""

    number: int
    admitted: Admitted
    drop: bool = False


Word = Answer | Report | AskMetrics | AskVersion

_encoder = msgspec.msgpack.Encoder()
orders: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
words: msgspec.msgpack.Decoder[Word] = msgspec.msgpack.Decoder(Word)


def frame(message: Order | Word) -> bytes:
    """One message as a frame: u32 little-endian length, msgpack."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body
