"""Samples on disk: their manifest, their event, and a scorer that is given one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.decision.test_sample import KEY, MADE, START_NS, choice
from tests.scoring import scorer, transaction

from interlock.adapters.arrow import columns
from interlock.apps.job import sample as job
from interlock.base.clock import NS_PER_S, ManualClock, SystemClock
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.decision.archive import Archive
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.privacy.token import Tokeniser
from interlock.serving import bulk
from interlock.trust.event import NewEvent


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    out = SegmentWriter(tmp_path / "segments", "w0", lambda: START_NS, SegmentOptions(size_bytes=1024 * 1024))
    out.append(MADE)
    out.close()
    return Archive(tmp_path / "segments")


@pytest.mark.parametrize("name", [pytest.param("s.jsonl", id="json-lines"), pytest.param("s.parquet", id="parquet")])
def test_the_file_its_manifest_and_the_event_agree_and_the_file_can_be_replayed(
    archive: Archive, tmp_path: Path, name: str
) -> None:
    events: list[NewEvent] = []
    target = tmp_path / name
    manifest = job.take(archive, choice(), target, events.append, ManualClock(), "ada")
    assert [(each.type, each.actor, each.body["sha256"]) for each in events] == [
        ("data.sampled", "ada", manifest["sha256"])
    ]
    assert manifest["transactions"] == len(list(job.read(target)))
    now = START_NS + 10**6 * NS_PER_S
    sent = [json.loads(body)["instances"][0] for _, body in job.requests(job.read(target), now)]
    assert [one["amount"] for one in sent] == [line["amount"] for line in job.read(target)]
    assert sent[0]["event_time"] == "2026-10-03T04:00:00.000000Z"
    with pytest.raises(UsageError, match="there already"):
        job.take(archive, choice(), target, events.append, ManualClock(), "ada")
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        job.read(target)


def test_the_scoring_job_takes_a_sample_as_it_is(archive: Archive, tmp_path: Path) -> None:
    target = tmp_path / "s.parquet"
    manifest = job.take(archive, choice(), target, [].append, ManualClock(), "ada")
    taken = bulk.take(columns.raw(pq.read_table(target)), ("EUR",), Tokeniser(KEY))
    assert (taken.rejected, len(taken.event_ns)) == ((), manifest["transactions"])
    assert [int(at) for at in taken.event_ns] == [int(line["event_ns"]) for line in job.read(target)]
    assert set(taken.inputs["card"]) == {line["card"] for line in job.read(target)}


def test_without_the_event_there_is_no_sample(archive: Archive, tmp_path: Path) -> None:
    def away(event: NewEvent) -> None:
        raise UnreachableError("the control API does not answer", "start it")

    with pytest.raises(UnreachableError):
        job.take(archive, choice(), tmp_path / "sample.jsonl", away, ManualClock(), "ada")
    assert [path.name for path in tmp_path.iterdir()] == ["segments"]
    with pytest.raises(RefusedError, match="no transaction"):
        job.take(archive, choice(service="loans"), tmp_path / "s", away, ManualClock(), "ada")


@pytest.mark.process
def test_a_real_scorer_answers_the_replay_of_what_another_decided(tmp_path: Path) -> None:
    """Its cards get new tokens there, one for each card of the sample."""
    with scorer(tmp_path) as staging:
        staging.serve()
        for number in range(40):
            staging.answer(transaction(f"t-{number}", number % 8))
        before = {one.inputs["card"] for one in staging.records()}
        now = SystemClock().now_ns()
        whole = choice(rate=1.0, from_ns=now - 600 * NS_PER_S, to_ns=now + NS_PER_S)
        target = tmp_path / "s.jsonl"
        job.take(Archive(staging.settings.places.segments), whole, target, [].append, SystemClock(), "ada")
        host, port = staging.address
        command = ["sample", "replay", str(target), "--host", host, "--port", str(port), "--output", "json"]
        done = subprocess.run(
            [sys.executable, "-m", "interlock.apps.cli.main", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"sent": 40, "answered": 40, "failed": 0}
        after = {one.inputs["card"] for one in staging.records()}
        assert (len(before), len(after), before < after) == (8, 16, True)
