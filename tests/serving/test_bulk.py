"""Batches without files: the wire's checks, the scorer's bits, whatever the size of a batch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tests.builders import tiny_files
from tests.serving.batches import CUTS, KEY, instant, online, shop, troubled
from tests.serving.one_worker import real_model

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.clock import NS_PER_MS, NS_PER_S
from interlock.base.errors import UsageError
from interlock.decision.decide import Cuts, Model
from interlock.decision.model import open_model
from interlock.features.definition import FRAUD
from interlock.features.offline import Events, compute
from interlock.privacy.token import Tokeniser
from interlock.registry.bundle import Bundle
from interlock.serving import bulk
from interlock.serving.wire import v1

GOOD: dict[str, Any] = {
    "transaction_id": "tx-1",
    "pan": "4000 0012 3456 7899",
    "amount": 1_000,
    "currency": "EUR",
    "terminal_id": "T1",
    "device_id": "D1",
    "ip": "198.18.0.1",
    "mcc": "5411",
    "country": "FR",
    "event_time": "2026-11-24T09:00:00.25Z",
}
BROKEN: list[dict[str, Any]] = [
    {"transaction_id": "4000001234567899"},
    {"transaction_id": "a b"},
    {"transaction_id": None},
    {"transaction_id": "x" * 65},
    {"pan": "4000001234567898"},
    {"pan": "not a number!"},
    {"pan": None},
    {"pan": 4000001234567899},
    {"amount": -1},
    {"amount": 10**11},
    {"amount": 12.5},
    {"amount": None},
    {"currency": "USD"},
    {"currency": "eur"},
    {"terminal_id": ""},
    {"terminal_id": "T 4000001234567899"},
    {"device_id": "4000-0012-3456-7899"},
    {"ip": None},
    {"mcc": "54111"},
    {"mcc": 5411},
    {"country": "fr"},
    {"event_time": "yesterday"},
]


def model(cuts: tuple[tuple[float, str], ...] = CUTS) -> Model:
    files = tiny_files(trees=60, cuts=cuts)
    return open_model(Bundle("sha256:" + "a" * 64, files), OnnxRuntime.from_bytes)


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in GOOD}


def take(rows: list[dict[str, Any]]) -> bulk.Taken:
    return bulk.take(columns(rows), FRAUD.currencies, Tokeniser(KEY))


def wire_says(row: dict[str, Any]) -> str | None:
    """Why the wire, and the edge's tokeniser behind it, refuse a request with this transaction alone."""
    try:
        (one,) = v1.decode(json.dumps({"instances": [row]}).encode(), FRAUD.currencies, 1)
        Tokeniser(KEY).card(one.pan)
    except UsageError as error:
        return error.message
    return None


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: next(iter(change)))
def test_a_row_is_rejected_when_and_only_when_the_wire_refuses_it(change: dict[str, Any]) -> None:
    row = GOOD | change
    found = take([GOOD, row, GOOD | {"transaction_id": "tx-2"}])
    refused = wire_says(row)
    assert refused is not None
    assert [each.row for each in found.rejected] == [1]
    assert found.inputs["transaction_id"] == ["tx-1", "tx-2"]
    # The same words; only the place of a field is told without the request around it.
    said = found.rejected[0].reason
    assert said == refused.replace("$.instances[0]", "$").replace("instances[0].", "")


def test_a_good_row_is_good_for_both() -> None:
    assert wire_says(GOOD) is None
    found = take([GOOD])
    assert found.rejected == ()
    assert found.event_ns.tolist() == [1_795_510_800_250_000_000]


def test_a_reason_never_holds_a_value() -> None:
    rows = [GOOD | change for change in BROKEN]
    told = " ".join(each.reason for each in take(rows).rejected)
    for secret in ("4000", "7899", "x" * 65, "not a number", "yesterday", "54111", "eur "):
        assert secret not in told


def test_one_broken_row_costs_no_other_row_of_a_large_batch() -> None:
    rows = [GOOD | {"transaction_id": f"t{number}"} for number in range(3_000)]
    rows[1_500]["currency"] = "USD"
    rows[2_999]["pan"] = "4000001234567898"
    found = take(rows)
    assert [each.row for each in found.rejected] == [1_500, 2_999]
    assert len(found.event_ns) == 2_998


def test_card_numbers_end_in_take_and_tokens_are_those_of_the_edge() -> None:
    found = take([GOOD])
    assert "pan" not in found.inputs
    assert "4000" not in repr(found)
    assert found.inputs["card"] == [Tokeniser(KEY).card(GOOD["pan"])]
    assert found.inputs["ip"] == [Tokeniser(KEY).entity("ip", GOOD["ip"])]


def test_tokenised_cards_pass_as_they_are_and_what_is_no_token_does_not() -> None:
    token = Tokeniser(KEY).card(GOOD["pan"])
    given = columns([GOOD, GOOD, GOOD])
    del given["pan"]
    given["card"] = [token, "4000001234567899", token.upper()]
    found = bulk.take(given, FRAUD.currencies, Tokeniser(KEY))
    assert found.inputs["card"] == [token]
    assert [each.row for each in found.rejected] == [1, 2]
    assert "4000" not in found.rejected[0].reason


@pytest.mark.parametrize("missing", ["pan", "amount", "event_time", "ip", "transaction_id"])
def test_a_missing_column_fails_the_whole_by_its_name(missing: str) -> None:
    given = columns([GOOD])
    del given[missing]
    with pytest.raises(UsageError, match=missing):
        bulk.take(given, FRAUD.currencies, Tokeniser(KEY))


def test_number_and_token_together_are_refused() -> None:
    with pytest.raises(UsageError, match="pan and card"):
        bulk.refuse_missing([*GOOD, "card"])


@pytest.mark.parametrize("time", [None, "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2101-01-01T00:00:00Z"])
def test_a_row_that_cannot_be_placed_in_time_is_rejected(time: str | None) -> None:
    (told,) = take([GOOD | {"event_time": time}]).rejected
    assert "event_time" in told.reason


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-24T10:00:00.123456789+01:00", 1_795_510_800_123_456_789),
        ("2026-11-24T09:00:00.5Z", 1_795_510_800_500_000_000),
        ("2026-11-24T09:00:00-00:30", 1_795_512_600_000_000_000),
    ],
)
def test_instants_are_exact_to_the_nanosecond(text: str, ns: int) -> None:
    assert bulk.parse_instant(text) == ns


def in_bulk(rows: list[dict[str, Any]], model: Model) -> tuple[bulk.Scored, np.ndarray]:
    """The rows scored in event order by the pure parts alone: reducer, vector, decide."""
    taken = take(rows)
    event_ms = taken.event_ns // NS_PER_MS
    codes = np.unique(taken.inputs["transaction_id"], return_inverse=True)[1]
    answers = bulk.first_answers(codes, event_ms, 900_000)
    fresh = np.flatnonzero(answers == np.arange(len(answers)))
    tokens = {kind: np.asarray(taken.inputs[kind])[fresh] for kind in FRAUD.entities}
    values = compute(FRAUD, Events(tokens, event_ms[fresh], taken.inputs["amount"][fresh]))
    inputs = {name: [taken.inputs[name][row] for row in fresh] for name in ("amount", "mcc", "country")}
    scored = bulk.score_columns(model, FRAUD, inputs, values, event_ms[fresh])
    return scored, np.searchsorted(fresh, answers)


def test_bulk_gives_the_bits_that_the_pipeline_gives() -> None:
    rows = troubled(shop())
    chosen = model()
    scored, place = in_bulk(rows, chosen)
    answered = online(chosen, rows)
    assert len(answered) == len(rows) > 300
    assert set(scored.decisions) == {"APPROVE", "STEP_UP", "REVIEW", "DECLINE"}
    assert (place[1:] <= place[:-1]).any()  # some rows repeat others
    for row, (reply, record) in enumerate(answered):
        mine = int(place[row])
        assert scored.vectors[mine].tobytes() == record.vector
        assert np.float32(record.score).tobytes() == scored.scores[mine].tobytes()
        assert record.decision == scored.decisions[mine]
        assert f'"decision":"{record.decision}"' in reply.decode()


@pytest.mark.parametrize("size", [1, 64, 4_096])
@pytest.mark.parametrize("trees", [8, 200])
def test_the_size_of_a_batch_changes_no_bit(size: int, trees: int) -> None:
    rows = np.random.default_rng(4).gamma(1.0, 20.0, (4_500, FRAUD.width)).astype(np.float32)
    chosen = real_model("1.0.0") if trees == 8 else model()
    whole = bulk.score_vectors(chosen, rows, batch=len(rows))
    parts = bulk.score_vectors(chosen, rows[: 600 if size == 1 else None], batch=size)
    assert parts.scores.tobytes() == whole.scores[: len(parts.scores)].tobytes()
    assert parts.decisions == whole.decisions[: len(parts.decisions)]
    assert len(set(whole.scores.tolist())) > 200


def test_columns_longer_than_a_batch_are_scored_whole() -> None:
    count = bulk.BATCH + 3
    values = np.random.default_rng(1).integers(0, 90, (count, FRAUD.value_count))
    inputs = {"amount": np.arange(count), "mcc": ["5411"] * count, "country": [None, *["FR"] * (count - 1)]}
    edge = np.arange(count, dtype=np.int64) * 3_600_000
    scored = bulk.score_columns(model(), FRAUD, inputs, values, edge)
    last = {name: column[-5:] for name, column in inputs.items()}
    again = bulk.score_columns(model(), FRAUD, last, values[-5:], edge[-5:])
    assert scored.vectors[-5:].tobytes() == again.vectors.tobytes()
    assert scored.scores[-5:].tobytes() == again.scores.tobytes()


def test_a_reply_is_repeated_within_its_window_and_the_window_does_not_slide() -> None:
    ids = np.array([7, 3, 7, 7, 7, 3])
    at = np.array([0, 1, 899, 900, 1_799, 900]) * 1_000
    order = np.argsort(at, kind="stable")
    found = bulk.first_answers(ids[order], at[order], 900_000)
    assert dict(zip(order.tolist(), order[found].tolist(), strict=True)) == {0: 0, 1: 1, 2: 0, 3: 3, 4: 3, 5: 1}
    assert bulk.first_answers(np.empty(0, np.int64), np.empty(0, np.int64), 1).tolist() == []


def test_ready_vectors_pass_the_rules_of_the_wire_too() -> None:
    rows = np.zeros((6, 3), np.float32)
    rows[1, 2], rows[2, 0] = np.nan, np.inf
    told = bulk.refusals(["a", "b", "c", "4000001234567899", None, "f g"], rows)
    assert sorted(told) == [1, 2, 3, 4, 5]
    assert told[3] == "transaction_id holds a card number"
    assert told[4] == "transaction_id: Expected `str`, got `null`"
    assert "4000" not in " ".join(told.values())


def test_a_decision_is_that_of_the_cuts() -> None:
    cuts = Cuts((0.02, 0.2, 0.9), ("STEP_UP", "REVIEW", "DECLINE"))
    rows = np.random.default_rng(4).gamma(1.0, 20.0, (200, FRAUD.width)).astype(np.float32)
    scored = bulk.score_vectors(model(), rows, batch=7)
    assert scored.decisions == [cuts.decide(float(score)) for score in scored.scores]


def test_instants_of_the_shop_are_what_the_tests_take_them_for() -> None:
    assert instant(GOOD | {"event_time": "2026-11-24T09:00:00.000001Z"}) == 1_795_510_800 * NS_PER_S + 1_000
