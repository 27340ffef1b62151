"""A whole deployment for failure tests: store, scorer, controller, release repository, approvers.

Real processes in a folder of their own, on free ports, ended at the end. Releases go the real way:
registered, proposed on a branch, signed by three people, merged, pushed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.builders import tiny_bundle
from tests.failures.load import Load

from interlock import settings
from interlock.adapters.git.workspace import Workspace
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.adapters.valkey.launcher import Valkey
from interlock.apps.control import founding
from interlock.apps.control.client import ControlClient
from interlock.apps.control.subject import proposed
from interlock.apps.control.wishes import services_root
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, SystemClock
from interlock.features.definition import FRAUD
from interlock.features.online import Base
from interlock.features.options import StoreOptions
from interlock.rollout.propose import Model, manifests, scaffold
from interlock.trust.event import NewEvent
from interlock.trust.sshsig import public_line, sign
from interlock.trust.statement import Statement, statement_bytes
from interlock.wiring import control as rows

ROLES = {"ada": "technical", "ben": "risk", "cleo": "compliance"}
ROOT = f"{services_root('production')}/fraud"
LIMIT_S = 90.0
POLICY = """apiVersion: interlock.dev/v1alpha1
kind: RolloutPolicy
metadata: {{name: fraud}}
spec:
  strategy: canary
  advance: timeline
  steps: [{steps}]
  watch: {{holdback: 0.05, for: {watch}}}
  deadline: 120s
"""
QUICK = "{shadow: 500ms}, {weight: 50, for: 500ms}"


class Deployment:
    """Use it through `deployment(folder)`."""

    def __init__(self, folder: Path, **control: Any) -> None:
        self.home = folder / "home"
        self._control = control
        self.remote = folder / "remote.git"
        self.repo = folder / "repo"
        self.keys = {name: Ed25519PrivateKey.generate() for name in (*ROLES, "dev")}
        self.valkey = Valkey()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def found(self) -> None:
        """Settings, trust root and an empty release repository."""
        settings.write(
            self.home,
            {
                "scoring": {"port": 0, "workers": 2},
                "control": {"port": 0, **self._control},
                "rollout": {"repository": str(self.remote), "tau_samples": 20, "tau_wait_s": 0.5},
            },
        )
        people = [
            {
                "id": name,
                "emails": [f"{name}@example.org"],
                "roles": [ROLES[name]] if name in ROLES else [],
                "keys": [public_line(key)],
            }
            for name, key in self.keys.items()
        ]
        data, tiers = json.dumps({"schema": 1, "people": people}).encode(), founding.default_tiers()
        founding.accept(self.settings, rows.log_verifier(self.settings), data, tiers)
        work = Workspace.create(self.repo, author=("dev", "dev@example.org"))
        work.add_remote(str(self.remote))
        work.commit(scaffold(data, tiers, str(self.remote)), "Found the release repository")
        work.push()

    @property
    def settings(self) -> settings.Settings:
        """The deployment's settings."""
        return settings.load(self.home, {})

    @property
    def environment(self) -> dict[str, str]:
        """For child processes."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        return {**kept, "INTERLOCK_HOME": str(self.home), "INTERLOCK_STORE_URL": self.valkey.url}

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a child process with its output in run/<name>.log."""
        run = self.settings.places.run
        run.mkdir(parents=True, exist_ok=True)
        with (run / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.processes[name] = process
        return process

    def serve(self) -> str:
        """Start store and scorer; returns the scoring address."""
        self.valkey.start(self.settings.places.run)
        asyncio.run(_warm(self.valkey.url))
        self.start("scorer", "-m", "interlock.apps.cli.main", "serve")
        self.until(lambda: settings.read_endpoints(self.home).get("scoring"), "the scorer listens")
        return settings.read_endpoints(self.home)["scoring"]

    def control(self, at: int = -1, when: str = "before") -> subprocess.Popen[bytes]:
        """Start a controller that kills itself around effect `at`."""
        settings.publish_endpoint(self.home, "control", None)
        process = self.start("control", "-m", "tests.failures.controller_main", str(at), when)
        return process

    def release(
        self, version: str, policy: str = QUICK, watch: str = "500ms", shadows: str = "[]", **bundle: Any
    ) -> str:
        """Register, propose, sign, merge and push a version; returns the merge commit."""
        made = tiny_bundle(self.settings.places.bundles, version=version, lineage={"trained_by": "dev"}, **bundle)
        model = Model("fraud", version, made.digest, made.manifest["feature_set_digest"], made.threshold_set)
        work = Workspace(self.repo, ("dev", "dev@example.org"), sign=self.keys["dev"])
        work.git("checkout", "--quiet", "main")
        work.git("pull", "--quiet", "--ff-only", "origin", "main")
        work.start_branch(f"release/fraud-{version}", "main")
        files = manifests(model, POLICY.format(steps=policy, watch=watch))
        files["release.yaml"] = files["release.yaml"].replace(b"shadows: []", f"shadows: {shadows}".encode())
        work.commit({f"{ROOT}/{name}": data for name, data in files.items()}, f"Release fraud {version}")
        self._approve(work)
        work.git("checkout", "--quiet", "main")
        work.git("-c", "user.name=dev", "-c", "user.email=dev@example.org", "merge", "--quiet", "--no-ff",
                 "-m", f"Merge {version}", f"release/fraud-{version}")  # fmt: skip
        work.push()
        return work.resolve("HEAD")

    def _approve(self, work: Workspace) -> None:
        wish, what = proposed(self.repo, "fraud", self.settings)
        expires = SystemClock().now_ns() + 3600 * NS_PER_S
        files = {}
        for name, role in ROLES.items():
            data = statement_bytes(Statement(what, name, role, "approve", "T-1", "looked at it", expires))
            place = f"approvals/{digest_hex(wish.folder)}/{name}.{role}"
            files |= {f"{place}.json": data, f"{place}.sig": sign(data, self.keys[name]).encode()}
        work.commit(files, "Approve")

    def rollouts(self) -> list[dict[str, Any]]:
        """All rollouts, as the control API tells."""
        with ControlClient.open(self.settings) as client:
            return client.rollouts()

    def ended(self, version: str) -> dict[str, Any] | None:
        """The rollout of a version, once nothing of it is left to do."""
        for line in self.rollouts():
            if line["version"] == version and line["outcome"] != "unfinished":
                with ControlClient.open(self.settings) as client:
                    told = client.rollout(line["id"])
                return told if not told["pending"] else None
        return None

    def until(self, holds: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Wait until something holds; a scorer that ends fails at once."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            found = holds()
            if found:
                return found
            scorer = self.processes.get("scorer")
            if scorer is not None and scorer.poll() is not None:
                raise AssertionError(f"the scorer ended:\n{self.log('scorer')}")
            time.sleep(0.1)
        raise AssertionError(f"it did not happen that {what}:\n{self.log('control')}\n{self.log('scorer')}")

    def log(self, name: str) -> str:
        """The end of a process's output."""
        path = self.settings.places.run / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def effects(self) -> int:
        """How many effects controllers have begun so far."""
        path = self.settings.places.run / "control.log"
        text = path.read_text(errors="replace") if path.exists() else ""
        return sum(line.startswith("effect ") for line in text.splitlines())

    def append(self, event: NewEvent) -> None:
        """Append an event through the control API."""
        with ControlClient.open(self.settings) as client:
            client.append(event)

    def stop(self) -> None:
        """End everything."""
        for name in ("control", "scorer"):
            process = self.processes.get(name)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                process.kill()
                process.wait()
        self.valkey.stop()


async def _warm(url: str) -> None:
    """An empty store with a base: without one every answer would be degraded."""
    store = await RedisOnlineStore.connect(url, FRAUD, StoreOptions())
    await store.load([], Base("empty", FRAUD.set_hash, 1, 0))
    await store.close()


@contextlib.contextmanager
def deployment(folder: Path, **control: Any) -> Iterator[Deployment]:
    """A founded deployment whose scorer runs; with settings of the group `control`."""
    made = Deployment(folder, **control)
    try:
        made.found()
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def champion_under_load(folder: Path, cuts: Any) -> Iterator[tuple[Deployment, Load]]:
    """A deployment whose first release, 1.0.0, has settled and answers a load."""
    with deployment(folder) as made:
        url = made.serve()
        made.control()
        made.release("1.0.0", cuts=cuts)
        made.until(lambda: made.ended("1.0.0"), "the first release settles")
        with Load(url) as load:
            yield made, load
