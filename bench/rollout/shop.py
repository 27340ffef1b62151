"""The shop whose rollouts are measured: a home, a release repository, people, the platform, traffic.

Everything is what a user has: `interlock train`, `interlock release init`, a bare repository, three
signatures over each folder, `interlock up`'s processes. Releases after the first trainings are written
in this process (the same functions as the commands', without their start-up), so that preparing one
does not disturb the rollout before it. The events are read page by page from the control API: what
happened when is taken from the journal, never from when this process noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.rollout import models

from interlock import settings as options
from interlock.adapters.git.workspace import Workspace
from interlock.apps.control.client import ControlClient
from interlock.apps.control.subject import proposed
from interlock.apps.control.wishes import services_root
from interlock.apps.demo import history
from interlock.apps.demo.commands import Commands
from interlock.apps.demo.people import Signer, cast
from interlock.apps.demo.plan import CARDS, HISTORY_DAYS, SEED, SERVICE, SPEED
from interlock.apps.demo.stream import shop as population
from interlock.apps.demo.traffic import TrafficProcess
from interlock.base.canonical import digest_hex
from interlock.base.clock import NS_PER_S, SystemClock
from interlock.features.population import DAY_S
from interlock.registry import bundle as bundles
from interlock.rollout import journal
from interlock.rollout.propose import Model, manifests
from interlock.rollout.states import FINAL
from interlock.trust.event import Event, NewEvent
from interlock.trust.statement import Statement, statement_bytes
from interlock.wiring.platform import Platform

LIMIT_S = 180.0
_POLL_S = 0.2
_T = TypeVar("_T")

TRAINING = """service: {service}
version: "{version}"
user: ada
ticket: BENCH-1
split: {{train_days: 2.5, gap_days: 0.5, test_days: 1.5}}
rows: 15000
trainer: {{name: xgboost, rounds: 120, max_depth: 5, learning_rate: {rate}}}
thresholds: {thresholds}
"""


@dataclass
class Told:
    """What the journal says of one rollout, so far."""

    entries: list[journal.Entry] = field(default_factory=list)
    looks: list[Event] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """It has ended and nothing of it is left to do."""
        last = self.entries[-1].rollout
        return last.state in FINAL and not last.pending


class Shop:
    """Use it through `opened(folder, rate)`."""

    def __init__(self, folder: Path, rate: float) -> None:
        self.home, self.repo, self.remote = folder / "home", folder / "repository", folder / "release.git"
        self.rate = rate
        self.clock = SystemClock()
        self.do = Commands(self.home, lambda command: None)
        self.cast = cast()
        self.traffic: TrafficProcess | None = None
        self.trained: list[bundles.Bundle] = []
        self._told: dict[str, Told] = {}
        self._after = 0
        self._client: ControlClient | None = None
        self._numbers = iter(range(1, 10_000))

    @property
    def settings(self) -> options.Settings:
        """Of the home."""
        return options.load(self.home, self.do.environment)

    # --- before the platform ------------------------------------------------------------------

    def prepare(self) -> history.Snapshot:
        """Simulate the past, train two versions on it, and set the clock's origin."""
        self.home.mkdir(parents=True)
        self._configure(None)
        snapshot = history.write(self.settings, population(CARDS, HISTORY_DAYS, SEED))
        self.trained = [self._train("0.0.0", 0.08), self._train("0.1.0", 0.1)]
        self.tenfold = self._train("0.2.0", 0.08, "{flag_budget: 0.02, flag_factor: 10, from: 0.0.0}")
        self._configure(snapshot.last_ns)
        return snapshot

    def _train(self, version: str, rate: float, thresholds: str = "{flag_budget: 0.02}") -> bundles.Bundle:
        config = self.home / f"train-{version}.yaml"
        config.write_text(TRAINING.format(service=SERVICE, version=version, rate=rate, thresholds=thresholds))
        found = self.do.run("train", str(config))
        return bundles.read(self.settings.places.bundles, found["bundle"])

    def _configure(self, origin_ns: int | None) -> None:
        values: dict[str, Any] = {
            "purpose": "demo",
            "scoring": {"port": 0, "workers": 2},
            "control": {"port": 0},
            "store": {"budget_ms": 100},  # what is measured beside this is not the store
            "rollout": {"repository": str(self.remote)},
        }
        if origin_ns is not None:
            day = DAY_S * NS_PER_S
            values["clock"] = {
                "origin_ns": -(-origin_ns // day) * day,
                "started_ns": self.clock.monotonic_ns(),
                "speed": SPEED,
            }
        options.write(self.home, values)

    def found(self) -> None:
        """`interlock release init` with a bare repository."""
        people = self.home / "people.json"
        people.write_bytes(self.cast.people_json())
        arguments = ("--people", str(people), "--remote", str(self.remote), "--author", self.cast.engineer.author)
        self.do.run("release", "init", str(self.repo), *arguments)
        self._client = ControlClient.open(self.settings)

    def close(self) -> None:
        """Let go of the control API."""
        if self._client is not None:
            self._client.close()

    # --- traffic ------------------------------------------------------------------------------

    def start_traffic(self) -> None:
        """Begin to draw; `go` begins to send."""
        run = self.home / "run"
        run.mkdir(exist_ok=True)
        arguments = ["--cards", str(CARDS), "--history-days", str(HISTORY_DAYS), "--seed", str(SEED)]
        arguments += ["--rate", str(self.rate), "--service", SERVICE]
        self.traffic = TrafficProcess(arguments, run / "traffic.json", run / "traffic.log")

    def go(self) -> None:
        """Send from now on."""
        assert self.traffic is not None
        self.traffic.wait_ready()
        self.traffic.go(int(options.read_endpoints(self.home)["scoring"].rsplit(":", 1)[1].rstrip("/")))

    def progress(self) -> dict[str, Any]:
        """What the generator has counted."""
        assert self.traffic is not None
        return self.traffic.progress() or {}

    def end_traffic(self) -> dict[str, Any]:
        """Wait for what is under way; the last count."""
        assert self.traffic is not None
        found, self.traffic = self.traffic.stop() or {}, None
        return found

    # --- releases -----------------------------------------------------------------------------

    def register(self, bundle: bundles.Bundle, changes: dict[str, bytes] | None = None) -> Model:
        """A bundle's files under the next version, stored and registered."""
        version = f"1.{next(self._numbers)}.0"
        folder = self.settings.places.bundles
        made = bundles.read(folder, bundles.write(folder, models.renamed(bundle, version, changes)))
        model = Model(SERVICE, version, made.digest, made.manifest["feature_set_digest"], made.threshold_set)
        body = {name: getattr(model, name) for name in Model.__struct_fields__}
        body |= {"dataset": made.lineage["dataset"], "card": made.card_digest, "trained_by": self.cast.engineer.id}
        body |= {name: made.lineage.get(name) for name in ("run_id", "ticket", "purpose", "commit", "lock", "parent")}
        self.client.append(self._event("model.registered", f"model/{SERVICE}/{version}", body))
        return model

    def propose(self, model: Model, policy: str) -> None:
        """A branch with the manifests of a version, signed by three people and merged into main here."""
        name, mail = self.cast.engineer.name, self.cast.engineer.email
        work = Workspace(self.repo, (name, mail), sign=self.cast.engineer.key)
        work.start_branch(f"release/{model.version}", "main")
        root = f"{services_root('production')}/{SERVICE}"
        files = manifests(model, policy)
        work.commit({f"{root}/{path}": data for path, data in files.items()}, f"Release {SERVICE} {model.version}")
        wish, what = proposed(self.repo, SERVICE, self.settings)
        expires = self.clock.now_ns() + 3600 * NS_PER_S
        signed: dict[str, bytes] = {}
        for signer in self.cast.approvers:
            data = statement_bytes(
                Statement(what, signer.id, str(signer.role), "approve", "BENCH-1", "read it", expires)
            )
            signed |= _signed(f"approvals/{digest_hex(wish.folder)}/{signer.id}.{signer.role}", data, signer)
        work.commit(signed, f"Approve {model.version}")
        work.git("checkout", "--quiet", "main")
        work.git("reset", "--quiet", "--hard", "origin/main")
        work.git("merge", "--quiet", "--ff-only", f"release/{model.version}")

    def push(self) -> int:
        """Push main; the instant at which the push had returned."""
        Workspace(self.repo).git("push", "--quiet", "origin", "main")
        return self.clock.now_ns()

    # --- the journal --------------------------------------------------------------------------

    @property
    def client(self) -> ControlClient:
        """The control API."""
        assert self._client is not None
        return self._client

    def told(self, version: str) -> Told | None:
        """What the journal says of a version's rollout; None before it began."""
        types = (*journal.ENTRIES, journal.LOOKS, "release.refused")
        for event in self.client.events(self._after, types):
            self._after = event.id
            if event.type in journal.ENTRIES:
                entry = journal.parse(event)
                self._told.setdefault(entry.rollout.id, Told()).entries.append(entry)
            elif event.type == journal.LOOKS and event.body["rollout"] in self._told:
                self._told[event.body["rollout"]].looks.append(event)
            elif event.type == "release.refused" and event.body["version"] is None:
                raise SystemExit(f"the release was refused: {event.body['reason']}")
        return next((told for told in self._told.values() if told.entries[-1].rollout.version == version), None)

    def ended(self, version: str) -> Told:
        """Wait until a version's rollout is over."""

        def over() -> Told | None:
            told = self.told(version)
            return told if told is not None and told.over else None

        return until(over, f"the rollout of {version} ends")

    def _event(self, kind: str, what: str, body: dict[str, Any]) -> NewEvent:
        return NewEvent(
            time_ns=self.clock.now_ns(),
            type=kind,
            actor=self.cast.engineer.id,
            origin="bench",
            object=what,
            outcome="success",
            body=body,
        )


def until(holds: Callable[[], _T | None], what: str, limit_s: float = LIMIT_S) -> _T:
    """Wait until something is found."""
    end = time.monotonic() + limit_s
    while (found := holds()) is None:
        if time.monotonic() > end:
            raise SystemExit(f"it did not happen that {what}")
        time.sleep(_POLL_S)
    return found


@contextmanager
def opened(folder: Path, rate: float) -> Iterator[Shop]:
    """A shop with two trained versions, a repository, a running platform, and a generator that waits."""
    made = Shop(folder, rate)
    with ExitStack() as stack:
        stack.callback(made.do.end)
        snapshot = made.prepare()
        made.start_traffic()
        stack.callback(lambda: made.traffic is None or made.traffic.stop())
        platform = Platform.start(made.settings)
        stack.callback(platform.stop)
        history.load_online(made.settings, platform.store_url, snapshot)
        made.found()
        stack.callback(made.close)
        yield made


def _signed(place: str, data: bytes, signer: Signer) -> dict[str, bytes]:
    return {f"{place}.json": data, f"{place}.sig": signer.sign(data)}
