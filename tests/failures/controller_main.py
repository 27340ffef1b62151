"""A control process that kills itself, with SIGKILL, before or after its n-th effect.

`python -m tests.failures.controller_main N before|after`; N of -1 never does. An effect is a call
of the scorers or of the release repository that changes something. Each is written to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from interlock import settings
from interlock.apps.control.process import run
from interlock.privacy.redact import configure_logging

EFFECTS = frozenset({"load", "install", "unload", "retreat", "revert"})


class Killed:
    """A port that dies around one of its calls."""

    numbers = iter(range(1_000_000))
    lock = threading.Lock()

    def __init__(self, port: Any, at: int, after: bool) -> None:
        self._port = port
        self._at = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name not in EFFECTS:
            return method

        def call(*arguments: Any) -> Any:
            with self.lock:
                number = next(self.numbers)
            sys.stderr.write(f"effect {number} {name}\n")
            sys.stderr.flush()
            if number == self._at and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*arguments)
            if number == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def main() -> None:
    """Run the control process of `INTERLOCK_HOME`."""
    at, after = int(sys.argv[1]), sys.argv[2] == "after"
    configure_logging("control")
    run(settings.load(), lambda name, port: port if name == "store" else Killed(port, at, after))


if __name__ == "__main__":
    main()
