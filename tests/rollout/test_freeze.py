"""No rollout starts while the calendar says so."""

from __future__ import annotations

import pytest

from interlock.base.errors import RefusedError
from interlock.base.strict_yaml import YamlError
from interlock.rollout.freeze import parse, refuse_if_frozen
from interlock.rollout.propose import scaffold

CALENDAR = """apiVersion: interlock.dev/v1alpha1
kind: FreezeCalendar
metadata: {name: production}
spec:
  windows:
    - {from: "2026-11-27T00:00:00Z", until: "2026-11-28T00:00:00Z", reason: Black Friday}
"""
START_NS = 1_795_737_600 * 10**9


def test_only_the_window_refuses_its_end_excluded() -> None:
    windows = parse(CALENDAR)
    assert windows[0].start_ns == START_NS
    refuse_if_frozen(windows, START_NS - 1)
    with pytest.raises(RefusedError, match="Black Friday"):
        refuse_if_frozen(windows, START_NS)
    refuse_if_frozen(windows, START_NS + 86_400 * 10**9)


def test_the_scaffolded_calendar_freezes_nothing() -> None:
    assert parse(scaffold(b"{}", b"", "r")["policy/freeze.yaml"].decode()) == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("FreezeCalendar", "Calendar", "not a FreezeCalendar"),
        ("windows", "windoze", "no spec.windows"),
        (", reason: Black Friday", "", "from, until and reason"),
        ("2026-11-28T00", "2026-11-26T00", "ends before"),
        ("2026-11-28T00:00:00Z", "tomorrow", "RFC 3339"),
    ],
)
def test_a_wrong_calendar_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(YamlError, match=says):
        parse(CALENDAR.replace(old, new))
