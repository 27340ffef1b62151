"""The messengers of `INTERLOCK_HOME` alone; `--die` kills the process before it records a delivery."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from interlock import settings
from interlock.apps.control.process import messengers
from interlock.privacy.redact import configure_logging
from interlock.wiring import control


class Dying:
    """A store whose first record of a delivery is the process's last moment."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, event: Any) -> Any:
        if event.type == "notification.delivered" and not event.body.get("begins"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._store.append(event)


def main() -> None:
    """Tell until a signal comes."""
    configure_logging("courier")
    current = settings.load()
    store: Any = control.event_store(current)
    found = messengers(current, Dying(store) if "--die" in sys.argv else store)
    found.start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
