"""KServe protocol V1 for transactions: `{"instances": [{…}]}` in, `{"predictions": [{…}]}` out.

Contract. Unknown fields, values out of bounds and card numbers outside `pan` are refused as a
whole request, before anything is recorded. A message names fields and rules; it never repeats a
value that the caller sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec

from interlock.base.errors import UsageError
from interlock.privacy import pan as pans
from interlock.privacy.redact import redact

MAX_AMOUNT = 10**11 - 1
"""Minor units: shorter than any card number, so that an amount cannot hide one."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
# `\Z` and not `$`, which a final newline passes; `[0-9]` and not `\d`, which other scripts' digits pass.
_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
_RFC3339 = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})\Z"
_UNKNOWN = re.compile(r"unknown field `(.*?)`( - at `\$[^`]*`)?\Z", re.DOTALL)
# Not a run of six digits: between letters the scan takes no number for a card, and a reader does.
_FIELD = re.compile(r"(?!.*[0-9]{6})[A-Za-z_][A-Za-z0-9_]{0,31}\Z")


class Transaction(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One transaction as the payment application sends it; `well_formed` knows the rules of its fields."""

    transaction_id: str
    pan: str
    amount: int
    currency: str
    terminal_id: str
    device_id: str
    ip: str
    mcc: str | None = None
    country: str | None = None
    event_time: str | None = None


class Stated(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A `Transaction` with its rules in its types: describes them, and says which one is broken.

    Checking them together, in `well_formed`, costs a third.
    """

    transaction_id: _Id
    pan: Annotated[str, msgspec.Meta(min_length=12, max_length=40)]
    amount: Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")]
    terminal_id: _Name
    device_id: _Name
    ip: _Name
    mcc: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}\Z")] | None = None
    country: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")] | None = None
    event_time: Annotated[str, msgspec.Meta(pattern=_RFC3339)] | None = None


class Request(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The body of a predict request."""

    instances: list[Stated]


class _Request(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    instances: list[Transaction]


class Prediction(msgspec.Struct, frozen=True):
    """One answer, in the order of the instances.

    `service` is there only when another service decided than was asked, by its routing (ADR 0015).
    """

    transaction_id: str
    decision_id: str
    score: float | None
    decision: str
    reasons: list[str]
    model_version: str
    degraded: bool
    service: str | msgspec.UnsetType = msgspec.UNSET


_decode: Callable[[bytes], _Request] = msgspec.json.Decoder(_Request).decode
_decode_stated: Callable[[bytes], Request] = msgspec.json.Decoder(Request).decode
_SHAPE = re.compile(
    r"[A-Za-z0-9_-]{1,64}\n[A-Z]{3}\n(?:[0-9]{4}|-)\n(?:[A-Z]{2}|-)\n(?:" + _RFC3339[1:-2] + r"|-)\Z"
).match
_encode = msgspec.json.Encoder().encode
_decode_prediction: Callable[[bytes], Prediction] = msgspec.json.Decoder(Prediction).decode


def decode(body: bytes, currencies: Sequence[str], max_instances: int) -> list[Transaction]:
    """The transactions in a request's body.

    Args:
        body: the JSON text.
        currencies: what the service accepts.
        max_instances: transactions in one request at most.

    Raises:
        UsageError: anything about the body breaks a rule.
    """
    try:
        instances = _decode(body).instances
        if not all(map(well_formed, instances)):
            _decode_stated(body)  # says which field of which instance is not
            raise AssertionError("the two ways to check a transaction differ")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error, 'send {"instances": [{…}]} with the fields of the OpenAPI page') from None
    return check(instances, currencies, max_instances)


def check(instances: list[Transaction], currencies: Sequence[str], max_instances: int) -> list[Transaction]:
    """The transactions, if they keep the rules that their types cannot express; whatever the protocol.

    Args:
        instances: parsed.
        currencies: what the service accepts.
        max_instances: transactions in one request at most.

    Raises:
        UsageError: their number, a currency, or a card number outside `pan`.
    """
    if not 1 <= len(instances) <= max_instances:
        raise UsageError(f"{len(instances)} instances", f"send 1 to {max_instances} in one request")
    for place, each in enumerate(instances):
        if each.currency not in currencies:
            raise UsageError(
                f"instances[{place}].currency is not accepted", f"this service takes {', '.join(currencies)}"
            )
        for name, value in (
            ("transaction_id", each.transaction_id),
            ("terminal_id", each.terminal_id),
            ("device_id", each.device_id),
            ("ip", each.ip),
        ):
            if len(value) >= pans.MIN_DIGITS and pans.find(value):
                raise UsageError(f"instances[{place}].{name} holds a card number", "send card numbers in pan alone")
    return instances


def encode(prediction: Prediction) -> bytes:
    """One prediction: the bytes that a duplicate gets again."""
    return _encode(prediction)


def version_of(prediction: bytes) -> str:
    """The version that made an encoded prediction."""
    return _decode_prediction(prediction).model_version


def reply(predictions: Sequence[bytes]) -> bytes:
    """The response's body."""
    return b'{"predictions":[' + b",".join(predictions) + b"]}"


def error(message: str) -> bytes:
    """The protocol's error object; card numbers in the message are withheld."""
    return _encode({"error": redact(message)})


def well_formed(sent: Transaction) -> bool:
    """Whether every field keeps the rules of `Stated`, which the types of a `Transaction` do not know."""
    mcc, country, time = sent.mcc, sent.country, sent.event_time
    text = (
        f"{sent.transaction_id}\n{sent.currency}\n{'-' if mcc is None else mcc}\n"
        f"{'-' if country is None else country}\n{'-' if time is None else time}"
    )
    return (
        _SHAPE(text) is not None
        and 12 <= len(sent.pan) <= 40
        and 0 <= sent.amount <= MAX_AMOUNT
        and 1 <= len(sent.terminal_id) <= 64
        and 1 <= len(sent.device_id) <= 64
        and 1 <= len(sent.ip) <= 64
        and "-" not in (mcc, country, time)
    )


def malformed(problem: Exception, remedy: str) -> UsageError:
    """What msgspec says about a body, as our error: rule and place, never a value.

    Raises:
        UsageError: an unknown field announces sensitive authentication data.
    """
    text = str(problem)
    unknown = _UNKNOWN.search(text)
    if unknown:
        pans.refuse_sensitive([unknown.group(1)])
        text = f"unknown field {_named(unknown.group(1))}{unknown.group(2) or ''}"
    if not isinstance(problem, msgspec.ValidationError):
        text = "the body is not JSON"
    return UsageError(redact(text), remedy)


def refuse_unknown(names: Iterable[str], remedy: str = "the OpenAPI page lists the fields") -> None:
    """Refuse what nobody declared, if there is any.

    Raises:
        UsageError: there is one; its name is repeated only if it looks like a name, since it may be a
            value that slipped.
    """
    unknown = list(names)
    pans.refuse_sensitive(unknown)
    if unknown:
        raise UsageError(f"unknown field {_named(unknown[0])}", remedy)


def describe(value: Any) -> bytes:
    """Any plain value as JSON, for the small GET endpoints."""
    return _encode(value)


def _named(name: str) -> str:
    return name if _FIELD.match(name) else "with another name"
