"""The same transactions online and in bulk: a small shop, and what a worker answers to it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tests.serving.one_worker import OneWorker

from interlock.base.clock import NS_PER_S, rfc3339
from interlock.decision.decide import Model
from interlock.decision.record import DecisionRecord
from interlock.features.definition import FRAUD
from interlock.features.online import Base
from interlock.features.population import FIELDS, PopulationSettings, generate
from interlock.privacy.token import Tokeniser
from interlock.serving.call import Call, Unanswered
from interlock.serving.tick import Row
from interlock.serving.wire import v1

KEY = bytes(range(32))
CUTS = ((0.02, "STEP_UP"), (0.2, "REVIEW"), (0.9, "DECLINE"))
"""Where the tiny models give every decision to some of the shop's transactions."""


def shop(cards: int = 60, days: int = 3, seed: int = 11) -> list[dict[str, Any]]:
    """Transactions in time order, as dicts of a request's fields; `event_time` in RFC 3339 (µs)."""
    few = PopulationSettings(cards=cards, terminals=12, days=days, seed=seed, terminals_hit=1, cards_hit=4, attackers=2)
    columns = generate(few)
    rows = [dict(zip(FIELDS, each, strict=True)) for each in zip(*(columns[n].tolist() for n in FIELDS), strict=True)]
    return [row | {"event_time": rfc3339(row["event_time"])} for row in rows]


def instant(row: dict[str, Any]) -> int:
    """The event time in ns."""
    return int(np.datetime64(row["event_time"].removesuffix("Z"), "ns").astype(np.int64))


def troubled(rows: list[dict[str, Any]], seed: int = 3) -> list[dict[str, Any]]:
    """The rows with ties, duplicates inside and outside the reply window, nulls; in time order."""
    chance = random.Random(seed)
    found = [dict(row) for row in rows]
    for number in range(0, len(found), 29):
        found[number] |= {"mcc": None} if chance.random() < 0.5 else {"country": None}
    for number in range(5, len(found), 17):
        found[number]["event_time"] = found[number - 1]["event_time"]
    for number in range(3, len(found), 23):
        again = dict(found[number])
        # Late in an hour: the reply within the window is that of the hour before.
        late = instant(again) // NS_PER_S % 3_600 > 2_710
        later_s = 899 if late else chance.choice((1, 60, 899, 900, 4_000))
        again["event_time"] = rfc3339(instant(again) + later_s * NS_PER_S)
        found.append(again | {"amount": again["amount"] + 7})
    return sorted(found, key=instant)


def write(path: Path, rows: Iterable[dict[str, Any]], group: int = 100, typed: bool = True) -> None:
    """Rows as Parquet; the time as an instant (`typed`) or as text."""
    table = pa.Table.from_pylist(list(rows))
    if typed:
        times = pa.array([instant(row) for row in rows], pa.timestamp("ns", tz="UTC"))
        table = table.set_column(table.column_names.index("event_time"), "event_time", times)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=group)


def online(
    model: Model,
    rows: Iterable[dict[str, Any]],
    key: bytes = KEY,
    states: Iterable[tuple[str, str, bytes]] = (),
) -> list[tuple[bytes, DecisionRecord]]:
    """What a worker answers, one request a row, its clock standing at each row's event time.

    Returns:
        Per row the score and the decision of the reply, and the record that the reply rests on.
    """
    worker = OneWorker()
    tokeniser = Tokeniser(key)

    async def run() -> list[bytes]:
        await worker.store.load(states, Base("a snapshot", FRAUD.set_hash, 1, 0))
        worker.route(model)
        replies = []
        for row in rows:
            worker.wall.wall_ns = instant(row)
            replies.append(await _ask(worker, row, tokeniser))
        await worker.pipeline.idle()
        return replies

    replies = asyncio.run(run())
    worker.close()
    by_id = {record.decision_id: record for record in worker.recorder.records}
    return [(reply, by_id[msgspec.json.decode(reply)["decision_id"]]) for reply in replies]


async def _ask(worker: OneWorker, given: dict[str, Any], tokeniser: Tokeniser) -> bytes:
    body = json.dumps({"instances": [given]}).encode()
    (one,) = v1.decode(body, FRAUD.currencies, 1)
    future: asyncio.Future[list[bytes] | Unanswered] = asyncio.get_running_loop().create_future()
    call = Call(1, future.set_result)
    inputs: dict[str, Any] = {
        "card": tokeniser.card(one.pan),
        "terminal": tokeniser.entity("terminal", one.terminal_id),
        "device": tokeniser.entity("device", one.device_id),
        "ip": tokeniser.entity("ip", one.ip),
        "amount": one.amount,
        "currency": one.currency,
    }
    inputs |= {name: value for name in ("mcc", "country") if (value := getattr(one, name)) is not None}
    entities = tuple(inputs[kind].encode() for kind in FRAUD.entities)
    now = worker.wall.now_ns()
    claim = f"fraud:{one.transaction_id}".encode()
    worker.pipeline.submit([Row(call, 0, one.transaction_id, inputs, entities, claim, now, now, (None, 1.0), "", "")])
    outcome = await future
    assert not isinstance(outcome, Unanswered)
    return outcome[0]
