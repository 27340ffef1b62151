"""A batch whose processes are killed, and two runs of one batch at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.serving.batches import shop, troubled, write
from tests.serving.scoring_home import ScoringHome, until_it_shows, workers_on

from interlock.apps.job.score_crew import Crew
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ScoringHome:
    return ScoringHome(tmp_path_factory.mktemp("scoring"))


@pytest.fixture(scope="module")
def uninterrupted(home: ScoringHome) -> tuple[list[dict[str, Any]], Path]:
    """Rows, their file, and beside it `whole.parquet`: what they are scored to."""
    rows = troubled(shop(cards=60, days=3))
    rows[7]["currency"] = "USD"
    source = home.folder / "in.parquet"
    write(source, rows, group=12)
    home.score(source, home.folder / "whole.parquet", with_vectors=True)
    return rows, source


STAGES = ("take-*3.json", "velocities.json", "score-*2.json")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_to_the_bytes_of_one_that_never_stopped(
    home: ScoringHome, uninterrupted: tuple[list[dict[str, Any]], Path], tmp_path: Path, stage: str
) -> None:
    rows, source = uninterrupted
    options = ("--service", "fraud", "--workers", "2", "--with-vectors")
    running = subprocess.Popen(
        home.command(source, tmp_path / "killed.parquet", *options),
        env=home.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = until_it_shows(home.home / "batches", stage, running)
    running.send_signal(signal.SIGKILL)
    running.wait()
    _until_nobody_works_on(folder)
    assert not (tmp_path / "killed.manifest.json").exists()
    _holds_no_card_number(folder, {row["pan"] for row in rows})
    # And what was finished, but did not stay whole, is.
    piece = min(folder.glob("taken-*.parquet"))
    piece.write_bytes(piece.read_bytes()[:-1])
    seen: list[tuple[str, int]] = []
    found = home.score(
        source,
        tmp_path / "killed.parquet",
        lambda step, done, total: seen.append((step, done)),
        with_vectors=True,
    )
    assert seen[0][1] > 0  # what is finished and whole is not done again
    for name in (".parquet", ".rejects.parquet", ".manifest.json"):
        assert (tmp_path / f"killed{name}").read_bytes() == (home.folder / f"whole{name}").read_bytes(), name
    assert found["rejected"] == 1
    assert not folder.exists()


def _until_nobody_works_on(folder: Path) -> None:
    """The workers of a killed run end with it."""
    limit = time.monotonic() + 20
    while workers_on(folder):
        assert time.monotonic() < limit, "a worker outlived its batch"
        time.sleep(0.01)


def _holds_no_card_number(folder: Path, pans: set[str]) -> None:
    pieces = list(folder.glob("*.parquet"))
    assert pieces
    for path in pieces:
        table = pq.read_table(path)
        cells = {str(cell) for column in table.columns for cell in column.to_pylist()}
        assert not cells & pans
        assert "pan" not in table.column_names
        assert path.stat().st_mode & 0o077 == 0


def test_a_second_run_of_the_same_batch_is_refused_while_the_first_works(home: ScoringHome, tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", shop(cards=60, days=2), group=4)
    first = subprocess.Popen(
        home.command(tmp_path / "in.parquet", tmp_path / "a.parquet", "--service", "fraud", "--workers", "1"),
        env=home.environment(),
    )
    try:
        until_it_shows(home.home / "batches", "take-*.json", first)
        with pytest.raises(RefusedError, match="another run"):
            home.score(tmp_path / "in.parquet", tmp_path / "b.parquet")
    finally:
        assert first.wait(60) == 0


def test_a_process_that_is_killed_ends_the_batch_with_its_remedy(home: ScoringHome, tmp_path: Path) -> None:
    with Crew(tmp_path, 1) as crew:
        os.kill(_worker(tmp_path), signal.SIGKILL)
        with pytest.raises(UnreachableError, match="ended"):
            crew.run([("take", 0, 0)], lambda task, facts: None)
    with pytest.raises(IntegrityError, match="damaged plan"), Crew(tmp_path, 1) as crew:
        crew.run([("take", 0, 0)], lambda task, facts: None)


def _worker(folder: Path) -> int:
    limit = time.monotonic() + 20
    while not (found := workers_on(folder)):
        assert time.monotonic() < limit
        time.sleep(0.01)
    return found[0]
