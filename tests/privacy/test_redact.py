from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.privacy.redact import CARD, WITHHELD, configure_logging, redact, redact_value

NUMBER = "5555555555554444"


@pytest.fixture
def logs() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook
    stream = io.StringIO()
    configure_logging("test", stream)
    yield stream
    root.handlers[:], level, sys.excepthook, threading.excepthook, sys.unraisablehook = before
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@given(st.text("ab .,\n\"'{}=", max_size=12), st.text("ab .,\n\"'{}=", max_size=12))
def test_a_number_is_found_nowhere_after_redaction(before: str, after: str) -> None:
    text = f"{before}:{NUMBER}:{after} 5555-5555 5555 4444"
    cleaned = redact(text)
    assert NUMBER not in cleaned
    assert "4444" not in cleaned
    assert cleaned.count(CARD) == 2
    assert redact(cleaned) == cleaned


@pytest.mark.parametrize(
    "text", ["cvv=123", '{"cvv": "123"}', "CVC2: 123", "'pin': '1123'", "card_cvv = 123", "track2=;123?"]
)
def test_the_value_of_a_sensitive_field_is_withheld(text: str) -> None:
    assert "123" not in redact(text)
    assert WITHHELD in redact(text)


def test_ordinary_text_is_left_alone() -> None:
    text = "spin=12 at 2026-11-24T08:41:15.123456Z id 0190163d-8694-739b-aea5-966c26f8ad91 amount 1200 EUR"
    assert redact(text) == text


def test_values_are_redacted_through_and_through() -> None:
    found = redact_value({"a": [int(NUMBER), {"b": f"x {NUMBER}"}], "cvv": 1, NUMBER: None, "n": 12, "f": 0.5})
    assert found == {"a": [CARD, {"b": f"x {CARD}"}], "cvv": WITHHELD, CARD: None, "n": 12, "f": 0.5}


def test_every_log_line_is_json_and_redacted(logs: io.StringIO) -> None:
    logging.getLogger("any.library").warning("bad value %s of %d", NUMBER, int(NUMBER), extra={"value": [NUMBER]})
    (line,) = lines(logs)
    assert line["message"] == f"bad value {CARD} of {CARD}"
    assert line["value"] == [CARD]
    assert (line["level"], line["logger"], line["process"]) == ("warning", "any.library", "test")
    assert str(line["time"]).endswith("Z")


def test_a_logged_exception_is_redacted(logs: io.StringIO) -> None:
    try:
        raise ValueError(NUMBER)
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines(logs)
    assert "ValueError" in str(line["exception"])
    assert NUMBER not in logs.getvalue()


def test_an_exception_in_a_thread_is_redacted(logs: io.StringIO) -> None:
    def work() -> None:
        raise ValueError(NUMBER)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "uncaught exception in thread" in str(lines(logs)[0]["message"])
    assert NUMBER not in logs.getvalue()


@pytest.mark.process
def test_an_uncaught_exception_of_a_process_is_redacted() -> None:
    code = (
        "from interlock.privacy.redact import configure_logging\nconfigure_logging('p')\n"
        f"class X:\n    def __del__(self): raise ValueError('{NUMBER}')\nx = X()\ndel x\n"
        f"cause = ValueError({NUMBER})\nraise RuntimeError('{NUMBER}') from cause"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError" in done.stderr
    assert "finaliser" in done.stderr
    # The traceback shows no source lines for code handed in by -c, so the number stands nowhere.
    assert NUMBER not in done.stderr
