"""Attacks on what is told afterwards: the database, the log, the checkpoint, the key."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.attacks.company import Company

from interlock.adapters.sql.events import SqlEventStore
from interlock.apps.control.sequencer import Sequencer
from interlock.base.clock import ManualClock
from interlock.base.errors import IntegrityError
from interlock.trust import proof
from interlock.trust.event import NewEvent
from interlock.trust.fsck import verify_folder
from interlock.trust.log import CHECKPOINT, LogReader, LogWriter
from interlock.trust.note import Signer
from interlock.trust.sshsig import Key

pytestmark = pytest.mark.process  # each on a database and a log of its own
SIGNER = Signer("interlock/test", Key.generate())


def event(number: int) -> NewEvent:
    return NewEvent(
        time_ns=number,
        type="release.refused",
        actor="controller",
        origin="test",
        object="service/fraud",
        outcome="refused",
        body={"number": number},
    )


class Records:
    """A real database and its log."""

    def __init__(self, folder: Path) -> None:
        self.path, self.log = folder / "events.db", folder / "log"
        self.open()
        self.add(5)

    def open(self) -> None:
        self.store = SqlEventStore.open(self.path)
        self.sequencer = Sequencer(self.store, LogWriter(self.log, SIGNER), ManualClock(), "one")

    def add(self, count: int) -> None:
        self.store.append_many([event(number) for number in range(count)])
        self.sequencer.run_once()

    def close(self) -> None:
        self.store.close()

    def tamper(self, *statements: str) -> None:
        """As somebody with the database's file: triggers are no hindrance."""
        self.close()
        with sqlite3.connect(self.path) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                connection.execute(statement)
        connection.close()
        self.open()

    def verified(self) -> bool:
        return verify_folder(self.log, SIGNER.verifier.to_text(), wait=lambda seconds: None).verified


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path)


@pytest.mark.parametrize("statement", ["DELETE FROM events", "UPDATE events SET outcome = 'success'"])
def test_attack_21_a_slip_of_an_administrators_hand(records: Records, statement: str) -> None:
    records.close()
    with sqlite3.connect(records.path) as connection, pytest.raises(sqlite3.IntegrityError, match="never"):
        connection.execute(statement)


def test_attack_21_an_administrator_changes_a_row(records: Records) -> None:
    records.tamper("UPDATE events SET outcome = 'success' WHERE id = 3")
    with pytest.raises(IntegrityError, match="event 3 differs from entry 2"):
        records.sequencer.run_once()
    (found,) = records.store.after(0, ["log.damage.found"])
    assert "event 3" in found.body["finding"]
    assert records.verified(), "the log tells what the row said"


def test_attack_21_an_administrator_deletes_rows(records: Records) -> None:
    records.tamper("DELETE FROM events WHERE id IN (2, 5)")
    records.sequencer.run_once()
    assert [each.id for each in records.store.after(0, ["release.refused"])] == [1, 2, 3, 4, 5], (
        "the log gave them back"
    )
    (found,) = records.store.after(0, ["log.replayed"])
    assert found.body["events"] == 2
    assert found.log_index == 5


def test_attack_21_the_tail_of_the_log_is_cut(records: Records) -> None:
    (records.log / "tile/entries/000.p/5").unlink()
    assert not records.verified()
    with pytest.raises(IntegrityError):
        LogWriter(records.log, SIGNER)


def test_attack_21_an_older_checkpoint_is_put_back(records: Records) -> None:
    older = (records.log / CHECKPOINT).read_bytes()
    records.add(3)
    (records.log / CHECKPOINT).write_bytes(older)
    assert not records.verified()
    with pytest.raises(IntegrityError, match="older checkpoint"):
        records.sequencer.run_once()
    (found,) = records.store.after(0, ["log.damage.found"])
    assert "older checkpoint" in found.body["finding"]


def test_attack_21_database_and_checkpoint_are_put_back_together(records: Records) -> None:
    records.close()
    older, database = (records.log / CHECKPOINT).read_bytes(), records.path.read_bytes()
    records.open()
    records.add(3)
    records.close()
    (records.log / CHECKPOINT).write_bytes(older)
    for leftover in records.path.parent.glob("events.db-*"):
        leftover.unlink()
    records.path.write_bytes(database)
    records.open()
    # The same place in the log would get another entry: the tiles that remain contradict it.
    records.store.append_many([event(number) for number in (97, 98, 99)])
    with pytest.raises(IntegrityError, match="other bytes"):
        records.sequencer.run_once()
    assert records.store.after(0, ["log.damage.found"])


def test_attack_22_a_thief_of_the_log_key_forks_the_log(records: Records) -> None:
    reader = LogReader.open(records.log, SIGNER.verifier)
    kept = reader.checkpoint  # what an auditor took away
    entries = list(reader.entries())
    fork = records.log.parent / "fork"
    LogWriter(fork, SIGNER).append([*entries[:2], entries[4], *entries[3:], entries[2]])
    forked = LogReader.open(fork, SIGNER.verifier)
    sizes, roots = (kept.size, forked.checkpoint.size), (kept.root, forked.checkpoint.root)
    path = forked.consistency(kept.size)
    with pytest.raises(IntegrityError):
        proof.verify_consistency(sizes, roots, path)
    shutil.rmtree(records.log)
    shutil.copytree(fork, records.log)
    with pytest.raises(IntegrityError, match="not consistent"):
        records.sequencer.run_once()
    records.close()
    records.open()
    with pytest.raises(IntegrityError, match="differs from entry"):
        records.sequencer.run_once()
    assert records.store.after(0, ["log.damage.found"])


def test_attack_23_events_of_a_process_that_was_killed_before_the_log_are_logged_by_the_next(records: Records) -> None:
    records.store.append_many([event(number) for number in range(3)])
    waiting = records.store.unsequenced()
    records.store.integrate([(each.id, 5 + place) for place, each in enumerate(waiting)])  # and killed here
    records.close()
    records.open()
    records.add(1)
    assert records.verified()
    assert LogReader.open(records.log, SIGNER.verifier).checkpoint.size == 9


def test_attack_30_an_audit_outage_stops_releases_and_not_the_way_back(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.sign(company.propose(company.bundle("2.0.0")))
    full = company.settings.places.log / "tile"
    full.rename(full.with_name("gone"))
    full.write_text("a full disk, a lost mount")
    company.run(5)
    assert company.serving() == "1.0.0"
    assert set(company.scorers.answered) == {company.champion.digest}
    company.scorers.retreat("fraud", "person-1", "complaints", "sam", company.clock.now_ns())
    assert company.scorers.latch is not None, "going back waits for no log"
    full.unlink()
    full.with_name("gone").rename(full)
    company.run()
    assert [each.body["version"] for each in company.logged("release.admitted")] == ["1.0.0", "2.0.0"]
