"""Steady traffic on a scorer from a few threads: keep-alive, nothing retried, every failure kept."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from types import TracebackType
from typing import Any

CARDS = 2_000
SLOW_S = 5.0
"""A reply later than this counts as failed."""


def card(number: int) -> str:
    """A Luhn-valid number of a test range."""
    body = f"411111{number:09d}"
    total = sum(sum(divmod(int(d) * (1 + i % 2), 10)) for i, d in enumerate(body, start=1))
    return body + str(-total % 10)


def transaction(name: str, number: int) -> dict[str, Any]:
    """One transaction of a card."""
    return {
        "transaction_id": name,
        "pan": card(number),
        "amount": 1_000 + number,
        "currency": "EUR",
        "terminal_id": f"t{number % 50}",
        "device_id": f"d{number}",
        "ip": f"10.0.{number // 250}.{number % 250}",
        "mcc": "5411",
        "country": "NL",
        "event_time": "2026-11-24T09:00:00Z",
    }


class Load:
    """`with Load(url, rate) as load:` … `load.failures`.

    Args:
        url: of the scorer.
        rate: requests per second.
        threads: kept connections.
        anew: every so many requests of a thread go over a new connection of their own (0: none).
    """

    def __init__(self, url: str, rate: float = 100.0, threads: int = 4, anew: int = 0) -> None:
        self._address = url.removeprefix("http://")
        self._pause_s = threads / rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]
        self._anew = anew
        self.sent = 0
        self.degraded = 0
        self.answers: dict[str, int] = {}
        """Replies by model version."""
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def flows(self, more: int = 50) -> None:
        """Wait until `more` further requests were answered."""
        goal, end = sum(self.answers.values()) + more, time.monotonic() + 60
        while sum(self.answers.values()) < goal:
            assert time.monotonic() < end, f"no traffic: {self.failures[-3:]}"
            time.sleep(0.02)

    def _run(self, lane: int) -> None:
        generator = random.Random(lane)
        connection = http.client.HTTPConnection(self._address, timeout=SLOW_S)
        due, number = time.monotonic(), 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due, number = due + self._pause_s, number + 1
            name, card_number = f"load-{lane}-{number}", generator.randrange(CARDS)
            if self._anew and number % self._anew == 0:
                self._one(http.client.HTTPConnection(self._address, timeout=SLOW_S), name, card_number).close()
            else:
                connection = self._one(connection, name, card_number)
        connection.close()

    def _one(self, connection: http.client.HTTPConnection, name: str, number: int) -> http.client.HTTPConnection:
        body = json.dumps({"instances": [transaction(name, number)]})
        with self._lock:
            self.sent += 1
        try:
            connection.request("POST", "/v1/models/fraud:predict", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            data = reply.read()
            if reply.status != 200:
                raise ValueError(f"status {reply.status}: {data[:200]!r}")
            prediction = json.loads(data)["predictions"][0]
            version = prediction["model_version"]
        except (OSError, ValueError, http.client.HTTPException) as error:
            with self._lock:
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
            connection.close()
            return http.client.HTTPConnection(self._address, timeout=SLOW_S)
        with self._lock:
            self.answers[version] = self.answers.get(version, 0) + 1
            self.degraded += prediction["degraded"]
        if reply.getheader("connection") == "close":
            connection.close()
            return http.client.HTTPConnection(self._address, timeout=SLOW_S)
        return connection
