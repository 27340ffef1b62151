"""Nothing that leaves a process as text may hold a card number: logs, tracebacks, error replies.

`configure_logging` MUST be the first thing a process does. From then on every record that
reaches the root handler, from our loggers or anybody's, passes `Redaction`, and an uncaught
exception (main thread, other threads, finalisers) is logged through the same handler. What is
withheld is replaced, never shortened: `[card number withheld]`, `[withheld]` for the value of a
card code, PIN or track.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import IO, Any

from interlock.privacy import pan

CARD = "[card number withheld]"
WITHHELD = "[withheld]"

_SENSITIVE = re.compile(
    r"(?i)(?<![a-z0-9])((?:card[ _-]?)?(?:"
    + "|".join(sorted(pan.SENSITIVE, key=len, reverse=True))
    + r")[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,}\])]+)"
)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """`text` without card numbers (scan of `privacy.pan`) and without values of sensitive fields."""
    text = _SENSITIVE.sub(rf"\g<1>{WITHHELD}", text)
    spans = pan.find(text)
    if not spans:
        return text
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], CARD]
        at = end
    return "".join([*pieces, text[at:]])


def redact_value(value: Any) -> Any:
    """`value` (JSON-like) redacted through and through; an integer that is a card number too."""
    if isinstance(value, dict):
        return {redact(str(key)): _field(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in value]
    if value is None or isinstance(value, bool | float):
        return value
    cleaned = redact(str(value))
    return value if isinstance(value, int) and cleaned == str(value) else cleaned


def _field(name: str, value: Any) -> Any:
    plain = "".join(filter(str.isalnum, name)).lower()
    return WITHHELD if plain in pan.SENSITIVE else redact_value(value)


class Redaction(logging.Filter):
    """Rewrites a record in place, so that every formatter and handler after it is safe."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact message, traceback, stack and extra fields; always lets the record pass."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
            record.exc_info = None
        elif record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name in record.__dict__.keys() - _STANDARD:
            record.__dict__[name] = _field(name, record.__dict__[name])
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, process, message, then the record's extra fields."""

    converter = staticmethod(time.gmtime)

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        from_record = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": record.getMessage(),
        }
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_text:
            extra["exception"] = record.exc_text
        return json.dumps({**from_record, **extra}, ensure_ascii=False, default=str)


def configure_logging(process: str, stream: IO[str] | None = None, level: int = logging.INFO) -> None:
    """Send every record of this process, redacted, to `stream` as JSON lines.

    Args:
        process: the name that each line carries.
        stream: where to; None: stderr, which the platform writes to run/<process>.log.
        level: the least severe level that is written.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(Redaction())
    handler.setFormatter(JsonFormatter(process))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    install_exception_hooks()


def install_exception_hooks() -> None:
    """Log uncaught exceptions, redacted, instead of letting Python print them."""
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def print_exception_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception hook for a terminal: Python's traceback on stderr, redacted."""
    del kind, trace
    sys.stderr.write(redact("".join(traceback.format_exception(error))))


_LOG = logging.getLogger("interlock")


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _LOG.critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or issubclass(arguments.exc_type, SystemExit):
        return
    name = arguments.thread.name if arguments.thread else "unknown"
    _LOG.critical(
        "uncaught exception in thread %s",
        name,
        exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback),
    )


def _unraisable(arguments: sys.UnraisableHookArgs) -> None:
    if arguments.exc_value is not None:
        _LOG.error(
            "exception in a finaliser", exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
        )
