"""A small deployment for journeys: real processes, real Git, real signatures, tiny models."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tests.builders import tiny_bundle

from interlock import settings as options
from interlock.adapters.git.workspace import Workspace
from interlock.apps.control.client import ControlClient
from interlock.apps.demo import history
from interlock.apps.demo.commands import Commands
from interlock.apps.demo.people import Cast, Signer, cast
from interlock.apps.demo.stream import shop
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, SystemClock
from interlock.registry.bundle import Bundle
from interlock.settings import Settings
from interlock.trust.event import NewEvent
from interlock.trust.statement import parse, statement_bytes
from interlock.wiring.platform import Platform

POLICY = """\
apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: fraud}
spec:
  strategy: canary
  advance: timeline
  steps: []
  watch: {holdback: 0.05, for: 200ms}
"""
PATIENCE_S = 60.0
_T = TypeVar("_T")


class Shop:
    """One home with its platform, repository and people."""

    def __init__(self, folder: Path) -> None:
        self.home, self.repo, self.remote = folder / "home", folder / "repo", folder / "remote"
        self.home.mkdir()
        self.cast: Cast = cast()
        self.do = Commands(self.home, lambda line: None)
        values = {
            "scoring": {"port": 0, "workers": 1},
            "control": {"port": 0},
            "rollout": {"repository": str(self.remote), "poll_s": 0.1},
        }
        options.write(self.home, values)
        self.settings: Settings = options.load(self.home, {})
        people = folder / "people.json"
        people.write_bytes(self.cast.people_json())
        founder = ("--author", self.cast.engineer.author)
        self.do.run("release", "init", str(self.repo), "--people", str(people), "--remote", str(self.remote), *founder)

    @contextlib.contextmanager
    def client(self) -> Iterator[ControlClient]:
        with ControlClient.open(self.settings) as client:
            yield client

    def register(self, version: str, trained_by: str = "ada", **options: Any) -> Bundle:
        """A tiny bundle, registered as training would."""
        bundle = tiny_bundle(
            self.settings.places.bundles, version=version, lineage={"trained_by": trained_by}, **options
        )
        body = {
            "service": "fraud",
            "version": version,
            "bundle": bundle.digest,
            "dataset": bundle.lineage["dataset"],
            "feature_set": bundle.manifest["feature_set_digest"],
            "threshold_set": bundle.threshold_set,
            "card": bundle.card_digest,
            "trained_by": trained_by,
            "run_id": "test-run",
            "ticket": "RISK-1",
            "purpose": "candidate",
            "commit": None,
            "lock": None,
            "parent": None,
        }
        with self.client() as client:
            client.append(
                NewEvent(
                    time_ns=SystemClock().now_ns(),
                    type="model.registered",
                    actor=trained_by,
                    origin="training",
                    object=f"model/fraud/{version}",
                    outcome="success",
                    body=body,
                )
            )
        return bundle

    def propose(self, version: str, author: Signer | None = None) -> None:
        policy = self.home / "policy.yaml"
        policy.write_text(POLICY)
        author = author or self.cast.engineer
        command = ("release", "propose", "fraud", version, "--repo", str(self.repo))
        signing = ("--sign", str(author.key_file(self.home)))
        self.do.run(*command, "--policy", str(policy), "--author", author.author, *signing)

    def sign(self, signer: Signer) -> None:
        """Approve the proposal that is checked out, as a person does."""
        path = self._signed(signer, self._statement(signer))
        self.do.run("approve", str(path), f"{path}.sig", "--repo", str(self.repo))

    def sign_unchecked(self, signer: Signer, expires_in_s: float = 3_600.0) -> None:
        """Commit a signed statement past `interlock approve`, which would refuse it: the gate must, too."""
        statement = parse(self._statement(signer))
        until_ns = (SystemClock().now_ns() + int(expires_in_s * NS_PER_S)) // 1000 * 1000
        path = self._signed(signer, statement_bytes(replace(statement, expires_ns=until_ns)))
        place = self.repo / "approvals" / digest_hex(statement.subject.folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{signer.id}.{signer.role}.json").write_bytes(path.read_bytes())
        (place / f"{signer.id}.{signer.role}.sig").write_bytes(path.with_name(f"{path.name}.sig").read_bytes())
        self.do.git(self.repo, "add", "approvals")
        self.commit(signer, "Approve past the command")

    def commit(self, person: Signer, message: str) -> None:
        identity = ("-c", f"user.name={person.name}", "-c", f"user.email={person.email}")
        self.do.git(self.repo, *identity, "commit", "--quiet", "--all", "--message", message)
        Workspace(self.repo, sign=person.key).sign_head()

    def _statement(self, signer: Signer) -> bytes:
        who = ("--role", str(signer.role), "--person", signer.id)
        return self.do.text("statement", "fraud", *who, "--repo", str(self.repo))

    def _signed(self, signer: Signer, statement: bytes) -> Path:
        path = self.home / f"{signer.id}.json"
        path.write_bytes(statement)
        path.with_name(f"{path.name}.sig").write_bytes(signer.sign(statement))
        return path

    def merge(self, version: str) -> str:
        self.do.git(self.repo, "checkout", "--quiet", "main")
        self.do.git(self.repo, "pull", "--quiet", "--ff-only", "origin", "main")
        self.do.git(self.repo, "merge", "--quiet", "--ff-only", f"release/fraud-{version}")
        return self.push()

    def push(self) -> str:
        self.do.git(self.repo, "push", "--quiet", "origin", "main")
        return self.do.git(self.repo, "rev-parse", "HEAD").strip()

    def release(self, version: str) -> dict[str, Any]:
        """The whole way of a good release; returns how it ended."""
        self.register(version)
        self.propose(version)
        for signer in self.cast.approvers:
            self.sign(signer)
        return self.ended(self.merge(version))

    def ended(self, commit: str) -> dict[str, Any]:
        """Wait until what this commit asks for has ended, one way or the other."""

        def look() -> dict[str, Any] | None:
            with self.client() as client:
                mine = [line for line in client.rollouts() if line["commit"] == commit]
            return mine[-1] if mine and mine[-1]["outcome"] != "unfinished" else None

        return until(look)

    @contextlib.contextmanager
    def running(self) -> Iterator[Platform]:
        snapshot = history.write(self.settings, shop(cards=200, days=1, seed=7))
        platform = Platform.start(self.settings)
        try:
            history.load_online(self.settings, platform.store_url, snapshot)
            yield platform
        finally:
            platform.stop()

    def score(self, transaction: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        address = options.read_endpoints(self.home)["scoring"].removeprefix("http://").rstrip("/")
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            body = json.dumps({"instances": [transaction]})
            connection.request("POST", "/v1/models/fraud:predict", body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def files_holding(self, text: str) -> list[Path]:
        """Every file of the home and the repositories in which the text stands."""

        def whole() -> list[Path] | None:
            # The platform lives: a file renamed under the scan could hide what it holds, so scan again.
            roots = (self.home, self.repo, self.remote)
            try:
                files = [path for root in roots for path in root.rglob("*") if path.is_file() and not path.is_socket()]
                return [path for path in files if text.encode() in path.read_bytes()]
            except FileNotFoundError:
                return None

        limit = time.monotonic() + PATIENCE_S
        while time.monotonic() < limit:
            found = whole()
            if found is not None:
                return found
        raise AssertionError("no scan of the home came to its end")


def until(look: Callable[[], _T | None], patience_s: float = PATIENCE_S) -> _T:
    """What `look` finds, as soon as it finds something."""
    limit = time.monotonic() + patience_s
    while (found := look()) is None:
        if time.monotonic() > limit:
            raise AssertionError("it did not happen")
        time.sleep(0.05)
    return found
