"""One process of a batch: `python -m interlock.apps.job.score_worker WORK_FOLDER`.

Contract. Each line on stdin is a task `[step, unit, start]`; each line on stdout answers the one
before it: `{"facts": …}` or `{"error": {"kind", "message", "remedy"}}`. It ends when stdin does, or
with who started it. No card number and no key is on either line.
"""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from interlock.apps.job.score_units import Hand
from interlock.base.errors import InterlockError
from interlock.privacy.redact import configure_logging

_log = logging.getLogger(__name__)


def main(folder: Path) -> int:
    """Work until there is nothing more to do."""
    configure_logging("score", level=logging.WARNING)
    # Ctrl-C reaches the whole group: whoever started us decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hand: Hand | None = None
    for line in sys.stdin.buffer:
        step, number, start = msgspec.json.decode(line, type=tuple[str, int, int])
        try:
            hand = hand or Hand(folder)
            answer: dict[str, Any] = {"facts": hand.do(step, number, start)}
        except InterlockError as error:
            kind = type(error).__name__.removesuffix("Error").lower()
            answer = {"error": {"kind": kind, "message": error.message, "remedy": error.remedy}}
        except Exception as error:  # a defect: told by its type alone, in full in the log
            _log.exception("a part could not be scored")
            answer = {"error": {"kind": "defect", "message": type(error).__name__, "remedy": ""}}
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
