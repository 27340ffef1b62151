"""How the gRPC door leaves: what its clients are told, and what they lose (nothing)."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import tritonclient.grpc as triton
from h2.errors import ErrorCodes
from h2.events import PingAckReceived, SettingsAcknowledged
from tests.protocol.grpc_service import Service, body, listening, serving, vector
from tests.protocol.h2_client import INFER, Client

pytestmark = pytest.mark.process


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as made:
        yield made


def test_a_leaving_server_answers_what_is_under_way_and_what_was_on_its_way(service: Service) -> None:
    with Client(service.port) as client:
        first = client.send(INFER, body("held"))
        assert service.scoring.arrived.acquire(timeout=10)
        stopping = service.stopping()
        client.until(lambda: bool(client.goaways))
        assert client.goaways == [(2**31 - 1, 0)]
        service.release()
        assert client.status(first)[0] == "0"
        client.until_closed()
        assert client.goaways[-1] == (1, 0)
    stopping.result(10)


def test_a_connection_that_never_called_is_told_as_well(service: Service) -> None:
    with Client(service.port) as client:
        client.until(lambda: bool(client.of(SettingsAcknowledged)))
        stopping = service.stopping()
        client.until_closed()
        assert client.goaways == [(2**31 - 1, 0), (0, 0)]
    stopping.result(10)


def test_a_call_that_crosses_the_first_goaway_is_answered(service: Service) -> None:
    with Client(service.port) as client:
        assert client.status(client.send(INFER, body()))[0] == "0"
        stopping = service.stopping()
        while service.door.connections and not service.door._shared.leaving:
            pass
        late = client.send(INFER, body())  # the GOAWAY is in the socket, unread
        assert client.status(late)[0] == "0"
        client.until_closed()
        assert client.goaways == [(2**31 - 1, 0), (late, 0)]
    stopping.result(10)


def test_a_call_after_the_last_goaway_is_refused_as_not_processed(service: Service) -> None:
    with Client(service.port) as client:
        held = client.send(INFER, body("held"))
        assert service.scoring.arrived.acquire(timeout=10)
        stopping = service.stopping()
        client.until(lambda: len(client.goaways) == 2)
        late = client.send(INFER, body())
        client.until(lambda: bool(client.resets(late)))
        assert client.resets(late) == [ErrorCodes.REFUSED_STREAM]
        service.release()
        assert client.status(held)[0] == "0"
    stopping.result(10)
    assert len(service.scoring.asked) == 1


def test_what_is_not_answered_when_time_is_up_is_told_so(service: Service) -> None:
    with Client(service.port) as client:
        held = client.send(INFER, body("held"))
        assert service.scoring.arrived.acquire(timeout=10)
        stopping = service.stopping(0.2)
        assert client.status(held)[0] == "14"
        client.until_closed()
    stopping.result(10)


def test_a_client_that_says_goodbye_first_still_gets_its_answers(service: Service) -> None:
    with Client(service.port) as client:
        held = client.send(INFER, body("held"))
        assert service.scoring.arrived.acquire(timeout=10)
        client.socket.sendall(b"\0\0\x08\x07\0\0\0\0\0" + bytes(8))  # GOAWAY, no error
        client.h2.ping(b"thereyet")
        client.flush()
        client.until(lambda: bool(client.of(PingAckReceived)))
        service.release()
        assert client.status(held)[0] == "0"
        client.until_closed()


class Load:
    """Calls from several threads, each on a channel of its own, with nothing retried by us."""

    def __init__(self, address: str, threads: int = 4) -> None:
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.answered = threading.Semaphore(0)
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join(30)

    def more(self, calls: int) -> None:
        """Wait until so many further calls were answered."""
        while self.answered.acquire(blocking=False):
            pass
        for _ in range(calls):
            assert self.answered.acquire(timeout=30), self.failures

    def _run(self) -> None:
        with triton.InferenceServerClient(self._address) as client:
            while not self._stop.is_set():
                try:
                    assert client.infer("fraud", [vector()]).as_numpy("score")[0] == 3.0
                    self.answered.release()
                except Exception as error:
                    self.failures.append(str(error))


def worker(descriptor: int) -> subprocess.Popen[bytes]:
    """A process that serves the listener."""
    command = [sys.executable, "-m", "tests.protocol.grpc_service", str(descriptor)]
    made = subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE)
    assert made.stdout is not None
    assert made.stdout.readline() == b"ready\n"
    return made


def test_replacing_a_process_under_load_loses_no_call() -> None:
    listener = listening()
    workers = [worker(listener.fileno()), worker(listener.fileno())]
    port = listener.getsockname()[1]
    try:
        with Load(f"127.0.0.1:{port}") as load:
            for _ in range(3):
                load.more(100)
                workers.append(worker(listener.fileno()))
                oldest = workers.pop(0)
                oldest.terminate()
                assert oldest.wait(20) == 0
            load.more(100)
        assert load.failures == []
    finally:
        for each in workers:
            each.kill()
            each.wait(10)
        listener.close()
