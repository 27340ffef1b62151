"""`interlock rollout abort | pause | resume | rollback` on a real home and a supervisor's real socket protocol."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.rollout.standing import digest, record, rollout
from typer.testing import CliRunner

from interlock import settings
from interlock.apps.cli.main import build
from interlock.base.clock import SystemClock
from interlock.base.files import listen_alone
from interlock.decision import admin
from interlock.decision.admin import Done, Frames, Latch, Observe, Observed, Retreat, ServiceState
from interlock.decision.split import weights
from interlock.decision.table import Arm, RouteTable
from interlock.rollout.states import State
from interlock.rollout.values import Rollout
from interlock.trust.event import NewEvent
from interlock.wiring import control

pytestmark = pytest.mark.process  # sockets, databases, threads


class Supervisor:
    """The admin door of one service `fraud`, as far as an abort asks for it."""

    def __init__(self, path: Path, unsettled: bool) -> None:
        champion = Arm(name="champion", bundle=digest("v1"), folder=digest("f1"), version="v1", ranges=())
        candidate = Arm(name="candidate", bundle=digest("v2"), folder=digest("f2"), version="v2", ranges=())
        self.table = RouteTable(
            service="fraud",
            epoch=1,
            generation=2,
            arms=weights(champion, candidate, 1_000 if unsettled else 0),
            salt="00" * 16,
            lease_s=60.0 if unsettled else None,
        )
        self.latch: Latch | None = None
        self._listener, _ = listen_alone(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        frames = Frames()
        while piece := connection.recv(1 << 16):
            for body in frames.feed(piece):
                request = admin.request(body)
                connection.sendall(admin.frame(self._reply(request)))

    def _reply(self, request: Any) -> Any:
        if isinstance(request, Observe):
            state = ServiceState(2, 1, 2, self.latch, None, [], self.table)
            return Observed(1, {"fraud": state}, [])
        assert isinstance(request, Retreat)
        self.latch = self.latch or Latch(request.latch, request.reason, request.actor, request.at_ns)
        return Done()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    monkeypatch.setenv("INTERLOCK_HOME", str(tmp_path))
    return settings.load()


@pytest.fixture
def run(home: settings.Settings) -> Run:
    def command(*arguments: str) -> tuple[int, dict[str, Any]]:
        from interlock.apps.cli.output import exit_code
        from interlock.base.errors import InterlockError

        done = CliRunner().invoke(
            build(("interlock.apps.cli.score", "interlock.apps.cli.rollout")),
            ["rollout", *arguments, "--person", "ada", "--output", "json"],
        )
        if isinstance(done.exception, InterlockError):
            return exit_code(done.exception), {"error": str(done.exception)}
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, json.loads(done.stdout) if done.stdout else {}

    return command


@pytest.fixture(params=[True, False], ids=["unsettled", "settled"])
def supervisor(request: pytest.FixtureRequest, home: settings.Settings) -> Iterator[Supervisor]:
    found = Supervisor(home.places.admin_socket, request.param)
    yield found
    found.close()


unsettled = pytest.mark.parametrize("supervisor", [True], indirect=True, ids=["unsettled"])
settled = pytest.mark.parametrize("supervisor", [False], indirect=True, ids=["settled"])


def both_settled() -> tuple[Rollout, Rollout]:
    """The commands read the real clock, and the horizon is thirty days."""
    then = SystemClock().now_ns() - 10**9
    first, second = (
        rollout(name, State.SETTLED, started_ns=at, ended_ns=at) for name, at in (("v1", then), ("v2", then + 1))
    )
    return first, second


def aborts(home: settings.Settings) -> list[Any]:
    return control.event_store(home).after(0, ("rollout.abort.requested",))


def break_store(home: settings.Settings) -> None:
    home.places.events.mkdir(parents=True)


@unsettled
def test_an_abort_latches_first_and_is_recorded_though_no_control_process_runs(
    run: Run, home: settings.Settings, supervisor: Supervisor
) -> None:
    record(control.event_store(home), rollout("v1", State.SETTLED), rollout("v2", State.CANARY))
    code, found = run("abort", "fraud", "--reason", "complaints")
    assert (code, found["latched"], found["recorded"]) == (0, True, True)
    assert supervisor.latch is not None
    assert (supervisor.latch.id, supervisor.latch.actor, supervisor.latch.reason) == (
        found["latch"],
        "ada",
        "complaints",
    )
    (event,) = aborts(home)
    assert (event.actor, event.body["reason"]) == ("ada", "complaints")


@unsettled
def test_an_abort_needs_no_events(run: Run, home: settings.Settings, supervisor: Supervisor) -> None:
    break_store(home)
    code, found = run("abort", "fraud", "--reason", "complaints")
    assert (code, found["latched"], found["recorded"]) == (0, True, False)
    assert supervisor.latch is not None


@unsettled
def test_twice_in_a_row_is_one_latch_and_one_event(run: Run, home: settings.Settings, supervisor: Supervisor) -> None:
    record(control.event_store(home), rollout("v1", State.SETTLED), rollout("v2", State.CANARY))
    _, first = run("abort", "fraud", "--reason", "complaints")
    code, _ = run("abort", "fraud", "--reason", "more complaints")
    assert code == 0
    assert supervisor.latch is not None
    assert supervisor.latch.id == first["latch"]
    assert len(aborts(home)) == 1
    record(control.event_store(home), rollout("v2", State.ROLLED_BACK))
    assert run("abort", "fraud", "--reason", "again")[0] == 0
    assert len(aborts(home)) == 1


@settled
def test_a_settled_service_is_not_latched_and_the_way_back_is_named(
    run: Run, home: settings.Settings, supervisor: Supervisor
) -> None:
    record(control.event_store(home), *both_settled())
    code, found = run("abort", "fraud", "--reason", "complaints")
    assert code == 1
    assert "it serves v2" in found["error"]
    assert "rollout rollback fraud" in found["error"]
    assert (supervisor.latch, aborts(home)) == (None, [])


@settled
def test_when_nothing_can_be_read_a_settled_service_is_latched_all_the_same(
    run: Run, home: settings.Settings, supervisor: Supervisor
) -> None:
    break_store(home)
    assert run("abort", "fraud", "--reason", "complaints")[0] == 0
    assert supervisor.latch is not None


@unsettled
def test_a_misspelt_service_is_not_latched(run: Run, home: settings.Settings, supervisor: Supervisor) -> None:
    record(control.event_store(home), rollout("v2", State.CANARY))
    code, found = run("abort", "fruad", "--reason", "complaints")
    assert code == 2
    assert "no release of this service" in found["error"]
    assert supervisor.latch is None


@unsettled
def test_a_card_number_reaches_neither_the_latch_nor_the_record(
    run: Run, home: settings.Settings, supervisor: Supervisor
) -> None:
    record(control.event_store(home), rollout("v2", State.CANARY))
    run("abort", "fraud", "--reason", "card 4111 1111 1111 1111 is declined")
    assert supervisor.latch is not None
    assert "4111" not in supervisor.latch.reason + str(aborts(home)[0].body)


def test_an_abort_that_reaches_only_the_control_api_is_recorded(run: Run, home: settings.Settings) -> None:
    record(control.event_store(home), rollout("v2", State.LOADING))
    code, found = run("abort", "fraud", "--reason", "complaints")
    assert (code, found["latched"], found["recorded"]) == (0, False, True)


def test_an_abort_that_reaches_nobody_says_so(run: Run, home: settings.Settings) -> None:
    break_store(home)
    assert run("abort", "fraud", "--reason", "complaints")[0] == 3


def test_an_order_prints_its_event_and_is_refused_with_a_remedy(run: Run, home: settings.Settings) -> None:
    record(control.event_store(home), rollout("v1", State.SETTLED), rollout("v2", State.CANARY))
    code, found = run("pause", "fraud", "--reason", "lunch")
    assert (code, found["type"], found["actor"]) == (0, "rollout.pause.requested", "ada")
    code, found = run("resume", "fraud", "--reason", "x")
    assert (code, "is not held" in found["error"]) == (1, True)
    code, found = run("rollback", "fraud", "--to", "v7", "--reason", "x")
    assert (code, "within it: none" in found["error"]) == (2, True)


def carried_out(home: settings.Settings, kind: str, *then: State) -> threading.Thread:
    """A stand-in for the controller: once it is asked, the rollout v2 goes through these states."""

    def work() -> None:
        store = control.event_store(home)
        while not store.after(0, (kind,)):
            threading.Event().wait(0.02)
        for state in then:
            record(store, rollout("v2", state))
            threading.Event().wait(0.8)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("command", "kind", "then", "code"),
    [
        ("pause", "pause", (State.HELD,), 0),
        ("pause", "pause", (State.ROLLED_BACK,), 4),
        ("abort", "abort", (State.ROLLING_BACK, State.ROLLED_BACK), 0),
        ("abort", "abort", (State.SETTLED,), 1),
        ("resume", "resume", (State.CANARY, State.SETTLED), 0),
        ("resume", "resume", (State.CANARY, State.HELD), 3),
        ("resume", "resume", (State.CANARY, State.ROLLED_BACK), 4),
        ("resume", "resume", (State.SUPERSEDED,), 1),
    ],
    ids=["paused", "too-late", "aborted", "settled", "went-on", "held-again", "back", "superseded"],
)
def test_waiting_ends_with_what_became_of_the_order(
    run: Run, home: settings.Settings, command: str, kind: str, then: tuple[State, ...], code: int
) -> None:
    start = State.HELD if command == "resume" else State.CANARY
    record(control.event_store(home), rollout("v1", State.SETTLED), rollout("v2", start))
    controller = carried_out(home, f"rollout.{kind}.requested", *then)
    done, found = run(command, "fraud", "--reason", "why", "--wait", "--timeout", "30")
    controller.join()
    assert (done, found["state"]) == (code, then[-1].value)


def test_waiting_has_an_end_of_its_own(run: Run, home: settings.Settings) -> None:
    record(control.event_store(home), rollout("v2", State.CANARY))
    code, found = run("pause", "fraud", "--reason", "why", "--wait", "--timeout", "0")
    assert (code, found["state"]) == (3, "canary")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"reverted": "pushed abc"}, 0),
        ({"reverted": "already abc"}, 0),
        ({"reason": "the branch asks for something else"}, 1),
    ],
    ids=["pushed", "already", "refused"],
)
def test_a_return_waits_for_its_answer_and_for_the_rollout_that_follows(
    run: Run, home: settings.Settings, answer: dict[str, str], code: int
) -> None:
    store = control.event_store(home)
    record(store, *both_settled())
    now = control.event_store(home)

    def controller() -> None:
        while not (asked := now.after(0, ("rollout.rollback.requested",))):
            threading.Event().wait(0.02)
        body = {"service": "fraud", "request": str(asked[0].id), **answer}
        now.append(
            NewEvent(
                time_ns=asked[0].time_ns,
                type="release.reverted" if "reverted" in answer else "release.refused",
                actor="ada",
                origin="controller",
                object="service/fraud",
                outcome="success",
                body={**body, "commit": "", "version": "v1"},
            )
        )
        if answer.get("reverted", "").startswith("pushed"):
            again = msgspec.structs.replace(
                rollout("v1", State.SETTLED), id="again", started_ns=asked[0].time_ns + 1000
            )
            record(now, again)

    thread = threading.Thread(target=controller)
    thread.start()
    done, found = run("rollback", "fraud", "--reason", "why", "--wait", "--timeout", "30")
    thread.join()
    assert (done, found["version"]) == (code, None)
    if answer.get("reverted") == "pushed abc":
        assert found["rollout"] == "again"
