"""A replay sample: whole cards, none of production's tokens, no card numbers."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import Any

import pytest
from msgspec.structs import replace
from tests.decision.conftest import make

from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError, UsageError
from interlock.decision.record import DecisionRecord
from interlock.decision.sample import Choice, Sample, draw, transaction
from interlock.privacy import pan
from interlock.serving.wire import v1

START_NS = 1_790_000_000 * NS_PER_S
KEY = bytes(range(32))
CARDS = 200


def hexed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def decision(number: int, **changes: Any) -> DecisionRecord:
    inputs = {kind: hexed(f"{kind} {number % CARDS}") for kind in ("card", "terminal", "device", "ip")}
    given = {"amount": 100 + number, "currency": "EUR", "mcc": "5411", "country": "FR", **inputs}
    at = START_NS + number * NS_PER_S
    return make(number, inputs=given, received_ns=at, edge_ns=at, **changes)


MADE = [decision(number) for number in range(1_000)]


def choice(**changes: Any) -> Choice:
    whole = {"from_ns": START_NS, "to_ns": START_NS + 10_000 * NS_PER_S, "rate": 0.2, "limit": 10_000, "seed": 3}
    return Choice(**{"service": "fraud", **whole, **changes})


def lines(sample: Sample) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample.lines]


def amounts(sample: Sample) -> set[int]:
    """Which transactions were chosen: every one has an amount of its own here."""
    return {line["amount"] for line in lines(sample)}


def test_chosen_cards_are_whole_and_in_order() -> None:
    sample = draw(reversed(MADE), choice(), KEY)
    assert 25 <= sample.cards <= 55
    assert len(sample.lines) == sample.cards * 5
    found = lines(sample)
    assert [line["amount"] for line in found] == sorted(line["amount"] for line in found)
    assert len({line["card"] for line in found}) == sample.cards


def test_equal_seeds_choose_equal_cards_and_a_higher_rate_the_same_and_more() -> None:
    one = amounts(draw(MADE, choice(), KEY))
    assert one == amounts(draw(MADE, choice(), bytes(32)))
    assert one < amounts(draw(MADE, choice(rate=0.4), KEY))
    assert one != amounts(draw(MADE, choice(seed=4), KEY))


def test_the_limit_leaves_out_whole_cards() -> None:
    sample = draw(MADE, choice(rate=1.0, limit=52), KEY)
    assert (sample.cards, len(sample.lines), sample.left_out) == (10, 50, CARDS - 10)


def test_no_token_and_no_name_of_production_is_in_it() -> None:
    text = b"\n".join(draw(MADE[:CARDS], choice(rate=1.0), KEY).lines).decode()
    for one in MADE[:CARDS:10]:
        assert one.transaction_id not in text
        assert not any(str(one.inputs[kind]) in text for kind in ("card", "terminal", "device", "ip"))


def test_two_samples_share_no_token() -> None:
    first, second = (lines(draw(MADE, choice(), secrets.token_bytes(32))) for _ in range(2))
    for name in ("card", "terminal_id", "device_id", "ip", "transaction_id"):
        assert not {line[name] for line in first} & {line[name] for line in second}


def test_time_and_service_bound_what_is_taken() -> None:
    one = choice(rate=1.0, from_ns=START_NS + 10 * NS_PER_S, to_ns=START_NS + 20 * NS_PER_S)
    other = [decision(15, service="loans"), decision(16, service="fraud-fr", asked="fraud")]
    sample = draw([*(made for made in MADE if made.decision_id[-3:] not in ("00f", "010")), *other], one, KEY)
    assert amounts(sample) == {100 + number for number in range(10, 20)} - {115}


def test_given_vectors_and_repeated_transactions_are_counted_and_left_out() -> None:
    again = replace(MADE[1], decision_id=MADE[900].decision_id, attempt=2)
    sample = draw([*MADE[:3], again, replace(MADE[5], inputs={})], choice(rate=1.0), KEY)
    assert (len(sample.lines), sample.repeated, sample.without_inputs) == (3, 1, 1)


def test_a_card_number_in_a_field_ends_the_sample() -> None:
    leaking = replace(MADE[0], inputs={**MADE[0].inputs, "mcc": "4111111111111111"})
    with pytest.raises(RefusedError, match="card number"):
        draw([leaking], choice(rate=1.0), KEY)


def test_a_line_is_a_transaction_that_the_scorer_takes_with_a_number_of_no_issuer() -> None:
    sample = lines(draw(MADE, choice(rate=1.0), KEY))
    made = [transaction(line, 7 * NS_PER_S) for line in sample]
    assert len(v1.decode(json.dumps({"instances": made}).encode(), ("EUR",), len(made))) == len(made)
    assert all(one["pan"].startswith("9999") and pan.parse(one["pan"]) == one["pan"] for one in made)
    assert len({one["pan"] for one in made}) == CARDS
    assert made[0]["event_time"] == "2026-09-21T14:13:27.000000Z"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"rate": 0.0}, id="no-rate"),
        pytest.param({"rate": 1.1}, id="more-than-all"),
        pytest.param({"limit": 0}, id="no-limit"),
        pytest.param({"to_ns": START_NS}, id="no-time"),
    ],
)
def test_a_choice_of_nothing_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        choice(**changed)
