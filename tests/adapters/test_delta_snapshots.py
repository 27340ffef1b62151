from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.adapters.delta.snapshots import (
    Snapshot,
    digest_table,
    events_of,
    latest,
    read,
    snapshots,
    states_of,
    tokenise,
    write_snapshot,
)
from interlock.base.errors import IntegrityError, UsageError
from interlock.features.definition import FRAUD
from interlock.features.population import PopulationSettings, generate
from interlock.privacy.token import Tokeniser

pytestmark = pytest.mark.process  # Delta alone takes a second to import, and every test writes tables

SETTINGS = PopulationSettings(cards=60, terminals=20, days=2, terminals_hit=1, cards_hit=2, attackers=2)
KEY = Tokeniser(b"k" * 32)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return tokenise(generate(SETTINGS), KEY)


def test_a_snapshot_holds_tokens_equal_to_the_scorers_and_no_card_number(table: pa.Table) -> None:
    raw = generate(SETTINGS)
    assert table.column("card")[0].as_py() == KEY.card(str(raw["pan"][0]))
    assert table.column("ip")[0].as_py() == KEY.entity("ip", str(raw["ip"][0]))
    stored = str(table.to_pydict())
    assert not any(number in stored for number in set(raw["pan"].tolist()))


def test_the_digest_does_not_depend_on_chunks_or_encoding(table: pa.Table) -> None:
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 30), table.slice(37)])
    encoded = table.set_column(1, "card", table.column("card").dictionary_encode())
    assert digest_table(chunked) == digest_table(encoded) == digest_table(table)


@settings(max_examples=40)
@given(st.data())
def test_any_changed_value_changes_the_digest(data: st.DataObject) -> None:
    rows = [{"event_time": i, "card": f"c{i}", "ok": i % 2 == 0, "score": i / 3, "note": None} for i in range(20)]
    schema = pa.schema(
        [("event_time", "int64"), ("card", "string"), ("ok", "bool"), ("score", "double"), ("note", "string")]
    )
    whole = pa.Table.from_pylist(rows, schema)
    row = data.draw(st.integers(0, 19))
    name, value = data.draw(
        st.sampled_from([("event_time", -1), ("card", ""), ("card", None), ("ok", None), ("score", 0.1), ("note", "")])
    )
    rows[row] = rows[row] | {name: value}
    assert digest_table(pa.Table.from_pylist(rows, schema)) != digest_table(whole)


def test_moved_lost_and_renamed_data_change_the_digest(table: pa.Table) -> None:
    others = [
        table.take(pa.array([1, 0, *range(2, table.num_rows)])),
        table.slice(1),
        table.rename_columns(["when", *table.column_names[1:]]),
        table.select(table.column_names[::-1]),
    ]
    assert len({digest_table(t) for t in [table, *others]}) == 5
    shifted = [pa.table({"a": ["ab", "c"]}), pa.table({"a": ["a", "bc"]})]
    assert digest_table(shifted[0]) != digest_table(shifted[1])


def test_a_written_snapshot_reads_back_verified_and_older_versions_stay(tmp_path: Path, table: pa.Table) -> None:
    first = write_snapshot(tmp_path, table, "transactions", "test")
    second = write_snapshot(tmp_path, table.slice(5), "transactions", "test")
    assert [s.version for s in snapshots(tmp_path)] == [0, 1]
    assert latest(tmp_path) == second
    assert read(tmp_path, first).equals(table)
    assert Snapshot.from_json(first.to_json()) == first
    assert (first.rows, first.first_ns) == (table.num_rows, table.column("event_time")[0].as_py())


def test_a_snapshot_whose_rows_changed_is_refused(tmp_path: Path, table: pa.Table) -> None:
    first = write_snapshot(tmp_path, table, "transactions", "test")
    second = write_snapshot(tmp_path, table.slice(5), "transactions", "test")
    with pytest.raises(IntegrityError):
        read(tmp_path, dataclasses.replace(second, version=first.version))
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    with pytest.raises(IntegrityError):
        read(tmp_path, first)


@pytest.mark.parametrize("name", ["pan", "cvv", "row"])
def test_columns_that_must_not_be_stored_are_refused(tmp_path: Path, table: pa.Table, name: str) -> None:
    with pytest.raises(UsageError):
        write_snapshot(tmp_path, table.append_column(name, table.column("amount")), "t", "test")


def test_transactions_without_an_entity_are_refused() -> None:
    with pytest.raises(UsageError):
        tokenise({"amount": np.array([1])}, KEY)


def test_an_empty_snapshot_is_refused(tmp_path: Path, table: pa.Table) -> None:
    with pytest.raises(UsageError):
        write_snapshot(tmp_path, table.slice(0, 0), "t", "test")
    with pytest.raises(UsageError):
        latest(tmp_path)


def test_states_carry_the_base_that_names_the_snapshot(tmp_path: Path, table: pa.Table) -> None:
    snapshot = write_snapshot(tmp_path, table, "transactions", "test")
    states, base = states_of(FRAUD, snapshot, read(tmp_path, snapshot))
    assert (base.snapshot, base.set_hash, base.events) == (snapshot.digest, FRAUD.set_hash, table.num_rows)
    assert len({(kind, token) for kind, token, _ in states}) == sum(
        len(set(tokens.tolist())) for tokens in events_of(table).entities.values()
    )
