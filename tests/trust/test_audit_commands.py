"""`interlock audit verify` and `show`: on a copied folder, with the public key alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from interlock import settings
from interlock.adapters.files.keys import log_signer
from interlock.apps.cli import main
from interlock.base.clock import rfc3339
from interlock.trust import merkle
from interlock.trust.event import NewEvent, entry_bytes, stored
from interlock.trust.log import CHECKPOINT, LogWriter
from interlock.trust.note import Signer
from interlock.trust.sshsig import Key

pytestmark = pytest.mark.process  # every test syncs many files

EVENTS = 5


def event(number: int) -> NewEvent:
    return NewEvent(
        time_ns=1_790_000_000_000_000_000 + number,
        type="release.refused" if number % 2 else "release.proposed",
        actor="ada",
        origin="test",
        object="service/fraud",
        outcome="refused" if number % 2 else "success",
        body={"number": number},
    )


ENTRIES = [entry_bytes(stored(event(number), number + 1)) for number in range(EVENTS)]


def unsynced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class Desk:
    """An auditor's desk: a copied log, a public key, and an empty home."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.log, self.key, self.home = folder / "copy", folder / "log.vkey", folder / "home"
        signer = Signer("interlock/test", Key.generate())
        LogWriter(self.log, signer, write=unsynced).append(ENTRIES)
        self.key.write_text(signer.verifier.to_text() + "\n")
        self._patch, self._capsys = patch, capsys
        patch.setenv("INTERLOCK_HOME", str(self.home))

    def audit(self, *arguments: str) -> tuple[int, str]:
        """Run the command as a shell does; its exit code and stdout."""
        self._patch.setattr(sys, "argv", ["interlock", "audit", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.run()
        return int(ended.value.code or 0), self._capsys.readouterr().out

    def json(self, command: str, *arguments: str) -> tuple[int, Any]:
        code, out = self.audit(command, str(self.log), "--vkey", str(self.key), *arguments, "--output", "json")
        return code, json.loads(out)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, monkeypatch, capsys)


def test_a_copied_log_verifies_with_its_key_alone(desk: Desk) -> None:
    root = merkle.root(ENTRIES).hex()
    assert desk.json("verify") == (0, {"entries": EVENTS, "root": root, "verified": True, "errors": []})
    assert not desk.home.exists(), "nothing was read from an installation, and none was made"


def test_a_changed_entry_fails_and_is_named(desk: Desk) -> None:
    path = desk.log / f"tile/entries/000.p/{EVENTS}"
    path.write_bytes(path.read_bytes().replace(b'"refused"', b'"allowed"', 1))
    code, found = desk.json("verify")
    assert (code, found["verified"], found["entries"]) == (1, False, EVENTS)
    assert any("root" in error for error in found["errors"])
    assert desk.audit("verify", str(desk.log), "--vkey", str(desk.key))[0] == 1, "as a table too"


def test_a_log_that_another_key_signed_fails(desk: Desk) -> None:
    desk.key.write_text(Signer("interlock/test", Key.generate()).verifier.to_text())
    code, found = desk.json("verify")
    assert (code, found["verified"]) == (1, False)
    assert "not signed by" in found["errors"][0]


def test_a_folder_without_a_log_fails(desk: Desk) -> None:
    shutil.rmtree(desk.log)
    assert desk.json("verify")[0] == 1
    desk.log.mkdir()
    code, found = desk.json("verify")
    assert (code, found["verified"], found["errors"] != []) == (1, False, True)


def test_a_key_that_cannot_be_read_is_a_mistake_in_usage(desk: Desk) -> None:
    desk.key.write_text("not a key")
    assert desk.json("verify")[0] == 2
    desk.key.unlink()
    code, found = desk.json("verify")
    assert (code, found["error"]["kind"]) == (2, "usage")
    assert "--vkey" in found["error"]["remedy"]


def test_an_installations_own_log_needs_no_arguments(desk: Desk) -> None:
    places = settings.load().places
    LogWriter(places.log, log_signer(places.trust), write=unsynced).append(ENTRIES[:2])
    code, out = desk.audit("verify", "--output", "json")
    assert (code, json.loads(out)["entries"]) == (0, 2)


def test_show_tells_the_newest_entries_oldest_first(desk: Desk) -> None:
    code, found = desk.json("show", "--last", "2")
    assert code == 0
    assert found["entries"] == [
        {
            "index": number,
            "time": rfc3339(event(number).time_ns),
            "type": event(number).type,
            "actor": "ada",
            "object": "service/fraud",
            "outcome": event(number).outcome,
            "body": {"number": number},
        }
        for number in (EVENTS - 2, EVENTS - 1)
    ]
    assert len(desk.json("show")[1]["entries"]) == EVENTS
    assert desk.audit("show", str(desk.log), "--vkey", str(desk.key))[1].count("release.") == EVENTS


def test_show_finds_entries_of_a_type_however_far_back(desk: Desk) -> None:
    _, found = desk.json("show", "--type", "release.refused", "--last", "1")
    assert [each["index"] for each in found["entries"]] == [3]
    assert desk.json("show", "--type", "rollout.settled")[1]["entries"] == []


def test_show_tells_nothing_out_of_a_log_whose_checkpoint_does_not_hold(desk: Desk) -> None:
    path = desk.log / CHECKPOINT
    path.write_text(path.read_text().replace(f"\n{EVENTS}\n", f"\n{EVENTS - 1}\n"))
    code, found = desk.json("show")
    assert code == 1
    assert "entries" not in found


@pytest.mark.parametrize("options", [(), ("--last", "2"), ("--type", "release.proposed")])
def test_show_does_not_tell_what_somebody_wrote_over_an_entry(options: tuple[str, ...], desk: Desk) -> None:
    path = desk.log / f"tile/entries/000.p/{EVENTS}"
    path.write_bytes(path.read_bytes().replace(b'"actor":"ada"', b'"actor":"bob"'))
    code, found = desk.json("show", *options)
    assert (code, found["error"]["kind"]) == (1, "integrity")


def test_show_of_an_empty_log_is_empty(desk: Desk) -> None:
    places = settings.load().places
    LogWriter(places.log, log_signer(places.trust), write=unsynced)
    code, out = desk.audit("show", "--output", "json")
    assert (code, json.loads(out)) == (0, {"entries": []})
