"""What a request over HTTP holds beside its path: a body in some coding, and terms in its headers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from interlock.apps.scorer.exchange import Exchange
from interlock.apps.scorer.gate import CHALLENGE
from interlock.base.clock import NS_PER_MS
from interlock.base.errors import UsageError
from interlock.serving.call import Unanswered
from interlock.serving.trace import Parent, parse

HEADER_LENGTH = b"inference-header-content-length"
OCTETS = b"application/octet-stream"
_PRIORITIES = (b"realtime", b"batch")


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request wants to be treated: 0 real-time or 1 batch, how long it waits (0: as long as it takes)."""

    priority: int
    timeout_ns: int
    parent: Parent | None
    trace_id: str


def refuse(exchange: Exchange, why: UsageError | Unanswered) -> None:
    """Answer with the protocol's error object."""
    if isinstance(why, UsageError):
        exchange.refuse(400, str(why))
    else:
        exchange.refuse(why.status, why.message, why.retry_s, CHALLENGE if why.status == 401 else b"")


def content(exchange: Exchange, most: int) -> bytes:
    """The body after its content coding, which may not grow beyond what a plain one may have.

    Raises:
        UsageError: it is not what the coding says.
        Unanswered: it is too long (413).
    """
    coding = exchange.head.headers.get(b"content-encoding")
    if coding is None or coding.strip().lower() == b"identity":
        return exchange.body
    unpack = zlib.decompressobj(wbits=47)  # gzip or zlib, as its header says
    try:
        plain = unpack.decompress(exchange.body, most + 1)
    except zlib.error:
        raise UsageError("the body is not what its content encoding says", "send it plain, or with gzip") from None
    if len(plain) > most:
        raise Unanswered(413, "the body is too long", 0)
    if not unpack.eof or unpack.unused_data:
        raise UsageError("the body is not what its content encoding says", "send it plain, or with gzip")
    return plain


def header_length(exchange: Exchange) -> int | None:
    """How much of the body is JSON, where raw tensors may follow it.

    Raises:
        UsageError: the header is no number.
    """
    text = exchange.head.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 10:
        raise UsageError("the inference header's length is not a number", "send the length of the JSON in bytes")
    return int(text)


def priority_of(given: bytes | None) -> int:
    """0 real-time (also when nothing is said), 1 batch.

    Raises:
        UsageError: it is neither.
    """
    if given is None:
        return 0
    name = given.strip().lower()
    if name not in _PRIORITIES:
        raise UsageError("an unknown priority", "send realtime or batch in x-interlock-priority")
    return _PRIORITIES.index(name)


def terms_of(headers: Mapping[bytes, bytes], max_wait_s: float) -> Terms:
    """What a request's headers say about itself: `x-interlock-priority`, `x-interlock-timeout-ms`, `traceparent`.

    Raises:
        UsageError: one of the first two says something else than it may.
    """
    priority = priority_of(headers.get(b"x-interlock-priority"))
    given = headers.get(b"x-interlock-timeout-ms", b"0").strip()
    if not given.isdigit() or len(given) > 9:
        raise UsageError("the timeout is not a number of milliseconds", "send digits in x-interlock-timeout-ms")
    timeout = min(int(given), int(max_wait_s * 1000))
    parent = parse(headers.get(b"traceparent", b"").decode("latin-1"))
    return Terms(priority, timeout * NS_PER_MS, parent, parent.trace_id if parent else "")
