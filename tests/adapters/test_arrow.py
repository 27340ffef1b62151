"""Parquet as columns, and the function for Spark, on plain record batches."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.builders import tiny_bundle

from interlock.adapters.arrow import columns, map_in_arrow, sink, work
from interlock.adapters.arrow.source import Source, locate, refuse_changed
from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.base.errors import IntegrityError, UsageError
from interlock.decision.model import open_model
from interlock.features.definition import FRAUD
from interlock.registry.bundle import Bundle
from interlock.serving import bulk
from interlock.wiring.job import batch_scorer


def parquet(path: Path, rows: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"a": list(range(rows))}), path)
    return path


def test_a_folders_parts_are_its_data_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.parquet", "a/z.parquet", "_metadata/x.parquet", ".tmp.parquet", "a/_x.parquet"):
        parquet(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    assert [part.name for part in Source(str(tmp_path)).parts] == ["a/z.parquet", "b.parquet"]
    assert [part.name for part in Source(f"file://{tmp_path}/").parts] == ["a/z.parquet", "b.parquet"]
    assert [part.name for part in Source(str(tmp_path / "b.parquet")).parts] == ["b.parquet"]


def test_what_is_not_there_or_no_parquet_is_refused_without_its_content(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such input"):
        Source(str(tmp_path / "nothing.parquet"))
    with pytest.raises(UsageError, match="without Parquet"):
        Source(str(tmp_path))
    with pytest.raises(UsageError, match="not a place"):
        locate("gopher://x/y")
    (tmp_path / "x.parquet").write_text("4000001234567899")
    source = Source(str(tmp_path))
    with pytest.raises(UsageError) as caught:
        source.shape(source.parts[0])
    assert "4000" not in str(caught.value)


def test_a_part_that_changes_is_noticed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet")
    source = Source(str(path))
    refuse_changed(source, source.parts)
    parquet(path, rows=4)
    with pytest.raises(IntegrityError, match=r"x\.parquet changed"):
        refuse_changed(source, source.parts)


def test_texts_come_plain_however_they_are_stored() -> None:
    values = ["x", None, "y", "x"]
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())):
        assert columns.plain(pa.chunked_array([pa.array(values).cast(kind)])) == values
    assert columns.plain(pa.chunked_array([pa.array([1, None])])) == [1, None]
    assert columns.plain(pa.chunked_array([pa.array([1, 2], pa.int16())])) == [1, 2]
    assert columns.plain(pa.chunked_array([pa.array([0.5])])) == [0.5]


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("ns", tz="UTC"), pa.timestamp("us", tz="Europe/Paris"), pa.timestamp("ms"), pa.timestamp("s", "UTC")],
)
def test_instants_are_nanoseconds_whatever_their_unit(kind: pa.DataType) -> None:
    whole = pa.array([1_795_510_800, None, 0], pa.int64()).cast(pa.timestamp("s"))
    stored = pa.chunked_array([whole.cast(pa.timestamp(kind.unit)).cast(pa.int64()).cast(kind)])
    found = columns.raw(pa.table({"event_time": stored}))
    assert found[bulk.EVENT_NS].tolist() == [1_795_510_800_000_000_000, bulk.NO_TIME, 0]


def test_an_instant_beyond_nanoseconds_is_none_and_not_another_one() -> None:
    far = pa.chunked_array([pa.array([99_999_999_999, -5, 7], pa.int64()).cast(pa.timestamp("s"))])
    assert columns.instants(far).tolist() == [bulk.NO_TIME, bulk.NO_TIME, 7_000_000_000]


def test_equal_texts_have_equal_codes_across_pieces_and_history(tmp_path: Path) -> None:
    names = ["x", "y", "x"], ["z", "x"], []
    for number, values in enumerate(names):
        sink.write(tmp_path / f"{number}.parquet", pa.table({"card": pa.array(values, pa.string())}))
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    found = work.codes(paths, "card", np.array(["z", "q"]))
    texts = ["z", "q", "x", "y", "x", "z", "x"]
    assert len(found) == len(texts)
    assert [[one == other for other in found] for one in found] == [[a == b for b in texts] for a in texts]
    assert work.codes([], "card").tolist() == []


def batch(rows: int, seed: int = 1) -> pa.RecordBatch:
    block = np.random.default_rng(seed).gamma(1.0, 20.0, (rows, FRAUD.width)).astype(np.float32)
    named = {name: block[:, index] for index, name in enumerate(FRAUD.names)}
    return pa.record_batch({"transaction_id": [f"t{number}" for number in range(rows)], **named})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("b"), trees=60)


def test_record_batches_are_scored_as_the_model_decides(bundle: Bundle) -> None:
    given = [batch(5), batch(1, 2), batch(0), batch(70, 3)]
    found = list(batch_scorer(bundle)(iter(given)))
    assert [each.num_rows for each in found] == [5, 1, 0, 70]
    model = open_model(bundle, OnnxRuntime.from_bytes)
    for mine, theirs in zip(found, given, strict=True):
        assert mine.schema.equals(map_in_arrow.schema())
        whole = bulk.score_vectors(model, columns.vectors(pa.Table.from_batches([theirs]), FRAUD.names))
        assert mine.column("score").to_numpy().tobytes() == whole.scores.tobytes()
        assert mine.column("decision").to_pylist() == whole.decisions
        assert mine.column("rejected").null_count == mine.num_rows


def test_sparks_schema_is_that_of_the_batches() -> None:
    named = [f"{field.name} {field.type}" for field in map_in_arrow.schema()]
    assert ", ".join(named) == map_in_arrow.SPARK_SCHEMA


def test_a_row_that_breaks_a_rule_keeps_its_place_and_gets_no_score(bundle: Bundle) -> None:
    table = pa.Table.from_batches([batch(4)])
    ids = pa.array(["a", "4000001234567899", "c", "d"])
    spoilt = table.column("amount").to_numpy().copy()
    spoilt[2] = np.nan
    table = table.set_column(0, "transaction_id", ids).set_column(1, "amount", pa.array(spoilt))
    assert table.column_names[1] == "amount"
    (found,) = batch_scorer(bundle)(iter(table.to_batches()))
    assert found.column("transaction_id").to_pylist() == ["a", None, None, "d"]
    assert [each is None for each in found.column("score").to_pylist()] == [False, True, True, False]
    assert found.column("rejected").to_pylist() == [
        None,
        "transaction_id holds a card number",
        "a feature is null, NaN or infinite",
        None,
    ]


def test_the_function_of_a_folder_and_of_a_bundle_are_alike(bundle: Bundle, tmp_path: Path) -> None:
    again = tiny_bundle(tmp_path, trees=60)
    folder = tmp_path / again.digest.removeprefix("sha256:")
    one = map_in_arrow.scorer(str(folder), OnnxRuntime.from_bytes)
    (mine,), (theirs,) = one(iter([batch(3)])), batch_scorer(bundle)(iter([batch(3)]))
    assert mine.equals(theirs)


def test_bytes_that_are_not_the_bundles_are_refused_where_they_arrive(bundle: Bundle) -> None:
    swapped = Bundle("sha256:" + "0" * 64, bundle.files)
    with pytest.raises(IntegrityError):
        list(map_in_arrow.BatchScorer(swapped, OnnxRuntime.from_bytes)(iter([batch(1)])))


ELSEWHERE = """
import pickle, sys, pyarrow as pa
score, batch = pickle.load(sys.stdin.buffer)
(found,) = score(iter([batch]))
sys.stdout.buffer.write(found.column("score").to_numpy().tobytes())
assert "pyspark" not in sys.modules
"""


@pytest.mark.process
def test_the_function_travels_to_another_process(bundle: Bundle) -> None:
    function = batch_scorer(bundle)
    list(function(iter([batch(1)])))  # an open model does not travel
    given = pickle.dumps((function, batch(9)))
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], input=given, capture_output=True, check=True, env=os.environ
    )
    (here,) = function(iter([batch(9)]))
    assert done.stdout == here.column("score").to_numpy().tobytes()
