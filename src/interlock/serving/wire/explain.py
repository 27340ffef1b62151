"""What `POST /v1/models/{service}:explain` takes: `{"decision_ids": [...]}`, or a predict request's instances.

Contract. Instances stand for transactions that were decided: they are checked as in a predict
request and then only their ids are used, so that asking again for the reasons never counts a
payment twice. The reply is the explainer's `{"explanations": [...]}`, in the order of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from interlock.base.errors import UsageError
from interlock.decision.explain import Uuid
from interlock.serving.wire import v1


@dataclass(frozen=True)
class Asked:
    """Ids of decisions, or of transactions: one of the two."""

    decisions: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()


class _Shape(msgspec.Struct, frozen=True):
    decision_ids: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Ids(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    decision_ids: list[Uuid]


_shape = msgspec.json.Decoder(_Shape).decode
_ids = msgspec.json.Decoder(_Ids).decode


def decode(body: bytes, currencies: Sequence[str], max_instances: int) -> Asked:
    """What an explain request asks for.

    Args:
        body: the JSON text.
        currencies: what the service accepts, for instances.
        max_instances: in one request at most.

    Raises:
        UsageError: anything about the body breaks a rule.
    """
    if not _by_decision(body):
        return Asked(transactions=tuple(each.transaction_id for each in v1.decode(body, currencies, max_instances)))
    try:
        found = _ids(body).decision_ids
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # The cause may name what was sent.
        raise UsageError(
            "decision_ids is no list of decision ids, or does not stand alone", 'send {"decision_ids": ["…"]}'
        ) from None
    if not 1 <= len(found) <= max_instances:
        raise UsageError(f"{len(found)} decision_ids", f"send 1 to {max_instances} in one request")
    return Asked(decisions=tuple(found))


def _by_decision(body: bytes) -> bool:
    try:
        return _shape(body).decision_ids is not msgspec.UNSET
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False  # v1 says what is wrong with it
