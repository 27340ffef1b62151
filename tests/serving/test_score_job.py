"""`interlock score`: equal to the scorer bit for bit, and to itself however often it was killed."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.builders import tiny_bundle
from tests.serving.batches import instant, online, shop, troubled, write
from tests.serving.object_store import KEYS, object_store
from tests.serving.scoring_home import ScoringHome, rows_of, told_of

from interlock.adapters.delta import snapshots
from interlock.apps.control.client import ControlClient
from interlock.base.errors import IntegrityError, RefusedError, UsageError
from interlock.features.definition import FRAUD

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ScoringHome:
    return ScoringHome(tmp_path_factory.mktemp("scoring"))


def split(rows: list[dict[str, Any]], days: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """History and what follows it."""
    end = instant(rows[0]) // 86_400_000_000_000 + days
    past = [row for row in rows if instant(row) // 86_400_000_000_000 < end]
    return past, rows[len(past) :]


def test_a_batch_is_scored_as_the_scorer_would_have_bit_for_bit(home: ScoringHome, tmp_path: Path) -> None:
    past, rows = split(shop(cards=60, days=5), 3)
    rows = troubled(rows)
    snapshot = home.remember(past)
    table = snapshots.read(home.settings.places.tables / "transactions", snapshot)
    states, _ = snapshots.states_of(FRAUD, snapshot, table)
    answered = online(home.model, rows, home.key, states)
    shuffled = list(enumerate(rows))
    random.Random(5).shuffle(shuffled)
    # Ties keep the input's order: within one instant the file must have the order of the requests.
    shuffled = _in_order_within_an_instant(shuffled)
    bad = {**rows[0], "transaction_id": "bad", "currency": "USD"}
    half = len(rows) // 2
    write(tmp_path / "in" / "a.parquet", [row for _, row in shuffled[:half]], typed=False)
    write(tmp_path / "in" / "deep" / "b.parquet", [bad, *(row for _, row in shuffled[half:])])
    done = home.run(
        tmp_path / "in",
        tmp_path / "out",
        "--service",
        "fraud",
        "--history",
        "transactions",
        "--with-vectors",
        "--workers",
        "2",
        "--output",
        "json",
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    scored = rows_of(tmp_path / "out" / "a.parquet") + rows_of(tmp_path / "out" / "deep" / "b.parquet")
    assert len(scored) == len(rows)
    for mine, (number, row) in zip(scored, shuffled, strict=True):
        _, record = answered[number]
        assert mine["transaction_id"] == row["transaction_id"] == record.transaction_id
        assert np.array(mine["vector"], "<f4").tobytes() == record.vector
        assert np.float32(mine["score"]).tobytes() == np.float32(record.score).tobytes()
        assert mine["decision"] == record.decision
        assert (mine["model_version"], mine["bundle"], mine["threshold_set"]) == (
            record.version,
            home.bundle.digest,
            home.bundle.threshold_set,
        )
    (rejected,) = rows_of(tmp_path / "out.rejects.parquet")
    assert rejected == {"part": "deep/b.parquet", "row": 0, "reason": "currency is not accepted"}
    assert (found["rows"], found["scored"], found["rejected"]) == (len(rows) + 1, len(rows), 1)
    assert found["repeated"] == len(answered) - len({record.decision_id for _, record in answered}) > 0
    assert found["history"] == snapshot.digest
    assert found["decisions"] == dict(sorted(Counter(each["decision"] for each in scored).items()))
    assert len(found["decisions"]) == 4


def _in_order_within_an_instant(shuffled: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    places: dict[int, list[int]] = {}
    for place, (_, row) in enumerate(shuffled):
        places.setdefault(instant(row), []).append(place)
    found = list(shuffled)
    for same in places.values():
        for place, entry in zip(same, sorted((shuffled[at] for at in same), key=lambda one: one[0]), strict=True):
            found[place] = entry
    return found


def test_what_was_scored_is_an_event_and_the_output_says_what_made_it(home: ScoringHome, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", shop(cards=8, days=1))
    found = home.score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    with ControlClient.open(home.settings) as control:
        event = control.events(types=["batch.scored"])[-1]
    assert (event.actor, event.object, event.outcome) == ("ada", "service/fraud", "success")
    assert (event.body["bundle"], event.body["rows"], event.body["input"]) == (
        home.bundle.digest,
        found["rows"],
        found["input"],
    )
    said = told_of(tmp_path / "out.parquet")
    assert (said["bundle"], said["edge_clock"], said["history"]) == (home.bundle.digest, "event_time", None)
    assert said["admission"] == found["admission"] is not None
    manifest = json.loads((tmp_path / "out.manifest.json").read_bytes())
    assert manifest["event_recorded"] is True
    assert not (home.home / "batches" / manifest["key"]).exists()


def test_the_number_of_processes_and_the_layout_of_targets_change_no_byte(home: ScoringHome, tmp_path: Path) -> None:
    rows = troubled(shop(cards=20, days=2))
    write(tmp_path / "in" / "x.parquet", rows[:90], group=20)
    write(tmp_path / "in" / "y.parquet", rows[90:], group=33)
    home.score(tmp_path / "in", tmp_path / "one", workers=1)
    home.score(tmp_path / "in", f"file://{tmp_path}/two/", workers=3, with_vectors=False, mode="raw")
    for name in ("x.parquet", "y.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    home.score(f"file://{tmp_path}/in", tmp_path / "all.parquet")
    assert rows_of(tmp_path / "all.parquet") == [
        row for name in ("x", "y") for row in rows_of(tmp_path / "one" / f"{name}.parquet")
    ]


def test_a_finished_output_is_left_alone_and_a_damaged_one_is_made_again(home: ScoringHome, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", shop(cards=8, days=1))
    target = tmp_path / "out.parquet"
    first = home.score(tmp_path / "in.parquet", target)
    before, steps = target.stat().st_ino, []
    again = home.score(tmp_path / "in.parquet", target, lambda *told: steps.append(told))
    assert (steps, target.stat().st_ino, again["outputs"]) == ([], before, first["outputs"])
    whole = target.read_bytes()
    target.write_bytes(whole[:-1])
    home.score(tmp_path / "in.parquet", target)
    assert target.read_bytes() == whole


def test_strict_fails_with_the_rules_that_were_broken_and_leaves_no_output(home: ScoringHome, tmp_path: Path) -> None:
    rows = shop(cards=8, days=1)
    for row in rows[:3]:
        row["currency"] = "USD"
    rows[4]["pan"] = rows[4]["pan"][:-1] + str((int(rows[4]["pan"][-1]) + 1) % 10)
    write(tmp_path / "in.parquet", rows)
    done = home.run(tmp_path / "in.parquet", tmp_path / "out.parquet", "--service", "fraud", "--strict")
    assert done.returncode == 1
    assert "4 rows break a rule: 3 x currency is not accepted; 1 x pan fails its check digit" in done.stderr
    assert rows[4]["pan"] not in done.stderr + done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet"]
    assert list((home.home / "batches").iterdir()) == []


def test_ready_vectors_score_as_the_raw_rows_they_came_from(home: ScoringHome, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", troubled(shop(cards=20, days=2)))
    home.score(tmp_path / "in.parquet", tmp_path / "raw.parquet", with_vectors=True)
    raw = pq.read_table(tmp_path / "raw.parquet")
    block = np.array(raw.column("vector").to_pylist(), np.float32)
    columns = {name: pa.array(block[:, index]) for index, name in enumerate(FRAUD.names)}
    table = pa.table({"transaction_id": raw.column("transaction_id"), **columns})
    pq.write_table(table, tmp_path / "vectors.parquet", row_group_size=40)
    found = home.score(tmp_path / "vectors.parquet", tmp_path / "out.parquet")
    assert found["mode"] == "vectors"
    kept = ["transaction_id", "score", "decision", "model_version", "bundle", "threshold_set"]
    assert pq.read_table(tmp_path / "out.parquet").equals(raw.select(kept))
    block[3, 5], block[50, 0] = np.nan, np.inf
    columns = {name: pa.array(block[:, index]) for index, name in enumerate(FRAUD.names)}
    pq.write_table(pa.table({"transaction_id": raw.column("transaction_id"), **columns}), tmp_path / "vectors.parquet")
    home.score(tmp_path / "vectors.parquet", tmp_path / "out.parquet")
    assert [row["row"] for row in rows_of(tmp_path / "out.rejects.parquet")] == [3, 50]
    assert len(rows_of(tmp_path / "out.parquet")) == len(block) - 2


def test_doubles_are_no_vectors(home: ScoringHome, tmp_path: Path) -> None:
    columns = {name: pa.array([1.0]) for name in FRAUD.names}
    pq.write_table(pa.table({"transaction_id": ["a"], **columns}), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match="not float32"):
        home.score(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_a_bundle_that_nobody_admitted_scores_for_research_alone(home: ScoringHome, tmp_path: Path) -> None:
    stray = tiny_bundle(home.settings.places.bundles, version="9.0.0", seed=5)
    write(tmp_path / "in.parquet", shop(cards=8, days=1))
    with pytest.raises(RefusedError, match="not admitted"):
        home.score(tmp_path / "in.parquet", tmp_path / "out.parquet", bundle=stray.digest)
    found = home.score(tmp_path / "in.parquet", tmp_path / "out.parquet", bundle=stray.digest, research=True)
    assert (found["unadmitted_research"], found["admission"]) == (True, None)
    assert told_of(tmp_path / "out.parquet")["admission"] == "none: unadmitted research"
    with ControlClient.open(home.settings) as control:
        assert control.events(types=["batch.scored"])[-1].body["unadmitted_research"] is True
    admitted = home.score(tmp_path / "in.parquet", tmp_path / "ok.parquet", bundle=home.bundle.digest, research=True)
    assert (admitted["unadmitted_research"], admitted["service"]) == (False, "fraud")


def test_a_service_under_which_nothing_serves_is_refused(tmp_path: Path) -> None:
    bare = ScoringHome(tmp_path, serves=False)
    write(tmp_path / "in.parquet", shop(cards=8, days=1))
    with pytest.raises(RefusedError, match="nothing serves"):
        bare.score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    bare.serve()
    (admission,) = (bare.home / "admissions").rglob("*.json")
    data = admission.read_bytes()
    admission.write_bytes(data.replace(b'"commit":"0', b'"commit":"1'))
    with pytest.raises(IntegrityError):
        bare.score(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_an_empty_input_gives_an_empty_output(home: ScoringHome, tmp_path: Path) -> None:
    rows = shop(cards=8, days=1)
    write(tmp_path / "in.parquet", rows)
    pq.write_table(pq.read_table(tmp_path / "in.parquet").slice(0, 0), tmp_path / "in.parquet")
    assert home.score(tmp_path / "in.parquet", tmp_path / "out.parquet")["rows"] == 0
    for row in rows:
        row["currency"] = "USD"
    write(tmp_path / "bad.parquet", rows)
    found = home.score(tmp_path / "bad.parquet", tmp_path / "out.parquet")
    assert (found["scored"], found["rejected"]) == (0, len(rows))
    assert rows_of(tmp_path / "out.parquet") == []


def test_an_output_never_lies_in_its_input(home: ScoringHome, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.parquet", shop(cards=8, days=1))
    write(tmp_path / "b.rejects.parquet", shop(cards=8, days=1))
    for source, target in (
        ("in", "in"),
        ("in", "in/scored"),
        ("in", "in/out.parquet"),
        ("in/a.parquet", "in/a.parquet"),
        ("b.rejects.parquet", "b.parquet"),
    ):
        with pytest.raises(UsageError, match="lie in the input"):
            home.score(tmp_path / source, f"file://{tmp_path}/{target}")


def test_parts_may_lack_what_is_optional_and_need_not_have_the_same_columns(home: ScoringHome, tmp_path: Path) -> None:
    rows = shop(cards=8, days=1)
    bare = [{name: value for name, value in row.items() if name != "mcc"} for row in rows]
    write(tmp_path / "in" / "a.parquet", rows)
    write(tmp_path / "in" / "b.parquet", [row | {"transaction_id": f"{row['transaction_id']}b"} for row in bare])
    home.score(tmp_path / "in", tmp_path / "out", with_vectors=True)
    place = FRAUD.names.index("mcc")
    assert {row["vector"][place] for row in rows_of(tmp_path / "out" / "b.parquet")} == {-1.0}
    assert -1.0 not in {row["vector"][place] for row in rows_of(tmp_path / "out" / "a.parquet")}
    write(tmp_path / "in" / "b.parquet", [{name: row[name] for name in row if name != "ip"} for row in rows])
    with pytest.raises(UsageError, match="without ip"):
        home.score(tmp_path / "in", tmp_path / "out")


def test_the_guide_names_options_that_exist(home: ScoringHome) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "batch-scoring.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", guide))
    assert {"--service", "--history"} <= named
    assert named <= set(re.findall(r"--[a-z][a-z-]+", home.run("--help").stdout))


def test_an_object_store_is_read_and_written_as_a_disk_is(home: ScoringHome, tmp_path: Path) -> None:
    rows = troubled(shop(cards=20, days=2))
    rows[3]["currency"] = "USD"
    for name, part in (("x", rows[:80]), ("deep/y", rows[80:])):
        write(tmp_path / "in" / f"{name}.parquet", part, group=30)
    home.score(tmp_path / "in", tmp_path / "out")
    with object_store() as (objects, query):
        for path in (tmp_path / "in").rglob("*.parquet"):
            objects[f"lake/in/{path.relative_to(tmp_path / 'in')}"] = path.read_bytes()
        addresses = (f"s3://lake/in{query}", f"s3://lake/out{query}")
        done = subprocess.run(
            home.command(*addresses, "--service", "fraud", "--workers", "2", "--output", "json"),
            env=home.environment() | KEYS,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for name in ("out/x.parquet", "out/deep/y.parquet", "out.rejects.parquet", "out.manifest.json"):
            assert objects[f"lake/{name}"] == (tmp_path / name).read_bytes(), name
    assert json.loads(done.stdout)["rejected"] == 1
