"""What is said to the process that explains decisions, without any I/O.

Contract. On the unix socket `run/explain.sock` a client opens a connection, sends one frame
(u32 little-endian length, one msgpack message) and reads one; then the connection ends. A client
that goes away gives its question up. The caller's roles come with the question, from whoever
authenticated it; without the role `explain` nothing is looked up.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from interlock.base.errors import IntegrityError, UsageError
from interlock.decision.admin import Failed, framed

ROLE = "explain"
MAX_REQUEST = 64 * 1024
_MOST = 256

Uuid = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", max_length=36)
]
_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")]


class Explain(msgspec.Struct, frozen=True, tag="explain", kw_only=True):
    """Explain recorded decisions of one service.

    Attributes:
        service: whose decisions.
        decisions: ids of decisions.
        transactions: ids of transactions; the last decision on each is explained.
        actor: who asks; it is recorded.
        roles: of the actor.
        trace_id: W3C trace id, or empty.
    """

    service: _Name
    actor: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    roles: Annotated[list[str], msgspec.Meta(max_length=64)]
    decisions: Annotated[list[Uuid], msgspec.Meta(max_length=_MOST)] = []
    transactions: Annotated[list[_Id], msgspec.Meta(max_length=_MOST)] = []
    trace_id: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Explained(msgspec.Struct, frozen=True, tag="explained"):
    """The JSON text `{"explanations": [...]}`, in the order of the question: decisions, then transactions."""

    body: bytes


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(Explain)
_replies: msgspec.msgpack.Decoder[Explained | Failed] = msgspec.msgpack.Decoder(Explained | Failed)


def frame(message: Explain | Explained | Failed) -> bytes:
    """One message as a frame."""
    return framed(_encoder.encode(message))


def request(body: bytes) -> Explain:
    """The question in a frame's body.

    Raises:
        UsageError: it is none, or too much is asked at once.
    """
    try:
        found = _requests.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # The cause would repeat what was sent.
        raise UsageError(
            "not a question to the explainer", "give a service, an actor and ids of decisions or transactions"
        ) from None
    if not found.actor.isprintable() or not (found.decisions or found.transactions):
        raise UsageError("a question without an actor or without an id", "name who asks, and what for")
    return found


def reply(body: bytes) -> Explained | Failed:
    """The answer in a frame's body.

    Raises:
        IntegrityError: it is none that this version knows.
    """
    try:
        return _replies.decode(body)
    except msgspec.MsgspecError as error:
        raise IntegrityError("not an answer of the explainer", "run both ends of one version") from error
