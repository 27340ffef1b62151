"""The story of the product on one machine, step by step, with the commands that a user has.

The home of the demo is `<demo>/home`; a run begins by removing what an earlier one left there, and
refuses to touch the home of a platform that runs. Traffic begins as soon as something serves and
ends after the proof; it is never paused. Whatever goes wrong ends the story, not the report: the
report says what was promised and did not happen.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from interlock import settings as options
from interlock.apps.control.client import ControlClient
from interlock.apps.demo import history, view
from interlock.apps.demo.board import Board
from interlock.apps.demo.commands import Commands
from interlock.apps.demo.people import Cast, Signer, cast
from interlock.apps.demo.plan import CARDS, HISTORY_DAYS, RATE, RELEASES, SEED, SERVICE, SPEED, ReleasePlan
from interlock.apps.demo.report import release_row, unmet
from interlock.apps.demo.stream import shop
from interlock.apps.demo.traffic import TrafficProcess
from interlock.base.clock import NS_PER_S, Clock
from interlock.base.errors import InterlockError, RefusedError, UnreachableError
from interlock.base.files import write_atomic
from interlock.features.population import DAY_S
from interlock.settings import Settings
from interlock.wiring.platform import Platform, is_up

_LOOK_S = 0.2
_ROLLOUT_S = 120.0
_SEAL_S = 45.0
_PROVEN = "1.1.0"
_T = TypeVar("_T")


def run(demo: Path, clock: Clock, console: Console) -> tuple[Board, dict[str, Any], list[str]]:
    """Tell the story and write `<demo>/report.json`.

    Returns:
        The board, the report, and every promise that was not kept.

    Raises:
        RefusedError: a demo already runs in this home.
    """
    _clear(demo)
    board = Board(clock)
    story = _Story(demo, board, clock)
    with view.shown(board, console):
        problems = story.tell()
    report = story.report()
    problems += unmet(report, {release.version: release.expected for release in RELEASES})
    write_atomic(demo / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    return board, report, problems


def _clear(demo: Path) -> None:
    home = demo / "home"
    if is_up(home / "run"):
        raise RefusedError("a demo runs in this home already", "wait for it, or end it with Ctrl-C")
    for folder in (home, demo / "repository", demo / "release"):
        shutil.rmtree(folder, ignore_errors=True)
    (demo / "report.json").unlink(missing_ok=True)
    home.mkdir(parents=True)


class _Story:
    """One telling; what it finds out is kept for the report."""

    def __init__(self, demo: Path, board: Board, clock: Clock) -> None:
        self._home, self._repo, self._remote = demo / "home", demo / "repository", demo / "release"
        self._board, self._clock = board, clock
        self._do = Commands(self._home, board.tell)
        self._cast: Cast = cast()
        self._commits: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._lines: dict[str, dict[str, Any]] = {}
        self._audit: dict[str, Any] = {"entries": 0, "verified": False}
        self._decision: dict[str, Any] = {
            "id": None,
            "proven": False,
            "vector_recomputed": False,
            "score_recomputed": False,
        }
        self._training: dict[str, float | None] = {"roc_auc": None, "pr_auc": None}
        self._traffic: TrafficProcess | None = None
        self._not_yet = ""

    def tell(self) -> list[str]:
        """From nothing to the proof; returns what ended the story early, if anything did."""
        problems = []
        with ExitStack() as stack:
            try:
                self._tell(stack)
            except InterlockError as error:
                problems.append(str(error))
            except KeyboardInterrupt:
                problems.append("it was interrupted")
            finally:
                self._end_traffic()
        return problems

    def _tell(self, stack: ExitStack) -> None:
        trainings = _Background(self._train, self._board)
        stack.callback(trainings.close)
        stack.callback(self._do.end)
        self._configure(None)
        with self._board.scene("simulate the shop; keep its history as a snapshot of tokens") as scene:
            settings = options.load(self._home, self._do.environment)
            snapshot = history.write(settings, shop(CARDS, HISTORY_DAYS, SEED))
            scene.note = f"{snapshot.rows:,} transactions, {snapshot.digest[:24]}…"
        self._start_traffic(stack)
        with self._board.scene("train the champion 1.0.0") as scene:
            scene.note = self._figures(trainings.result(RELEASES[0]))
        settings = self._configure(snapshot.last_ns)
        with self._board.scene("start the platform; load the online store from the snapshot") as scene:
            platform = Platform.start(settings)
            stack.callback(platform.stop)
            held = history.load_online(settings, platform.store_url, snapshot)
            scene.note = f"states after {held:,} events; {platform.endpoints.get('scoring', '?')}"
        with self._board.scene("found the release repository; trust its people and policy"):
            self._found()
        client = stack.enter_context(ControlClient.open(settings))
        for number, release in enumerate(RELEASES):
            if number:
                self._trained(trainings, release)
            self._release(release, client)
        self._prove()

    def _configure(self, origin_ns: int | None) -> Settings:
        values: dict[str, Any] = {
            "purpose": "demo",
            "scoring": {"port": 0},
            "control": {"port": 0},
            # This machine trains beside serving: a busy processor is not a lost store.
            "store": {"budget_ms": 100},
            "rollout": {"repository": str(self._remote), "poll_s": 0.25},
        }
        if origin_ns is not None:
            # The edge begins at the first midnight after the history.
            day = DAY_S * NS_PER_S
            values["clock"] = {
                "origin_ns": -(-origin_ns // day) * day,
                "started_ns": self._clock.monotonic_ns(),
                "speed": SPEED,
            }
        options.write(self._home, values)
        return options.load(self._home, self._do.environment)

    def _train(self, release: ReleasePlan) -> dict[str, Any]:
        config = self._home / f"train-{release.version}.yaml"
        config.write_text(release.config(self._cast.engineer.id))
        return self._do.run("train", str(config), nice=True)

    def _trained(self, trainings: _Background, release: ReleasePlan) -> None:
        with self._board.scene(f"train {release.version}, {release.title}") as scene:
            found = trainings.result(release)
            scene.note = self._figures(found)
            if release.version == _PROVEN:
                self._training = {name: round(found["metrics"][name], 4) for name in ("roc_auc", "pr_auc")}

    def _found(self) -> None:
        people = self._home / "people.json"
        people.write_bytes(self._cast.people_json())
        self._do.run(
            "release",
            "init",
            str(self._repo),
            "--people",
            str(people),
            "--remote",
            str(self._remote),
            "--author",
            self._cast.engineer.author,
        )

    def _release(self, release: ReleasePlan, client: ControlClient) -> None:
        with self._board.scene(f"propose {release.version}; three people sign; merge") as scene:
            self._propose(release)
            self._commits[release.version] = self._merge(release)
            scene.note = "signed by " + ", ".join(each.id for each in self._cast.approvers)
        with self._board.scene(f"roll out {release.version}, {release.title}") as scene:
            line = self._wait_for(release, client)
            scene.note = line["outcome"].replace("_", " ") + (f": {line['reason']}" if line["reason"] else "")
        if line["outcome"] != release.expected:
            raise RefusedError(
                f"{release.version} was {line['outcome'].replace('_', ' ')}: {line['reason']}",
                f"read {self._home.name}/run/control.log",
            )

    def _propose(self, release: ReleasePlan) -> None:
        policy = self._home / f"policy-{release.version}.yaml"
        policy.write_text(release.policy())
        repo = ("--repo", str(self._repo))
        engineer = self._cast.engineer
        author = ("--author", engineer.author, "--sign", str(engineer.key_file(self._home)))
        self._do.run("release", "propose", SERVICE, release.version, *repo, "--policy", str(policy), *author)
        with ThreadPoolExecutor(len(self._cast.approvers)) as people:
            files = list(people.map(lambda signer: self._sign(release, signer), self._cast.approvers))
        for path in files:
            self._do.run("approve", str(path), f"{path}.sig", *repo)

    def _sign(self, release: ReleasePlan, signer: Signer) -> Path:
        """What a person does: read the statement, sign exactly its bytes."""
        who = ("--role", str(signer.role), "--person", signer.id)
        statement = self._do.text("statement", SERVICE, *who, "--repo", str(self._repo))
        path = self._home / f"{release.version}.{signer.id}.json"
        path.write_bytes(statement)
        path.with_name(f"{path.name}.sig").write_bytes(signer.sign(statement))
        return path

    def _merge(self, release: ReleasePlan) -> int:
        """Merge and push; returns the instant at which the push to main had returned."""
        self._do.git(self._repo, "checkout", "--quiet", "main")
        self._do.git(self._repo, "pull", "--quiet", "--ff-only", "origin", "main")
        self._do.git(self._repo, "merge", "--quiet", "--ff-only", f"release/{SERVICE}-{release.version}")
        self._do.git(self._repo, "push", "--quiet", "origin", "main")
        return self._clock.now_ns()

    def _wait_for(self, release: ReleasePlan, client: ControlClient) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            lines = [line for line in client.rollouts() if line["service"] == SERVICE]
            mine = [line for line in lines if line["version"] == release.version]
            with self._board.lock:
                self._board.rollouts = lines
            if mine and mine[-1]["majority_ns"]:
                self._go()
            self._look()
            return mine[-1] if mine and mine[-1]["outcome"] != "unfinished" else None

        found = self._until(ended, _ROLLOUT_S, f"{release.version} did not come to an end")
        self._lines[release.version] = found
        self._ends[release.version] = self._clock.now_ns()
        self._look()
        return found

    # Traffic.
    def _start_traffic(self, stack: ExitStack) -> None:
        arguments = ["--cards", str(CARDS), "--history-days", str(HISTORY_DAYS), "--seed", str(SEED)]
        arguments += ["--rate", str(RATE), "--service", SERVICE]
        run = self._home / "run"
        run.mkdir(exist_ok=True)
        self._traffic = TrafficProcess(arguments, run / "traffic.json", run / "traffic.log")
        self._going = False
        stack.callback(self._end_traffic)

    def _go(self) -> None:
        if self._traffic is not None and not self._going:
            self._traffic.wait_ready()
            scoring = options.read_endpoints(self._home)["scoring"]
            self._traffic.go(int(scoring.rsplit(":", 1)[1].rstrip("/")))
            self._going = True

    def _look(self) -> None:
        """Bring the board's figures up to date."""
        progress = self._traffic.progress() if self._traffic is not None else self._board.progress
        with self._board.lock:
            self._board.progress = progress
            self._board.rows = self._rows()

    def _rows(self) -> list[dict[str, Any]]:
        failures = (self._board.progress or {}).get("failures", [])
        return [
            release_row(line, self._commits[version], self._ends[version], failures)
            for version, line in self._lines.items()
            if version in self._ends
        ]

    def _end_traffic(self) -> None:
        if self._traffic is not None:
            self._board.progress = self._traffic.stop() or self._board.progress
            self._traffic = None

    # The proof.
    def _prove(self) -> None:
        with self._board.scene("verify the audit log offline; prove and recompute one decision") as scene:
            progress = self._board.progress or {}
            samples = progress.get("samples", {}).get(_PROVEN, [])
            if not samples:
                raise UnreachableError(f"no decision of {_PROVEN} was sampled", "read run/traffic.log")
            self._decision["id"] = samples[len(samples) // 2][1]
            try:
                self._until(self._proven, _SEAL_S, "the decision was not proven")
            except UnreachableError as error:
                raise UnreachableError(f"{error.message}: {self._not_yet}", error.remedy) from error
            found = self._do.run("decision", "recompute", self._decision["id"])
            self._decision |= {name: found[name] for name in ("vector_recomputed", "score_recomputed")}
            audit = self._do.run("audit", "verify")
            self._audit = {"entries": audit["entries"], "verified": bool(audit["verified"])}
            scene.note = f"{audit['entries']} entries; decision {self._decision['id']}"
            self._look()

    def _proven(self) -> dict[str, Any] | None:
        self._look()
        try:
            found = self._do.run("decision", "prove", self._decision["id"])
        except RefusedError as error:
            self._not_yet = str(error)  # not sealed or not integrated yet, most likely
            return None
        self._decision["proven"] = bool(found["proven"])
        return found

    def _until(self, look: Callable[[], _T | None], patience_s: float, what: str) -> _T:
        limit = self._clock.monotonic_ns() + int(patience_s * NS_PER_S)
        while (found := look()) is None:
            if self._clock.monotonic_ns() > limit:
                raise UnreachableError(f"{what} within {patience_s:.0f} s", "read the logs in the demo's home/run")
            time.sleep(_LOOK_S)
        return found

    def _figures(self, found: dict[str, Any]) -> str:
        return f"ROC-AUC {found['metrics']['roc_auc']:.3f}, average precision {found['metrics']['pr_auc']:.3f}"

    def report(self) -> dict[str, Any]:
        """`report.json` as the issue has it."""
        progress = self._board.progress or {}
        return {
            "seconds": round(self._board.seconds, 1),
            "requests": {name: progress.get(name, 0) for name in ("sent", "answered", "failed")},
            "releases": self._rows(),
            "audit": self._audit,
            "decision": self._decision,
            "training": self._training,
        }


class _Background:
    """The trainings, one after the other and niced, while releases go on."""

    def __init__(self, train: Callable[[ReleasePlan], dict[str, Any]], board: Board) -> None:
        self._train, self._board = train, board
        self._pool = ThreadPoolExecutor(1)
        self._results: dict[str, Future[dict[str, Any]]] = {}

    def result(self, release: ReleasePlan) -> dict[str, Any]:
        """Wait for a training; the first call starts them all, in the order of the story."""
        if not self._results:
            self._results = {each.version: self._pool.submit(self._one, each) for each in RELEASES}
        return self._results[release.version].result()

    def _one(self, release: ReleasePlan) -> dict[str, Any]:
        self._board.training = f"training {release.version}"
        try:
            return self._train(release)
        finally:
            self._board.training = ""

    def close(self) -> None:
        """Start nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
