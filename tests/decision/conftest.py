from collections.abc import Callable

import pytest

from interlock.decision.record import DecisionRecord

DIGEST = "sha256:" + "a" * 64


def make(number: int, **changes: object) -> DecisionRecord:
    fields: dict[str, object] = {
        "decision_id": f"018f3c5e-0000-7000-8000-{number:012x}",
        "service": "fraud",
        "transaction_id": f"t-{number}",
        "attempt": 1,
        "inputs": {"card": f"{number % 7:032x}", "terminal": f"{number % 5:032x}", "amount": 100 + number},
        "received_ns": 1_790_000_000_000_000_000 + number,
        "edge_ns": 1_790_000_000_000_000_000 + number,
        "clock": (None, 1.0),
        "epoch": 1,
        "generation": 2,
        "arm": "champion",
        "bundle": DIGEST,
        "folder": DIGEST,
        "version": "1.0.0",
        "feature_set": DIGEST,
        "applied": ((1, number + 1), (1, 9)),
        "vector": b"\x00\x00\x80?" * 4,
        "score": 0.5,
        "threshold_set": DIGEST,
        "decision": "APPROVE",
        "propensity": 1.0,
    }
    return DecisionRecord(**(fields | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make_record() -> Callable[..., DecisionRecord]:
    return make
