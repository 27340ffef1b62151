"""The freeze calendar, `policy/freeze.yaml`: when no rollout may start.

Going back is never frozen. Times are RFC 3339 in UTC (`2026-11-27T00:00:00Z`), the end excluded.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from interlock.base import strict_yaml
from interlock.base.errors import RefusedError
from interlock.base.strict_yaml import YamlError
from interlock.rollout.spec import API


class Window(msgspec.Struct, frozen=True):
    """One frozen period."""

    start_ns: int
    end_ns: int
    reason: str


def parse(text: str, source: str = "policy/freeze.yaml") -> tuple[Window, ...]:
    """The windows of a calendar.

    Raises:
        YamlError: with line and remedy.
    """
    top = strict_yaml.load(text, source)
    if not isinstance(top, strict_yaml.Mapping) or top.get("apiVersion") != API or top.get("kind") != "FreezeCalendar":
        raise YamlError(source, 1, "not a FreezeCalendar", f"write apiVersion: {API} and kind: FreezeCalendar")
    spec = top.get("spec")
    rows = spec.get("windows") if isinstance(spec, strict_yaml.Mapping) else None
    if not isinstance(rows, list):
        raise YamlError(source, top.lines.get("spec", 1), "no spec.windows", "write `windows: []` or a list")
    return tuple(_window(row, source) for row in rows)


def refuse_if_frozen(windows: tuple[Window, ...], now_ns: int) -> None:
    """Raise while a window is open.

    Raises:
        RefusedError: with the window's reason.
    """
    for window in windows:
        if window.start_ns <= now_ns < window.end_ns:
            raise RefusedError(f"releases are frozen: {window.reason}", "merge again after the freeze")


def _window(row: object, source: str) -> Window:
    if not isinstance(row, strict_yaml.Mapping) or set(row) != {"from", "until", "reason"}:
        line = row.line if isinstance(row, strict_yaml.Mapping) else 1
        raise YamlError(source, line, "a window needs from, until and reason", "write exactly these three")
    start, end = (_instant(row, key, source) for key in ("from", "until"))
    if end <= start:
        raise YamlError(source, row.lines["until"], "a window ends before it begins", "exchange the two")
    return Window(start, end, str(row["reason"])[:200])


def _instant(row: strict_yaml.Mapping, key: str, source: str) -> int:
    try:
        return int(datetime.strptime(str(row[key]), "%Y-%m-%dT%H:%M:%S%z").timestamp()) * 1_000_000_000
    except ValueError as error:
        raise YamlError(source, row.lines[key], "not an RFC 3339 time", "write 2026-11-27T00:00:00Z") from error
