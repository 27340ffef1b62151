"""The freeze calendar, `policy/freeze.yaml`: when no rollout may start, and none may take a larger share.

A window is one period (`from`, `until`: RFC 3339 with an offset), or it comes back: `weekly`
(`{from: fri 16:00, until: mon 08:00}`), `daily` (`{from: "22:00", until: "06:00"}`) or `monthly`
(`{from: -2, until: 1}`: whole days, negative ones counted from the month's end), in the local time
of its `zone` (default UTC). Ends are excluded. `environments` and `services` narrow it; left out,
it holds for all. Local times that a change of clocks skips or repeats are read so that a freeze
begins no later and ends no earlier than written. Going back is never frozen. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from interlock.base import strict_yaml
from interlock.base.clock import NS_PER_S
from interlock.base.errors import RefusedError
from interlock.base.strict_yaml import YamlError
from interlock.rollout.spec import API, Spec

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86_400
_MINUTES_A_WEEK = 7 * 24 * 60
_CLOCK = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")
_WEEK_TIME = re.compile(rf"({'|'.join(DAYS)}) (.+)")
_REPEATS = ("weekly", "daily", "monthly")


class Repeat(msgspec.Struct, frozen=True):
    """How a window comes back, in local time.

    Attributes:
        every: `weekly`, `daily` or `monthly`.
        first, last: minutes since Monday 00:00, or since midnight; monthly: days of the month, both
            included, negative ones from its end.
        zone: IANA name of the time zone.
    """

    every: str
    first: int
    last: int
    zone: str = "UTC"


class Window(msgspec.Struct, frozen=True):
    """One frozen period, or one that comes back.

    Attributes:
        start_ns, end_ns: wall time; both 0 with `repeat`.
        reason: shown to whoever is held by it.
        environments, services: where it holds; empty: everywhere.
        repeat: how it comes back.
    """

    start_ns: int
    end_ns: int
    reason: str
    environments: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    repeat: Repeat | None = None

    def concerns(self, environment: str, service: str) -> bool:
        """Whether it holds for a service in an environment."""
        return (not self.environments or environment in self.environments) and (
            not self.services or service in self.services
        )


class Span(msgspec.Struct, frozen=True, order=True):
    """A window as it falls once; wall time, nanoseconds, the end excluded."""

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
    return tuple(_window(Spec(row, source, 1, f"windows[{number}]")) for number, row in enumerate(rows))


def frozen(windows: Iterable[Window], environment: str, service: str, now_ns: int) -> str:
    """Why a service may not change in an environment now, and until when; empty: it may."""
    open_now = [
        span
        for window in windows
        if window.concerns(environment, service)
        for span in _falls(window, now_ns, now_ns)
        if span.start_ns <= now_ns < span.end_ns
    ]
    if not open_now:
        return ""
    last = max(open_now, key=lambda span: span.end_ns)
    return f"{last.reason}, until {_text(last.end_ns)}"


def refuse_if_frozen(windows: Iterable[Window], environment: str, service: str, now_ns: int) -> None:
    """Raise while a window is open.

    Raises:
        RefusedError: with the window's reason.
    """
    if reason := frozen(windows, environment, service, now_ns):
        raise RefusedError(f"releases are frozen: {reason}", "merge again after the freeze")


def upcoming(
    windows: Sequence[Window], environment: str, service: str, now_ns: int, days: float = 14.0
) -> tuple[Span, ...]:
    """What is frozen now and within the next `days`, earliest first."""
    until_ns = now_ns + round(days * DAY_S * NS_PER_S)
    found = {
        span
        for window in windows
        if window.concerns(environment, service)
        for span in _falls(window, now_ns, until_ns)
        if span.end_ns > now_ns and span.start_ns < until_ns
    }
    return tuple(sorted(found))


def _falls(window: Window, since_ns: int, until_ns: int) -> Iterator[Span]:
    """Where a window falls, at least everywhere between two instants."""
    repeat = window.repeat
    if repeat is None:
        yield Span(window.start_ns, window.end_ns, window.reason)
        return
    zone = _zone(repeat.zone)
    day = datetime.fromtimestamp(since_ns // NS_PER_S, zone).date() - timedelta(days=32)
    last = datetime.fromtimestamp(until_ns // NS_PER_S, zone).date() + timedelta(days=1)
    while day <= last:
        local = _BEGINS[repeat.every](repeat, day)
        if local is not None:
            yield Span(_instant(local[0], zone, min), _instant(local[1], zone, max), window.reason)
        day += timedelta(days=1)


def _daily(repeat: Repeat, day: date) -> tuple[datetime, datetime]:
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local, placed in its zone by _instant
    length = (repeat.last - repeat.first) % (24 * 60) or 24 * 60
    begin = midnight + timedelta(minutes=repeat.first)
    return begin, begin + timedelta(minutes=length)


def _weekly(repeat: Repeat, day: date) -> tuple[datetime, datetime] | None:
    if day.weekday() != repeat.first // (24 * 60):
        return None
    begin = datetime(day.year, day.month, day.day) + timedelta(minutes=repeat.first % (24 * 60))  # noqa: DTZ001
    return begin, begin + timedelta(minutes=(repeat.last - repeat.first) % _MINUTES_A_WEEK or _MINUTES_A_WEEK)


def _monthly(repeat: Repeat, day: date) -> tuple[datetime, datetime] | None:
    """One day at a time: days of the month that follow each other join by themselves."""
    size = ((day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day
    first, last = (each if each > 0 else max(1, size + 1 + each) for each in (repeat.first, repeat.last))
    inside = first <= day.day <= last if first <= last else day.day >= first or day.day <= last
    begin = datetime(day.year, day.month, day.day)  # noqa: DTZ001
    return (begin, begin + timedelta(days=1)) if inside else None


_BEGINS = {"daily": _daily, "weekly": _weekly, "monthly": _monthly}


def _instant(local: datetime, zone: tzinfo, choose: Callable[[Iterable[float]], float]) -> int:
    both = (local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    return int(choose(both)) * NS_PER_S


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _text(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _window(row: Spec) -> Window:
    kinds = [key for key in ("from", *_REPEATS) if key in row.body]
    if len(kinds) != 1:
        raise row.wrong("from", "not exactly one of from, weekly, daily, monthly", "write from and until, or a repeat")
    narrowed = ("environments", "services")
    if kinds == ["from"]:
        row.take(required=("from", "until", "reason"), optional=narrowed)
        start, end, repeat = _moment(row, "from"), _moment(row, "until"), None
        if end <= start:
            raise row.wrong("until", "the window ends before it begins", "exchange the two")
    else:
        row.take(required=(kinds[0], "reason"), optional=("zone", *narrowed))
        start, end, repeat = 0, 0, _repeat(row, kinds[0])
    environments, services = (_names(row, key) for key in narrowed)
    return Window(start, end, row.string("reason")[:200], environments, services, repeat)


def _repeat(row: Spec, every: str) -> Repeat:
    inner = row.inner(every)
    inner.take(required=("from", "until"))
    read = {"weekly": _week_minutes, "daily": _day_minutes, "monthly": _month_day}[every]
    first, last = read(inner, "from"), read(inner, "until")
    zone = row.string("zone") if "zone" in row.body else "UTC"
    try:
        _zone(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise row.wrong("zone", "not a known time zone", "write an IANA name, such as Europe/Zurich") from error
    return Repeat(every, first, last, zone)


def _week_minutes(inner: Spec, key: str) -> int:
    found = _WEEK_TIME.fullmatch(inner.string(key))
    minutes = _minutes(found[2]) if found else None
    if found is None or minutes is None:
        raise inner.wrong(key, "not a day and a time", "write a day and HH:MM, such as fri 16:00")
    return (DAYS.index(found[1]) * 24 * 60 + minutes) % _MINUTES_A_WEEK


def _day_minutes(inner: Spec, key: str) -> int:
    minutes = _minutes(inner.string(key))
    if minutes is None:
        raise inner.wrong(key, "not a time", 'write "HH:MM" in quotes, such as "22:00"')
    return minutes % (24 * 60)


def _month_day(inner: Spec, key: str) -> int:
    value = inner.body[key]
    if isinstance(value, bool) or not isinstance(value, int) or not (1 <= value <= 31 or -31 <= value <= -1):
        raise inner.wrong(key, "not a day of the month", "write 1 to 31, or -1 for the last day")
    return value


def _minutes(text: str) -> int | None:
    found = _CLOCK.fullmatch(text)
    minutes = int(found[1]) * 60 + int(found[2]) if found else 24 * 60 + 1
    return minutes if minutes <= 24 * 60 else None


def _names(row: Spec, key: str) -> tuple[str, ...]:
    value = row.body.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise row.wrong(key, "not a list of names", "leave it out, or name at least one")
    return tuple(value)


def _moment(row: Spec, key: str) -> int:
    try:
        return int(datetime.strptime(str(row.body[key]), "%Y-%m-%dT%H:%M:%S%z").timestamp()) * NS_PER_S
    except ValueError as error:
        raise row.wrong(key, "not an RFC 3339 time", "write 2026-11-27T00:00:00Z") from error
