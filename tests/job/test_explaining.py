"""What a question costs and leaves behind, without a process: bounds, budget, and no answer without an audit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.builders import tiny_bundle
from tests.governance.past import World

from interlock.adapters.explainer.client import ExplainClient
from interlock.adapters.sql.events import SqlEventStore
from interlock.apps.job.explain import Explaining, Journal, Models
from interlock.apps.job.explain_server import Door
from interlock.base.errors import IntegrityError, RefusedError, UnreachableError, UsageError
from interlock.decision.contributions import Contributions
from interlock.decision.decide import Vectors
from interlock.decision.explain import Explain
from interlock.governance.options import ExplainOptions
from interlock.registry.bundle import Bundle
from interlock.settings import Settings, publish_endpoint
from interlock.trust.event import NewEvent

LIMIT_S = 30.0


class Scripted:
    """An explainer that puts the whole margin on the first input; the margin is that of the recorded score."""

    def __init__(self, world: World, bundle: Bundle) -> None:
        self.world, self.bundle = world, bundle

    def contributions(self, vectors: Vectors) -> Contributions:
        score = self.world.made[-1].score or 0.5
        values = np.zeros(vectors.shape)
        values[:, 0] = margin = np.log(score / (1 - score))
        return Contributions(0.0, values, np.full(len(vectors), margin))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def explaining(world: World, append: Callable[[NewEvent], None], **options: Any) -> Explaining:
    models = Models(world.home / "bundles", lambda bundle: Scripted(world, bundle), 1 << 30)
    return Explaining(world.home / "segments", models, append, world.clock, ExplainOptions(**options))


def ask(*decisions: str, **changes: Any) -> Explain:
    given = {"service": "fraud", "actor": "ana", "roles": ["explain"], "decisions": list(decisions), **changes}
    return Explain(**given)


def refuse(event: NewEvent) -> None:
    raise UnreachableError("the events cannot be written", "wait")


def test_nothing_is_told_that_could_not_be_recorded(world: World) -> None:
    made = world.decide()
    with pytest.raises(UnreachableError):
        explaining(world, refuse).answer(ask(made.decision_id))
    with pytest.raises(UnreachableError):
        explaining(world, refuse).answer(ask(made.decision_id, roles=[]))
    with pytest.raises(UnreachableError):
        explaining(world, refuse).decision(made.decision_id, "ana")


def test_the_role_is_asked_for_before_anything_is_looked_up(world: World) -> None:
    events: list[NewEvent] = []
    with pytest.raises(RefusedError, match="role explain"):
        explaining(world, events.append).answer(ask("01a0c450-8758-7f5b-a522-000000000000", roles=["admin"]))
    assert [event.type for event in events] == ["access.denied"]


def test_a_transaction_beyond_the_lookback_is_not_looked_for(world: World) -> None:
    made = world.decide()
    subject = explaining(world, lambda event: None, lookback_h=1.0)
    asked = ask(transactions=[made.transaction_id])
    assert made.decision_id.encode() in subject.answer(asked)
    world.clock.advance(3_601)
    with pytest.raises(UsageError, match="no recent decision"):
        subject.answer(asked)
    assert made.decision_id.encode() in subject.answer(ask(made.decision_id))


def test_the_first_reason_is_told_when_nothing_can_be_explained(world: World) -> None:
    fallback = world.decide(bundle="", score=None)
    with pytest.raises(UsageError, match="no model made this decision"):
        explaining(world, lambda event: None).answer(ask(fallback.decision_id, transactions=["t-99"]))
    altered = world.decide(decision="DECLINE")
    with pytest.raises(IntegrityError):
        explaining(world, lambda event: None).answer(ask(altered.decision_id))


def test_models_are_kept_within_their_budget_the_last_used_ones_first(tmp_path: Path, world: World) -> None:
    digests = [tiny_bundle(tmp_path / "bundles", version=f"2.0.{n}").digest for n in range(3)]
    loaded: list[str] = []

    def load(bundle: Bundle) -> Scripted:
        loaded.append(bundle.digest)
        return Scripted(world, bundle)

    one = sum(path.stat().st_size for path in (tmp_path / "bundles" / digests[0][7:]).glob("*.*"))
    models = Models(tmp_path / "bundles", load, 2 * one + one // 2)
    for n in (0, 1, 0, 2, 0, 1):
        assert models.get(digests[n])[0].digest == digests[n]
    assert loaded == [digests[n] for n in (0, 1, 2, 1)]
    assert len(models) == 2
    tight = Models(tmp_path / "bundles", load, 10)
    assert tight.get(digests[0])[0].digest == digests[0]  # answered, and not kept
    assert len(tight) == 0


class Held:
    """An answer that waits until it is let go; it notes what it began."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let_go = threading.Event()

    def __call__(self, asked: Explain) -> bytes:
        self.begun.append(asked.actor)
        assert self.let_go.wait(LIMIT_S)
        return asked.actor.encode()


@pytest.mark.process
def test_a_question_whose_client_left_before_its_turn_is_never_begun(tmp_path: Path) -> None:
    held = Held()

    async def leave() -> list[bytes]:
        door = Door(held, ExplainOptions(queue=2))
        server = await asyncio.start_unix_server(door.talk, tmp_path / "explain.sock")
        client = ExplainClient(tmp_path / "explain.sock", LIMIT_S)

        def call(actor: str) -> asyncio.Task[bytes]:
            told = client.explain("fraud", transactions=["t"], actor=actor, roles=["explain"])
            return asyncio.create_task(told)

        async def under_way(count: int) -> None:
            async with asyncio.timeout(LIMIT_S):
                while door.under_way != count:  # noqa: ASYNC110 - a number, no event
                    await asyncio.sleep(0)

        first = call("first")
        await under_way(1)
        second = call("second")
        await under_way(2)
        with pytest.raises(UnreachableError, match="busy"):
            await call("refused")
        second.cancel()
        await under_way(1)
        third = call("third")
        await under_way(2)
        held.let_go.set()
        answers = [await first, await third]
        await under_way(0)
        server.close()
        await door.close()
        return answers

    assert asyncio.run(leave()) == [b"first", b"third"]
    assert held.begun == ["first", "third"]


class Control(BaseHTTPRequestHandler):
    """A control API that takes every event, and forgets it."""

    def do_GET(self) -> None:
        self.reply(200, b"{}")

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.reply(201, json.dumps(given | {"id": 1, "time_ns": 1}).encode())

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.process
def test_an_event_is_written_though_the_control_process_has_gone_meanwhile(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    event = NewEvent(time_ns=1, type="decision.explained", actor="ana", origin="test", object="x", outcome="success")
    with contextlib.closing(Journal(settings)) as journal:
        server = HTTPServer(("127.0.0.1", 0), Control)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            publish_endpoint(tmp_path, "control", f"http://127.0.0.1:{server.server_port}")
            journal.append(event)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        journal.append(event)
    with contextlib.closing(SqlEventStore.open(settings.places.events)) as store:
        assert [each.type for each in store.after(0)] == ["decision.explained"]
