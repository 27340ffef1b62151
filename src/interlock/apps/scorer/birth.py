"""What a worker is born with: its name, and the descriptors that its supervisor passes by exec."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Inherited:
    """The sockets a worker is born with; none of them blocks.

    Attributes:
        listener: shared with all workers.
        control: the conversation with the supervisor.
        grpc: likewise, of the gRPC door; None: there is none.
        line: gives connections to whoever replaces this worker.
        estate: takes those of the worker that this one replaces, if it replaces one.
    """

    listener: socket.socket
    control: socket.socket
    line: socket.socket
    grpc: socket.socket | None = None
    estate: socket.socket | None = None


def born() -> tuple[str, Inherited, int]:
    """This process's name, its sockets, and the fence's descriptor.

    Raises:
        SystemExit: the supervisor that started it is gone already.
    """
    parser = argparse.ArgumentParser(prog="interlock.apps.scorer.worker")
    for name in ("listener", "control", "line", "fence", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--grpc", type=int)
    parser.add_argument("--estate", type=int)
    parser.add_argument("--name", required=True)
    given = parser.parse_args()
    if sys.platform == "linux":
        # A supervisor that was killed cannot close our control socket in time for a stuck loop to notice.
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != given.parent:
            raise SystemExit(0)
    perhaps = [None if each is None else _socket(each) for each in (given.grpc, given.estate)]
    sockets = Inherited(_socket(given.listener), _socket(given.control), _socket(given.line), *perhaps)
    return given.name, sockets, given.fence


def _socket(descriptor: int) -> socket.socket:
    made = socket.socket(fileno=descriptor)
    made.setblocking(False)
    return made
