"""A replay sample: recorded decisions turned into transactions that staging may be given. Pure.

Contract. Whole cards are chosen, by a keyed hash of their token, never single transactions, so that
what happens to a chosen card is complete. Nothing in the sample is a production token: card,
terminal, device, address and transaction id are tokenised anew under a key that is drawn for this
sample and thrown away, so that not even who holds production's key can lead one back to the other.
Amounts, codes and times stay as they were: the sample is pseudonymous, not anonymous. A line in
which a card number is found ends the whole sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from interlock.base.canonical import canonical
from interlock.base.clock import rfc3339
from interlock.base.errors import RefusedError, UsageError
from interlock.base.keyed import keyed
from interlock.decision.record import DecisionRecord
from interlock.privacy import pan
from interlock.privacy.token import Tokeniser

ENTITIES = {"terminal": "terminal_id", "device": "device_id", "ip": "ip"}
"""Tokenised inputs, and the fields of a transaction they become."""
AS_IT_WAS = ("amount", "currency", "mcc", "country")
_WHOLE = 1 << 64
_TEST_PREFIX = "9999"
_TEST_DIGITS = 14


@dataclass(frozen=True)
class Choice:
    """What a sample takes.

    Attributes:
        service: that was called.
        from_ns, to_ns: received in [from, to), wall time.
        rate: share of the cards, above 0, at most 1.
        limit: transactions at most; cards are left out as wholes.
        seed: equal seeds choose equal cards, at a higher rate the same and more.
    """

    service: str
    from_ns: int
    to_ns: int
    rate: float
    limit: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse what chooses nothing."""
        if not 0 < self.rate <= 1:
            raise UsageError("a rate is above 0 and at most 1", "give the share of cards, such as 0.01")
        if self.limit < 1 or self.to_ns <= self.from_ns:
            raise UsageError("nothing would be chosen", "give a later end, and a limit of at least 1")


@dataclass(frozen=True)
class Sample:
    """What was chosen.

    Attributes:
        lines: canonical JSON, one transaction each, by time.
        cards: how many are in it.
        left_out: cards that the limit left out.
        without_inputs: decisions that recorded none (given vectors).
        repeated: decisions of a transaction that was decided before.
    """

    lines: tuple[bytes, ...]
    cards: int
    left_out: int
    without_inputs: int
    repeated: int


def draw(records: Iterable[DecisionRecord], choice: Choice, key: bytes) -> Sample:
    """The sample of these records.

    Args:
        records: in any order.
        choice: which of them.
        key: 32 bytes, fresh; the caller forgets it.

    Raises:
        RefusedError: a card number was found in what was recorded.
    """
    place = keyed(choice.seed.to_bytes(8, "big", signed=True))
    chosen: dict[str, dict[str, DecisionRecord]] = {}
    places: dict[str, int] = {}
    without, repeated = 0, 0
    for record in records:
        if record.called != choice.service or not choice.from_ns <= record.received_ns < choice.to_ns:
            continue
        if not record.inputs:
            without += 1
            continue
        card = str(record.inputs["card"])
        if card not in places:
            places[card] = int.from_bytes(place(card.encode())[:8], "big")
        if places[card] < choice.rate * _WHOLE:
            mine = chosen.setdefault(card, {})
            repeated += record.transaction_id in mine
            mine.setdefault(record.transaction_id, record)
    kept = _within(chosen, places, choice.limit)
    taken = [one for card in kept for one in chosen[card].values()]
    taken.sort(key=lambda one: (one.edge_ns, one.decision_id))
    tokens = Tokeniser(key)
    return Sample(tuple(_line(one, tokens) for one in taken), len(kept), len(chosen) - len(kept), without, repeated)


def transaction(line: dict[str, Any], shift_ns: int = 0) -> dict[str, Any]:
    """A line of a sample as a scorer takes it, its time moved by `shift_ns`.

    The card becomes a number that no issuer has (`9999…`), the same for the same card.
    """
    body = str(int(line["card"], 16) % 10**_TEST_DIGITS).rjust(_TEST_DIGITS, "0")
    digits = _TEST_PREFIX + body
    check = next(str(digit) for digit in range(10) if pan.luhn(f"{digits}{digit}"))
    rest = {name: value for name, value in line.items() if name not in ("card", "event_ns")}
    return {**rest, "pan": digits + check, "event_time": rfc3339(int(line["event_ns"]) + shift_ns)}


def _within(chosen: dict[str, dict[str, DecisionRecord]], places: dict[str, int], limit: int) -> list[str]:
    """The first cards by their place whose transactions fit."""
    kept, total = [], 0
    for card in sorted(chosen, key=places.__getitem__):
        if total + len(chosen[card]) > limit:
            break
        kept.append(card)
        total += len(chosen[card])
    return kept


def _line(record: DecisionRecord, tokens: Tokeniser) -> bytes:
    inputs = record.inputs
    found: dict[str, Any] = {
        "transaction_id": tokens.entity("transaction", record.transaction_id),
        "card": tokens.entity("card", str(inputs["card"])),
        "event_ns": str(record.edge_ns),
    }
    found |= {field: tokens.entity(kind, str(inputs[kind])) for kind, field in ENTITIES.items() if kind in inputs}
    found |= {name: inputs[name] for name in AS_IT_WAS if inputs.get(name) not in (None, "")}
    line = canonical(found)
    if any(pan.find(str(value)) for name, value in found.items() if name != "event_ns"):
        raise RefusedError("a card number stands in what was recorded", "find where it came in: none may be stored")
    return line
