from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from interlock.base.errors import IntegrityError
from interlock.decision import record
from interlock.decision.record import DecisionRecord

Make = Callable[..., DecisionRecord]


def test_a_record_survives_its_payload(make_record: Make) -> None:
    one = make_record(3, clock=(5, 650.0), score=float(np.float32(0.1)), degraded=record.MISS | record.RESUMED)
    assert record.decode(record.encode(one)) == one


def test_a_float32_score_survives_bit_for_bit(make_record: Make) -> None:
    for score in np.linspace(0, 1, 97, dtype=np.float32):
        back = record.decode(record.encode(make_record(1, score=float(score)))).score
        assert np.float32(back).tobytes() == score.tobytes()


def test_the_recorded_vector_is_float32(make_record: Make) -> None:
    features = make_record(1, vector=np.array([1.5, -2], "<f4").tobytes()).features()
    assert features.dtype == np.float32
    assert features.tolist() == [1.5, -2.0]


def test_another_schema_and_other_bytes_are_refused(make_record: Make) -> None:
    with pytest.raises(IntegrityError, match="schema"):
        record.decode(record.encode(make_record(1, schema=2)))
    with pytest.raises(IntegrityError, match="no decision record"):
        record.decode(b"\x91\x01")


def test_the_order_of_the_fields_is_the_format() -> None:
    assert [f.name for f in msgspec.structs.fields(DecisionRecord)] == [
        "schema",
        "decision_id",
        "service",
        "transaction_id",
        "attempt",
        "inputs",
        "received_ns",
        "edge_ns",
        "clock",
        "epoch",
        "generation",
        "arm",
        "bundle",
        "folder",
        "version",
        "feature_set",
        "applied",
        "vector",
        "score",
        "threshold_set",
        "decision",
        "propensity",
        "degraded",
        "principal",
        "model_ns",
        "batch",
        "trace_id",
        "asked",
    ]
