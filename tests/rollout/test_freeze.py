"""No rollout starts, and none takes a larger share, while the calendar says so."""

from __future__ import annotations

from datetime import datetime

import pytest

from interlock.base.errors import RefusedError
from interlock.base.strict_yaml import YamlError
from interlock.rollout.freeze import Window, frozen, parse, refuse_if_frozen, upcoming
from interlock.rollout.propose import scaffold

CALENDAR = """apiVersion: interlock.dev/v1alpha1
kind: FreezeCalendar
metadata: {name: production}
spec:
  windows:
    - {from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z", reason: Black Friday}
"""
START_NS = 1_795_737_600 * 10**9
WEEKEND = "weekly: {from: fri 16:00, until: mon 08:00}, zone: Europe/Zurich"


def windows(*rows: str) -> tuple[Window, ...]:
    head, _, _ = CALENDAR.partition("    - ")
    return parse(head + "".join(f"    - {{{row}, reason: it is so}}\n" for row in rows))


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 10**9


def closed(row: str, at: str, environment: str = "production", service: str = "fraud") -> bool:
    return frozen(windows(row), environment, service, ns(at)) != ""


def test_only_the_window_refuses_its_end_excluded() -> None:
    calendar = parse(CALENDAR)
    assert calendar[0].start_ns == START_NS
    refuse_if_frozen(calendar, "production", "fraud", START_NS - 1)
    with pytest.raises(RefusedError, match="Black Friday, until 2026-11-28T00:00:00Z"):
        refuse_if_frozen(calendar, "production", "fraud", START_NS)
    refuse_if_frozen(calendar, "production", "fraud", START_NS + 86_400 * 10**9)


def test_the_scaffolded_calendar_freezes_nothing() -> None:
    assert parse(scaffold(b"{}", b"", "r")["policy/freeze.yaml"].decode()) == ()


def test_a_window_may_hold_for_some_environments_and_services_alone() -> None:
    row = 'from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z", environments: [production], services: [fraud]'
    at = "2026-11-27T12:00:00+00:00"
    assert closed(row, at)
    assert not closed(row, at, environment="staging")
    assert not closed(row, at, service="loans")


@pytest.mark.parametrize(
    ("row", "at", "expected"),
    [
        pytest.param(WEEKEND, "2026-11-20T15:59:59+01:00", False, id="friday-before-four"),
        pytest.param(WEEKEND, "2026-11-20T16:00:00+01:00", True, id="friday-at-four"),
        pytest.param(WEEKEND, "2026-11-22T12:00:00+01:00", True, id="sunday"),
        pytest.param(WEEKEND, "2026-11-23T07:59:59+01:00", True, id="monday-before-eight"),
        pytest.param(WEEKEND, "2026-11-23T08:00:00+01:00", False, id="monday-at-eight"),
        pytest.param(WEEKEND, "2026-07-03T14:30:00+00:00", True, id="summer-time-is-local-time"),
        pytest.param(WEEKEND, "2026-12-04T14:30:00+00:00", False, id="winter-time-is-local-time"),
        pytest.param('daily: {from: "22:00", until: "06:00"}', "2026-11-20T05:59:59+00:00", True, id="past-midnight"),
        pytest.param('daily: {from: "22:00", until: "06:00"}', "2026-11-20T06:00:00+00:00", False, id="morning"),
        pytest.param('daily: {from: "12:00", until: "24:00"}', "2026-11-20T23:59:59+00:00", True, id="till-midnight"),
        pytest.param('daily: {from: "12:00", until: "24:00"}', "2026-11-21T00:00:00+00:00", False, id="at-midnight"),
        pytest.param("monthly: {from: -2, until: 1}", "2026-02-27T00:00:00+00:00", True, id="second-last-day"),
        pytest.param("monthly: {from: -2, until: 1}", "2026-02-26T23:59:59+00:00", False, id="before-the-month-end"),
        pytest.param("monthly: {from: -2, until: 1}", "2028-02-27T12:00:00+00:00", False, id="a-leap-year"),
        pytest.param("monthly: {from: -2, until: 1}", "2026-03-01T23:59:59+00:00", True, id="first-day"),
        pytest.param("monthly: {from: -2, until: 1}", "2026-03-02T00:00:00+00:00", False, id="second-day"),
        pytest.param("monthly: {from: 30, until: 31}", "2026-02-28T12:00:00+00:00", False, id="no-such-day"),
    ],
)
def test_windows_come_back_in_local_time(row: str, at: str, expected: bool) -> None:
    assert closed(row, at) is expected


@pytest.mark.parametrize(
    ("row", "at", "expected"),
    [
        # 2026-03-29 in Zurich: 02:00+01:00 is followed by 03:00+02:00; 2026-10-25: 03:00+02:00 by 02:00+01:00.
        pytest.param('"02:30", until: "05:00"', "2026-03-29T01:00:00+00:00", True, id="a-skipped-begin-is-not-late"),
        pytest.param('"02:30", until: "05:00"', "2026-03-29T02:59:59+00:00", True, id="spring-end-by-the-clock"),
        pytest.param('"02:30", until: "05:00"', "2026-03-29T03:00:00+00:00", False, id="spring-after-the-end"),
        pytest.param('"00:00", until: "02:30"', "2026-03-29T01:29:59+00:00", True, id="a-skipped-end-is-not-early"),
        pytest.param('"00:00", until: "02:30"', "2026-03-29T01:30:00+00:00", False, id="a-skipped-end-ends"),
        pytest.param('"02:30", until: "05:00"', "2026-10-25T00:30:00+00:00", True, id="a-repeated-begin-is-the-first"),
        pytest.param('"02:30", until: "05:00"', "2026-10-25T00:29:59+00:00", False, id="before-the-repeated-begin"),
        pytest.param('"00:00", until: "02:30"', "2026-10-25T01:29:59+00:00", True, id="a-repeated-end-is-the-second"),
        pytest.param('"00:00", until: "02:30"', "2026-10-25T01:30:00+00:00", False, id="after-the-repeated-end"),
    ],
)
def test_a_change_of_clocks_makes_no_freeze_shorter(row: str, at: str, expected: bool) -> None:
    assert closed(f"daily: {{from: {row}}}, zone: Europe/Zurich", at) is expected


def test_a_day_without_midnight_is_whole() -> None:
    """In Cairo 2026-04-24 begins at 01:00, since the clocks are changed at midnight."""
    row = "monthly: {from: 24, until: 24}, zone: Africa/Cairo"
    assert closed(row, "2026-04-23T22:00:00+00:00")
    assert closed(row, "2026-04-24T20:59:59+00:00")
    assert not closed(row, "2026-04-24T21:00:00+00:00")


def test_a_window_of_a_whole_week_is_never_open_to_releases() -> None:
    row = "weekly: {from: mon 00:00, until: mon 00:00}"
    assert all(closed(row, f"2026-11-{day:02d}T00:00:00+00:00") for day in range(1, 15))


def test_what_is_frozen_now_and_soon_is_told_in_order() -> None:
    both = windows(WEEKEND, 'from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z"')
    found = upcoming(both, "production", "fraud", ns("2026-11-22T12:00:00+00:00"), days=6)
    assert [(each.start_ns, each.end_ns) for each in found] == [
        (ns("2026-11-20T16:00:00+01:00"), ns("2026-11-23T08:00:00+01:00")),
        (START_NS, START_NS + 86_400 * 10**9),
        (ns("2026-11-27T16:00:00+01:00"), ns("2026-11-30T08:00:00+01:00")),
    ]
    assert upcoming(both, "production", "fraud", ns("2026-11-24T12:00:00+00:00"), days=1) == ()


def test_of_windows_that_overlap_the_one_that_ends_last_is_told() -> None:
    both = windows(WEEKEND, 'from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z"')
    assert "until 2026-11-30T07:00:00Z" in frozen(both, "production", "fraud", ns("2026-11-27T16:00:00+00:00"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("FreezeCalendar", "Calendar", "not a FreezeCalendar", id="kind"),
        pytest.param("windows", "windoze", "no spec.windows", id="no-windows"),
        pytest.param(", reason: Black Friday", "", "reason: missing", id="no-reason"),
        pytest.param("2026-11-28T00", "2026-11-26T00", "ends before", id="exchanged"),
        pytest.param("2026-11-28T00:00:00Z", "tomorrow", "RFC 3339", id="not-a-time"),
        pytest.param("{from", "{zone: UTC, from", "unknown key", id="zone-of-an-instant"),
        pytest.param("{from", "{daily: {}, from", "exactly one of", id="two-kinds"),
        pytest.param("reason", "services: fraud, reason", "list of names", id="services"),
        pytest.param("reason", "services: [], reason", "list of names", id="no-service"),
    ],
)
def test_a_wrong_calendar_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        parse(CALENDAR.replace(old, new))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        pytest.param("weekly: {from: friday 16:00, until: mon 08:00}", "a day and a time", id="day"),
        pytest.param("weekly: {from: fri 24:01, until: mon 08:00}", "a day and a time", id="hour"),
        pytest.param('daily: {from: "7:00", until: "08:00"}', "not a time", id="digits"),
        pytest.param("monthly: {from: 0, until: 1}", "day of the month", id="zero"),
        pytest.param("monthly: {from: 1, until: 32}", "day of the month", id="too-late"),
        pytest.param("monthly: {from: 1}", "until: missing", id="no-end"),
        pytest.param("monthly: {from: 1, until: 2}, zone: Mars/Base", "time zone", id="zone"),
        pytest.param("monthly: {from: 1, until: 2}, zone: ../../etc/passwd", "time zone", id="zone-path"),
    ],
)
def test_a_wrong_repeat_is_refused(row: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        windows(row)
