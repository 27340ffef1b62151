"""Workers are replaced on purpose (an upgrade), and clients see nothing of it: modes 9, 10 and 11 of the field.

The capacity never falls below what was there, what is in flight is answered by the worker that has
it, and a kept-alive connection goes on with the successor.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.failures.load import Load, transaction
from tests.failures.scorer_home import ScorerHome, get, predict, scorer_home, until

from interlock.base.canonical import digest_hex
from interlock.base.errors import RefusedError
from interlock.serving.options import ServingOptions


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScorerHome]:
    with scorer_home(tmp_path_factory.mktemp("home"), drain_s=5.0) as made:
        made.settle()
        yield made


def lasting(home: ScorerHome) -> http.client.HTTPConnection:
    """A connection that has served one request, and is not opened again behind our back."""
    connection = home.connection()
    assert get(connection, "/v2/health/live")[0] == 200
    connection.auto_open = 0
    return connection


def plain(home: ScorerHome) -> socket.socket:
    """A connection without a client's help."""
    host, _, port = home.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def request(name: str) -> bytes:
    """A predict request's bytes."""
    body = json.dumps({"instances": [transaction(name, 4)]}).encode()
    return b"POST /v1/models/fraud:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def answered(connection: socket.socket) -> str:
    """The transaction that the next response is about; it must not announce an end."""
    data = b""
    while (split := data.partition(b"\r\n\r\n"))[1] == b"":
        data += connection.recv(1)
    assert data.startswith(b"HTTP/1.1 200 "), data
    assert b"connection: close" not in data
    length = int(split[0].partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = connection.recv(length, socket.MSG_WAITALL)
    return str(json.loads(body)["predictions"][0]["transaction_id"])


@pytest.mark.timeout(300)
def test_twenty_replacements_under_load_fail_nobody(home: ScorerHome) -> None:
    seen = set(home.workers())
    with Load(home.url, rate=200, threads=6, anew=4) as load:
        load.flows()
        for _ in range(10):
            home.client.replace()
            assert home.client.status().workers == 2
            seen |= set(home.workers())
        load.flows()
    assert load.failures == []
    assert len(seen) == 22


def test_idle_connections_outlive_every_worker_there_was(home: ScorerHome) -> None:
    idle = [lasting(home) for _ in range(12)]
    before = set(home.workers())
    home.client.replace()
    assert not before & set(home.workers())
    for number, connection in enumerate(idle):
        status, body = predict(connection, [transaction(f"idle-{number}", 3)])
        assert status == 200, body
        connection.close()


def test_a_kept_connection_is_idle_for_longer_than_a_proxy_keeps_it() -> None:
    assert ServingOptions().idle_timeout_s > 65, "the side that opened the connection should be the one that ends it"


def test_what_is_half_sent_or_pipelined_is_answered_by_the_leaver_and_the_connection_goes_on(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=1, drain_s=20.0, body_timeout_s=60.0) as home, ThreadPoolExecutor(1) as pool:
        home.settle()
        half, piped = plain(home), plain(home)
        whole = request("half")
        half.sendall(whole[:-40])
        piped.sendall(request("first") + request("second") + request("third")[:30])
        assert [answered(piped), answered(piped)] == ["first", "second"]
        (before,) = home.workers()
        replacing = pool.submit(home.client.replace)
        until(lambda: "handing over" in home.log(), "the worker begins to leave")
        half.sendall(whole[-40:])
        piped.sendall(request("third")[30:] + request("fourth"))
        assert [answered(half), answered(piped), answered(piped)] == ["half", "third", "fourth"]
        replacing.result()
        assert before not in home.workers()
        for connection in (half, piped):
            connection.sendall(request(f"after-{connection.fileno()}"))
            assert answered(connection) == f"after-{connection.fileno()}"
            connection.close()


def test_a_named_worker_alone_is_replaced_and_an_unknown_one_refused(home: ScorerHome) -> None:
    before = set(home.workers())
    name = home.client.observe().counts[0].worker
    home.client.replace(name)
    assert len(before & set(home.workers())) == 1
    with pytest.raises(RefusedError, match="no such worker"):
        home.client.replace(name)


def test_sighup_replaces_all_workers(home: ScorerHome) -> None:
    before = set(home.workers())
    assert home.process is not None
    with Load(home.url, rate=100) as load:
        home.process.send_signal(signal.SIGHUP)
        until(lambda: not before & set(home.workers()) and len(home.workers()) == 2, "both are new")
        load.flows()
    assert load.failures == []


def test_a_successor_that_dies_is_started_again_and_nobody_notices(home: ScorerHome) -> None:
    before = set(home.workers())
    with Load(home.url, rate=100) as load, ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(home.client.replace)
        first = until(lambda: set(home.workers()) - before, "a successor starts")
        os.kill(first.pop(), signal.SIGKILL)
        replacing.result()
        load.flows()
    assert load.failures == []
    assert not before & set(home.workers())
    assert home.client.status().workers == 2


def test_no_worker_leaves_while_its_successor_cannot_serve(home: ScorerHome, tmp_path: Path) -> None:
    (bundle,) = home.state().loaded
    model = home.places.bundles / digest_hex(bundle) / "model.onnx"
    away = tmp_path / "model.onnx"
    model.rename(away)
    before = set(home.workers())
    with Load(home.url, rate=100) as load, ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(home.client.replace)
        try:
            until(lambda: "cannot be made ready" in home.log(), "a successor is refused")
            load.flows()
            assert before <= set(home.workers())
        finally:
            away.rename(model)
        replacing.result()
    assert load.failures == []
    assert not before & set(home.workers())
