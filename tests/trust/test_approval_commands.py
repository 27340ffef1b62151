"""`interlock statement` and `approve` on a real home and real Git repositories: who is let in, who is not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import tiny_bundle
from typer.testing import CliRunner, Result

from interlock import settings
from interlock.adapters.git.identity import private_bytes
from interlock.apps.cli.main import build
from interlock.apps.control.client import ControlClient
from interlock.base.canonical import canonical, digest_hex, digest_of
from interlock.base.clock import NS_PER_S, SystemClock
from interlock.base.errors import IntegrityError, InterlockError, RefusedError, UsageError
from interlock.trust.event import Event, NewEvent
from interlock.trust.sshsig import Key, public_line, sign
from interlock.trust.statement import parse, statement_bytes

pytestmark = pytest.mark.process  # runs git
# Ada may approve technical changes, but not her own.
PEOPLE = {"ada": ["technical"], "tess": ["technical"], "rik": ["risk"], "cleo": ["compliance"]}
NOUNS = ("interlock.apps.cli.release", "interlock.apps.cli.approval")


class Firm:
    """A home, a release repository with its remote, four people, and one proposal, checked out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo, self.home = folder, folder / "repo", folder / "home"
        self.keys = {name: Key.generate() for name in PEOPLE}
        people = [
            {"id": name, "emails": [f"{name}@example.org"], "roles": roles, "keys": [public_line(self.keys[name])]}
            for name, roles in PEOPLE.items()
        ]
        (folder / "people.json").write_bytes(canonical({"schema": 1, "people": people}))
        ada = ("--author", "Ada <ada@example.org>")
        given = ("--people", str(folder / "people.json"), "--remote", str(folder / "remote.git"))
        self.good("release", "init", str(self.repo), *given, *ada)
        self.register()
        key = folder / "ada.key"
        key.write_bytes(private_bytes(self.keys["ada"]))
        self.good("release", "propose", "fraud", "1.0.0", "--repo", str(self.repo), *ada, "--sign", str(key))

    def register(self) -> None:
        home = settings.load()
        bundle = tiny_bundle(home.places.bundles, lineage={"trained_by": "ada", "ticket": "RISK-7"})
        manifest = bundle.manifest
        body = {"service": "fraud", "version": "1.0.0", "bundle": bundle.digest, "threshold_set": bundle.threshold_set}
        event = NewEvent(
            time_ns=1,
            type="model.registered",
            actor="ada",
            origin="test",
            object="model/fraud",
            outcome="success",
            body=body | {"feature_set": manifest["feature_set_digest"]},
        )
        with ControlClient.open(home) as client:
            client.append(event)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(build(NOUNS), arguments)

    def good(self, *arguments: str) -> Result:
        done = self.run(*arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return done

    def statement(self, person: str, role: str) -> bytes:
        return self.good(
            "statement", "fraud", "--role", role, "--person", person, "--repo", str(self.repo)
        ).stdout_bytes

    def hand_in(self, data: bytes, signature: str) -> Result:
        path = self.folder / "s.json"
        path.write_bytes(data)
        path.with_suffix(".sig").write_text(signature)
        arguments = ("approve", str(path), str(path.with_suffix(".sig")), "--repo", str(self.repo), "--output", "json")
        return self.run(*arguments)

    def events(self, kind: str) -> list[Event]:
        with ControlClient.open(settings.load()) as client:
            return client.events(types=[kind])

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.repo), *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()


@pytest.fixture(scope="module")
def firm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firm]:
    folder = tmp_path_factory.mktemp("firm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERLOCK_HOME", str(folder / "home"))
        yield Firm(folder)


def signed(firm: Firm, person: str, role: str, key: str = "", **changes: Any) -> tuple[bytes, str]:
    """A statement as the command prints it, with `changes`, signed by the key of `key` (default: of the person)."""
    given = parse(firm.statement(person, role))
    data = statement_bytes(replace(given, **changes))
    return data, sign(data, firm.keys[key or person])


def test_a_statement_says_what_is_proposed_until_when_and_with_the_trainings_ticket(firm: Firm) -> None:
    given = parse(firm.statement("rik", "risk"))
    assert (given.subject.service, given.subject.version, given.subject.authors) == ("fraud", "1.0.0", ("ada",))
    assert (given.person, given.role, given.decision, given.ticket) == ("rik", "risk", "approve", "RISK-7")
    days = (given.expires_ns - SystemClock().now_ns()) / (86_400 * NS_PER_S)
    assert 29 < days < 31


def by_a_stranger(firm: Firm) -> tuple[bytes, str]:
    return signed(firm, "tess", "technical", key="rik")


def in_a_role_not_held(firm: Firm) -> tuple[bytes, str]:
    return signed(firm, "tess", "risk")


def by_the_author(firm: Firm) -> tuple[bytes, str]:
    return signed(firm, "ada", "technical")


def expired(firm: Firm) -> tuple[bytes, str]:
    return signed(firm, "rik", "risk", expires_ns=SystemClock().now_ns() // 1000 * 1000 - NS_PER_S)


def about_another_folder(firm: Firm) -> tuple[bytes, str]:
    subject = parse(firm.statement("rik", "risk")).subject
    return signed(firm, "rik", "risk", subject=replace(subject, folder=digest_of(b"another folder")))


def hiding_an_author(firm: Firm) -> tuple[bytes, str]:
    subject = parse(firm.statement("rik", "risk")).subject
    return signed(firm, "rik", "risk", subject=replace(subject, authors=("nobody",)))


def changed_after_signing(firm: Firm) -> tuple[bytes, str]:
    data, signature = signed(firm, "rik", "risk")
    return data.replace(b"RISK-7", b"RISK-8"), signature


def by_nobody_known(firm: Firm) -> tuple[bytes, str]:
    return signed(firm, "mallory", "risk", key="rik")


REFUSED: list[tuple[Callable[[Firm], tuple[bytes, str]], type[InterlockError], str]] = [
    (by_a_stranger, IntegrityError, "not trusted"),
    (in_a_role_not_held, RefusedError, "does not hold the role risk"),
    (by_the_author, RefusedError, "ada is an author"),
    (expired, RefusedError, "expired"),
    (about_another_folder, RefusedError, "another folder"),
    (hiding_an_author, RefusedError, "another authors"),
    (changed_after_signing, IntegrityError, "not over these bytes"),
    (by_nobody_known, RefusedError, "not in people.json"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_an_approval_is_refused_and_that_recorded_when_it_is(
    make: Callable[[Firm], tuple[bytes, str]], error: type[InterlockError], words: str, firm: Firm
) -> None:
    head, before = firm.git("rev-parse", "HEAD"), len(firm.events("approval.refused"))
    done = firm.hand_in(*make(firm))
    assert isinstance(done.exception, error)
    assert words in done.exception.message
    events = firm.events("approval.refused")
    assert len(events) == before + 1
    assert words in events[-1].body["reason"]
    assert (events[-1].outcome, events[-1].actor) == ("refused", "cli"), "nobody is blamed for a forged signature"
    assert firm.git("rev-parse", "HEAD") == head
    assert firm.git("status", "--porcelain") == ""


def test_what_is_no_statement_is_a_mistake_in_usage(firm: Firm) -> None:
    done = firm.hand_in(b"{}", "")
    assert isinstance(done.exception, UsageError)


def test_nothing_is_stated_or_approved_about_a_folder_that_is_not_committed(firm: Firm) -> None:
    given = signed(firm, "rik", "risk")
    path = firm.repo / "environments/production/services/fraud/rollout.yaml"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        assert isinstance(firm.hand_in(*given).exception, RefusedError)
        again = firm.run("statement", "fraud", "--role", "risk", "--person", "rik", "--repo", str(firm.repo))
        assert isinstance(again.exception, RefusedError)
    finally:
        path.write_bytes(before)


def test_a_good_approval_is_committed_pushed_and_recorded(firm: Firm) -> None:
    data, signature = signed(firm, "rik", "risk")
    done = firm.hand_in(data, signature)
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    place = f"approvals/{digest_hex(found['folder'])}/rik.risk"
    assert found["pushed"]
    assert firm.git("show", "--format=", "--name-only", "HEAD").split() == [f"{place}.json", f"{place}.sig"]
    assert firm.git("rev-parse", "HEAD", "origin/release/fraud-1.0.0").split() == [found["commit"]] * 2
    assert firm.git("show", "-s", "--format=%ae", "HEAD") == "rik@example.org"
    assert (firm.repo / f"{place}.json").read_bytes() == data
    (event,) = firm.events("approval.recorded")
    assert (event.actor, event.body["role"], event.body["commit"]) == ("rik", "risk", found["commit"])
    assert event.body["key"] == public_line(firm.keys["rik"])
    # Who approved has not become an author: a second approval still counts the same subject.
    assert parse(firm.statement("cleo", "compliance")).subject == parse(data).subject


def test_a_refusal_is_handed_in_like_an_approval(firm: Firm) -> None:
    done = firm.hand_in(*signed(firm, "cleo", "compliance", decision="refuse", reason="the card has no limits"))
    assert done.exit_code == 0, done.exception
    assert firm.git("show", "-s", "--format=%s", "HEAD") == "Refuse fraud 1.0.0 as compliance"
    assert firm.events("approval.recorded")[-1].body["decision"] == "refuse"
