"""One request before the load: is the contestant ready, and does it serve the model that all serve?

The score it gives is compared with the exported model's own, on the vector that the contestant must
have assembled: an empty history, the history that was written for it, or the vector in the request.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any

import numpy as np
from bench.serving.home import until
from bench.serving.payloads import CARDS, DEVICES, IPS, NAMES, TERMINALS, history, transaction, vector

from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.features.definition import FRAUD
from interlock.features.vector import assemble

TOLERANCE = 1e-4
READY_S = 60.0


def exchange(address: tuple[str, int], request: bytes) -> tuple[int, bytes]:
    """One request on a new connection: status and body."""
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65_536)):
                raise ConnectionError("the connection ended before the reply's head")
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            if not (piece := connection.recv(65_536)):
                raise ConnectionError("the connection ended within the reply")
            body += piece
    return int(head.split(b" ", 2)[1]), body


def answer(address: tuple[str, int], request: bytes) -> bytes:
    """The body of the first good reply; asks until the server is ready."""
    last: list[Any] = []

    def good() -> bytes | None:
        status, body = exchange(address, request)
        last[:] = [status, body[:300]]
        return body if status == 200 else None

    with contextlib.suppress(TimeoutError):
        return until(good, "the server is ready", READY_S) or b""
    raise ConnectionError(f"no good answer: {last}")


def score_of(body: bytes) -> float:
    """The score in a V1 or V2 reply."""
    found = json.loads(body.decode("latin-1"))
    if "predictions" in found:
        first = found["predictions"][0]
        return float(first["score"] if isinstance(first, dict) else first)
    outputs = {output["name"]: output["data"] for output in found["outputs"]}
    return float((outputs.get("score") or outputs["predict"])[0])


def grpc_score(response: bytes) -> float:
    """The score in a `ModelInferResponse` (protobuf): the first of its raw contents, little-endian float32."""
    place = 0
    while place < len(response):
        tag, place = _varint(response, place)
        length, place = _varint(response, place)
        if tag == 6 << 3 | 2:
            return float(np.frombuffer(response[place : place + length], "<f4")[0])
        place += length  # every field of this message is length-delimited
    raise ValueError("the response has no raw contents")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def expected(knows: str, model: bytes, output: str) -> float:
    """What the first request of a kind must score."""
    if knows == "vector":
        row = np.array([vector(0)], np.float32)
    else:
        one = transaction(0)
        values = np.array([_known(one) if knows == "history" else [0] * FRAUD.value_count], np.int64)
        row = assemble(FRAUD, [one], values, np.array([time.time_ns() // 1_000_000]))
    return float(OnnxRuntime.from_bytes(model, output).run(row)[0])


def _known(one: dict[str, Any]) -> list[int]:
    fields = {"card": ("pan", CARDS), "terminal": ("terminal_id", TERMINALS), "device": ("device_id", DEVICES)}
    found: list[int] = []
    for kind, (field, count) in {**fields, "ip": ("ip", IPS)}.items():
        number = next(each for each in range(count) if NAMES[kind](each) == one[field])
        found += history(kind, number)
    return found
