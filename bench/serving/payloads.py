"""What is sent: the same transactions, or the same vectors, to every contestant, as ready bytes.

Standard library alone: the peers' environments import the population from here. Everything follows
from fixed seeds. Card numbers are of a test range, with a right check digit.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence

CARDS = 20_000
TERMINALS = 5_000
DEVICES = 20_000
IPS = 20_000
POPULATION = {"card": CARDS, "terminal": TERMINALS, "device": DEVICES, "ip": IPS}
WINDOWS = ("1m", "10m", "1h", "24h", "7d")
VARIETY = 20_000
"""Different transactions; each is sent under a new id each time."""
VECTORS = 512
WIDTH = 61

Make = Callable[[int], bytes]
"""The bytes of request number n."""


def card(number: int) -> str:
    """A card number of a test range."""
    body = f"411111{number:09d}"
    total = sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(body, start=1))
    return body + str(-total % 10)


NAMES: dict[str, Callable[[int], str]] = {
    "card": card,
    "terminal": lambda number: f"t{number}",
    "device": lambda number: f"d{number}",
    "ip": lambda number: f"10.0.{number // 250}.{number % 250}",
}


def transaction(number: int) -> dict[str, object]:
    """Transaction `number` of the variety, without its id."""
    draw = random.Random(number)
    return {
        "pan": card(draw.randrange(CARDS)),
        "amount": draw.randrange(100, 100_000),
        "currency": "EUR",
        "terminal_id": NAMES["terminal"](draw.randrange(TERMINALS)),
        "device_id": NAMES["device"](draw.randrange(DEVICES)),
        "ip": NAMES["ip"](draw.randrange(IPS)),
        "mcc": "5411",
        "country": "FR",
    }


def history(kind: str, number: int) -> list[int]:
    """What a feature store that is filled from outside knows of an entity: (count, sum) by window."""
    draw = random.Random(f"{kind}{number}")
    count, found = 0, []
    for _ in WINDOWS:
        count += draw.randrange(1, 6)
        found += [count, count * draw.randrange(1_000, 20_000)]
    return found


def vector(number: int) -> list[float]:
    """Input vector `number`, float32 values that JSON holds exactly."""
    draw = random.Random(number)
    return [float(draw.randrange(0, 4_000)) / 16 for _ in range(WIDTH)]


def head(target: str, length: int, extra: str = "") -> bytes:
    """The head of a POST."""
    return (
        f"POST {target} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"{extra}Content-Length: {length}\r\n\r\n"
    ).encode()


def transactions(target: str, run: str) -> Make:
    """V1 requests with one transaction each; the id is `run` and the request's number."""
    starts, tails = [], []
    for number in range(VARIETY):
        rest = json.dumps(transaction(number), separators=(",", ":"))[1:]
        tail = f'","{rest[1:]}]}}'.encode()
        start = b'{"instances":[{"transaction_id":"'
        starts.append(head(target, len(start) + len(run) + 9 + len(tail)) + start + run.encode())
        tails.append(tail)
    return lambda number: b"%b%09d%b" % (starts[number % VARIETY], number, tails[number % VARIETY])


def _fixed(requests: Sequence[bytes]) -> Make:
    return lambda number: requests[number % len(requests)]


def tensor_inputs(data: object) -> dict[str, object]:
    """A V2 request's body with one row."""
    return {"inputs": [{"name": "vectors", "shape": [1, WIDTH], "datatype": "FP32", "data": data}]}


def tensors(target: str, run: str) -> Make:
    """V2 requests in JSON with one row each."""
    del run
    bodies = [json.dumps(tensor_inputs(vector(number)), separators=(",", ":")).encode() for number in range(VECTORS)]
    return _fixed([head(target, len(body)) + body for body in bodies])


def raw(number: int) -> bytes:
    """A vector as little-endian float32."""
    return struct.pack(f"<{WIDTH}f", *vector(number))


def binary_tensors(target: str, run: str) -> Make:
    """V2 requests whose row is binary."""
    del run
    about = json.dumps(
        {
            "inputs": [
                {
                    "name": "vectors",
                    "shape": [1, WIDTH],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 4 * WIDTH},
                }
            ]
        },
        separators=(",", ":"),
    ).encode()
    extra = f"Inference-Header-Content-Length: {len(about)}\r\n"
    start = head(target, len(about) + 4 * WIDTH, extra) + about
    return _fixed([start + raw(number) for number in range(VECTORS)])


def rows(target: str, run: str) -> Make:
    """Plain JSON with one row each, for servers without a protocol of their own."""
    del run
    bodies = [json.dumps({"instances": [vector(number)]}, separators=(",", ":")).encode() for number in range(VECTORS)]
    return _fixed([head(target, len(body)) + body for body in bodies])


KINDS: dict[str, Callable[[str, str], Make]] = {
    "transactions": transactions,
    "tensors": tensors,
    "binary": binary_tensors,
    "rows": rows,
}
