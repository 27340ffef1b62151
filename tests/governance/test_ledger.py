from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interlock.base.errors import IntegrityError
from interlock.governance.ledger import EntriesLedger
from interlock.trust import merkle
from interlock.trust.event import NewEvent, entry_bytes, stored
from interlock.trust.log import LogWriter
from interlock.trust.note import Checkpoint, Signer

ENTRIES = [
    entry_bytes(
        stored(
            NewEvent(
                time_ns=n,
                type="segment.sealed" if n % 2 else "store.loaded",
                actor="controller",
                origin="test",
                object="x",
                outcome="success",
                body={"n": n},
            ),
            n + 1,
        )
    )
    for n in range(11)
]


def ledger(entries: list[bytes], size: int = 11) -> EntriesLedger:
    return EntriesLedger(entries, Checkpoint("interlock/test", size, merkle.root(ENTRIES[:size])))


def test_events_are_those_of_the_type_with_their_index() -> None:
    found = ledger(ENTRIES).events(("segment.sealed",))
    assert [(event.log_index, event.body["n"]) for event in found] == [(n, n) for n in range(1, 11, 2)]


def test_a_proof_can_be_checked_with_the_root_alone() -> None:
    for index, entry in enumerate(ENTRIES):
        proof = ledger(ENTRIES).prove(index)
        path = [bytes.fromhex(each) for each in proof["path"]]
        assert proof["leaf"] == merkle.leaf_hash(entry).hex()
        merkle.verify_inclusion(bytes.fromhex(proof["leaf"]), index, 11, path, bytes.fromhex(proof["log_root"]))
        with pytest.raises(IntegrityError):
            merkle.verify_inclusion(merkle.leaf_hash(b"other"), index, 11, path, bytes.fromhex(proof["log_root"]))


def test_entries_after_the_checkpoint_are_not_logged_yet() -> None:
    young = ledger(ENTRIES, size=4)
    assert len(young.events(("segment.sealed", "store.loaded"))) == 4
    with pytest.raises(IntegrityError, match="beyond"):
        young.prove(4)
    with pytest.raises(IntegrityError, match="beyond"):
        young.prove(-1)


def test_altered_reordered_or_missing_entries_are_refused() -> None:
    altered = [*ENTRIES[:3], ENTRIES[3].replace(b'"n":3', b'"n":4'), *ENTRIES[4:]]
    for wrong in (altered, ENTRIES[::-1], ENTRIES[:-1]):
        with pytest.raises(IntegrityError, match="root"):
            ledger(wrong)


def test_an_entry_that_is_no_event_is_refused() -> None:
    entries = [b"{}"]
    with pytest.raises(IntegrityError):
        EntriesLedger(entries, Checkpoint("interlock/test", 1, merkle.root(entries)))


def test_a_log_on_disk_is_read_under_its_own_key_only(tmp_path: Path) -> None:
    ours, other = (Signer("interlock/test", Ed25519PrivateKey.generate()) for _ in range(2))
    LogWriter(tmp_path, ours).append(ENTRIES)
    found = EntriesLedger.open(tmp_path, ours.verifier.to_text())
    assert len(found.events(("segment.sealed", "store.loaded"))) == 11
    assert found.prove(3)["log"] == "interlock/test"
    with pytest.raises(IntegrityError):
        EntriesLedger.open(tmp_path, other.verifier.to_text())
    (bundle,) = (path for path in (tmp_path / "tile/entries").rglob("*") if path.is_file())
    bundle.write_bytes(bundle.read_bytes().replace(b'"n":3', b'"n":4'))
    with pytest.raises(IntegrityError, match="root"):
        EntriesLedger.open(tmp_path, ours.verifier.to_text())
