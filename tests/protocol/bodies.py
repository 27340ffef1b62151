"""V2 bodies for tests, written without the code under test."""

from __future__ import annotations

import json
import struct
from typing import Any

CARD = "4111111111111111"


def tensor(data: Any, datatype: str = "FP32", shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """An input in JSON; its shape is that of a flat list unless given."""
    whole = {"name": "vectors", "shape": [len(data)] if shape is None else shape, "datatype": datatype, "data": data}
    return {key: value for key, value in (whole | more).items() if value is not ...}


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    """A request's JSON."""
    return json.dumps({"inputs": inputs} | more).encode()


def strings(*values: bytes) -> bytes:
    """A `BYTES` tensor as raw data."""
    return b"".join(struct.pack("<I", len(each)) + each for each in values)


def framed(*raws: tuple[dict[str, Any], bytes], **more: Any) -> tuple[bytes, int]:
    """JSON and raw tensors behind it: the body, and the length of its JSON."""
    inputs = [tensor(..., parameters={"binary_data_size": len(raw)}, **fields) for fields, raw in raws]
    head = body(*inputs, **more)
    return head + b"".join(raw for _, raw in raws), len(head)


COLUMNS: dict[str, Any] = {
    "transaction_id": "tx-1",
    "pan": CARD,
    "amount": 1_000,
    "currency": "EUR",
    "terminal_id": "t1",
    "device_id": "d1",
    "ip": "10.0.0.1",
    "mcc": "5411",
    "country": "NL",
    "event_time": "2026-11-24T09:00:00Z",
}


def columns(*rows: dict[str, Any], without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """One tensor per raw column; a row states what differs from `COLUMNS`."""
    return [
        tensor(
            [(COLUMNS | row)[name] for row in rows], "INT64" if name == "amount" else "BYTES", [len(rows)], name=name
        )
        for name in COLUMNS
        if name not in without
    ]
