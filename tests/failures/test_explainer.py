"""The process that explains, for real: its answers, its refusals, what it outlives, what it leaves in the audit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.explaining import trained_bundle
from tests.governance.past import World

from interlock.adapters.explainer.client import ExplainClient
from interlock.adapters.sql.events import SqlEventStore
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.base.files import socket_address
from interlock.decision import admin
from interlock.decision import explain as messages
from interlock.settings import Places, read_endpoints
from interlock.trust.event import Event
from interlock.wiring.platform import answers

pytestmark = pytest.mark.process

LIMIT_S = 100.0
EVER = {"INTERLOCK_EXPLAIN_LOOKBACK_H": "1000000"}  # the world's clock stands still in the past


class Explainer:
    """One explaining process and the home that it reads."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.world = World(home, bundle=trained_bundle(home / "bundles"))
        self.ids = [self.world.decide().decision_id for _ in range(6)]
        self.world.seal()
        self.socket = Places(home).explain_socket
        self.client = ExplainClient(self.socket, LIMIT_S)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **options: object) -> subprocess.Popen[bytes]:
        given = {f"INTERLOCK_EXPLAIN_{name.upper()}": str(value) for name, value in options.items()}
        environment = {**os.environ, **EVER, **given, "INTERLOCK_HOME": str(self.home)}
        with (self.home / "explain.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "interlock.apps.job.explain"], env=environment, stdout=log, stderr=log
            )
        self.process = process
        while not answers(read_endpoints(self.home).get("explain"), ""):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
            assert process.returncode is None, (self.home / "explain.log").read_text()
        return process

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    async def ask(self, *decisions: str, **changes: Any) -> list[dict[str, Any]]:
        given = {"service": "fraud", "decisions": decisions, "actor": "ana", "roles": ["explain"], **changes}
        found: list[dict[str, Any]] = json.loads(await self.client.explain(given.pop("service"), **given))[
            "explanations"
        ]
        return found

    def events(self, kind: str = "decision.explained") -> list[Event]:
        with contextlib.closing(SqlEventStore.open(Places(self.home).events)) as store:
            return store.after(0, [kind])

    @contextlib.contextmanager
    def audit_held(self) -> Iterator[None]:
        """Nobody can write an event meanwhile: whatever is explained waits for its audit."""
        SqlEventStore.open(Places(self.home).events).close()
        with contextlib.closing(sqlite3.connect(Places(self.home).events, isolation_level=None)) as held:
            held.execute("BEGIN IMMEDIATE")
            yield
            held.execute("ROLLBACK")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explainer]:
    """One process for the tests that leave it as it is."""
    made = Explainer(tmp_path_factory.mktemp("explainer"))
    made.start(per_call=4, queue=1)
    yield made
    made.stop()


@pytest.fixture
def explainer(tmp_path: Path) -> Iterator[Explainer]:
    """One that a test starts as it wants it."""
    made = Explainer(tmp_path)
    yield made
    made.stop()


def run(work: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await work

    return asyncio.run(bounded())


# --- answers ----------------------------------------------------------------------------------------


def test_a_decision_is_explained_and_the_explanation_is_in_the_audit(running: Explainer) -> None:
    before = len(running.events())
    (found,) = run(running.ask(running.ids[4], trace_id="ab" * 16))
    record = running.world.made[4]
    assert (found["decision_id"], found["score"], found["decision"]) == (
        record.decision_id,
        record.score,
        record.decision,
    )
    total = found["base_value"] + sum(row["contribution"] for row in found["contributions"])
    assert total == pytest.approx(found["margin"], abs=1e-4)
    assert found["reasons"][0]["code"] == "R05"
    (event,) = running.events()[before:]
    assert (event.actor, event.object, event.outcome) == ("ana", f"decision/{record.decision_id}", "success")
    assert event.body == {
        "decision_id": record.decision_id,
        "transaction_id": record.transaction_id,
        "service": "fraud",
        "version": "1.0.0",
        "bundle": running.world.bundle.digest,
        "reasons": [row["code"] for row in found["reasons"]],
        "trace_id": "ab" * 16,
    }


def test_transactions_are_explained_by_their_last_decision(running: Explainer) -> None:
    found = run(running.ask(running.ids[0], transactions=["t-3"]))
    assert [row["decision_id"] for row in found] == [running.ids[0], running.ids[3]]


def test_an_item_that_is_unknown_says_so_beside_the_others(running: Explainer) -> None:
    before = len(running.events())
    unknown = running.ids[0][:-4] + "0000"
    found = run(running.ask(unknown, running.ids[1], transactions=["t-99"]))
    assert "no such decision" in found[0]["error"]
    assert found[0]["decision_id"] == unknown
    assert found[1]["decision_id"] == running.ids[1]
    assert "no recent decision" in found[2]["error"]
    assert len(running.events()) == before + 1


def test_nothing_of_the_process_scores(running: Explainer) -> None:
    run(running.ask(running.ids[0]))
    assert running.process is not None
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "libxgboost" in mapped
    assert "onnxruntime" not in mapped
    assert "hiredis" not in mapped
    assert os.getpriority(os.PRIO_PROCESS, running.process.pid) >= 10


# --- refusals ---------------------------------------------------------------------------------------


def test_without_the_role_nothing_is_explained_and_the_attempt_is_in_the_audit(running: Explainer) -> None:
    before, denied = len(running.events()), len(running.events("access.denied"))
    with pytest.raises(RefusedError, match="role explain"):
        run(running.ask(running.ids[0], actor="eve", roles=["score", "operate", "explainer"]))
    assert len(running.events()) == before
    (event,) = running.events("access.denied")[denied:]
    assert (event.actor, event.object, event.outcome) == ("eve", "service/fraud", "refused")


def test_a_decision_of_another_service_is_unknown(running: Explainer) -> None:
    with pytest.raises(UsageError, match="no such decision of this service"):
        run(running.ask(running.ids[0], service="credit"))
    with pytest.raises(UsageError, match="no recent decision"):
        run(running.ask(service="credit", transactions=["t-1"]))


def test_too_many_at_once_are_refused(running: Explainer) -> None:
    with pytest.raises(UsageError, match="too many"):
        run(running.ask(*running.ids[:5]))


def test_what_is_no_question_is_refused_and_harms_nobody(running: Explainer) -> None:
    for data in (admin.framed(b"\xc1"), admin.framed(b"{}"), b"\xff" * 64):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_S)
            connection.connect(socket_address(running.socket))
            connection.sendall(data)
            (body,) = admin.Frames().feed(connection.makefile("rb").read())
            reply = messages.reply(body)
            assert isinstance(reply, admin.Failed)
            assert reply.kind == "usage"
    assert run(running.ask(running.ids[0]))


def test_the_socket_is_its_owner_s_alone_and_a_second_process_is_refused(running: Explainer) -> None:
    assert running.socket.stat().st_mode & 0o077 == 0
    done = subprocess.run(
        [sys.executable, "-m", "interlock.apps.job.explain"],
        env={**os.environ, "INTERLOCK_HOME": str(running.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "already" in done.stderr
    assert run(running.ask(running.ids[0]))


def test_a_tampered_bundle_is_refused_and_nothing_is_audited(running: Explainer) -> None:
    before = len(running.events())
    bundle = trained_bundle(running.home / "bundles", seed=1)
    decision = running.world.decide(bundle=bundle.digest).decision_id
    path = running.home / "bundles" / bundle.digest.removeprefix("sha256:") / "explain" / "booster.ubj"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="other bytes than its index says"):
        run(running.ask(decision))
    assert len(running.events()) == before


# --- load, clients that leave, and the end -----------------------------------------------------------


def test_beyond_its_queue_a_question_is_refused_at_once(running: Explainer) -> None:
    before = len(running.events())

    async def three() -> list[Any]:
        with running.audit_held():
            calls = [asyncio.create_task(running.ask(each)) for each in running.ids[:3]]
            first, rest = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while len(rest) > 1:
                more, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                first |= more
            for each in first:
                with pytest.raises(UnreachableError, match="busy"):
                    each.result()
        return await rest.pop()

    assert len(run(three())) == 1
    assert run(running.ask(running.ids[0]))  # room again
    assert len(running.events()) == before + 2


def test_a_client_killed_in_the_middle_of_its_call_takes_nobody_with_it(running: Explainer) -> None:
    before = len(running.events())
    client = ASK.format(socket=str(running.socket), decision=running.ids[0])
    with running.audit_held():
        asking = subprocess.Popen([sys.executable, "-c", client])
        # Once might be what is left of the probe before: a held question refuses them all.
        until(lambda: all(busy(running) for _ in range(5)))
        asking.kill()
        asking.wait()
    until(lambda: not busy(running))
    (found,) = run(running.ask(running.ids[1]))
    assert found["decision_id"] == running.ids[1]
    assert [event.actor for event in running.events()[before:]] == ["ben", "ana"]


ASK = """
import asyncio, pathlib
from interlock.adapters.explainer.client import ExplainClient
from interlock.base.errors import UnreachableError
client = ExplainClient(pathlib.Path({socket!r}))
while True:
    try:
        asyncio.run(client.explain("fraud", decisions=[{decision!r}], actor="ben", roles=["explain"]))
    except UnreachableError:  # whoever looks whether it is busy makes it busy for a moment
        continue
"""


def until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < limit


def busy(explainer: Explainer) -> bool:
    """Whether a question is under way, asked by one that needs no audit."""
    try:
        run(explainer.ask(explainer.ids[0][:-4] + "0000"))
    except UsageError:
        return False
    except UnreachableError:
        return True
    raise AssertionError


async def denied(explainer: Explainer) -> None:
    """A question that is refused only after its audit, and needs no model for that."""
    try:
        await explainer.ask(explainer.ids[0], roles=[])
    except RefusedError:
        return
    except UnreachableError as error:
        if "busy" not in error.message:
            raise
        await denied(explainer)  # whoever looks whether it is busy makes it busy for a moment
        return
    raise AssertionError


def test_a_question_that_does_not_end_ends_the_process_and_not_its_caller(explainer: Explainer) -> None:
    process = explainer.start(hang_s=0.2)
    with explainer.audit_held(), pytest.raises(UnreachableError, match="does not answer"):
        run(denied(explainer))
    assert process.wait(LIMIT_S) == 1
    assert "does not end" in (explainer.home / "explain.log").read_text()


def test_it_answers_what_was_asked_before_it_ends(explainer: Explainer) -> None:
    process = explainer.start(queue=1)
    assert not busy(explainer)  # answered: what is loaded ahead of the first question is there

    async def end() -> None:
        with explainer.audit_held():
            call = asyncio.create_task(denied(explainer))
            await asyncio.to_thread(until, lambda: busy(explainer))
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(until, lambda: not answers(f"unix://{explainer.socket}", ""))
        await call

    run(end())
    assert process.wait(LIMIT_S) == 0
    assert "explain" not in read_endpoints(explainer.home)
    with pytest.raises(UnreachableError, match="does not answer"):
        run(explainer.ask(explainer.ids[0]))
