from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.canonical import canonical, digest_hex, digest_of
from interlock.base.clock import NS_PER_S, ClockOptions, EdgeClock, ManualClock, rfc3339
from interlock.base.errors import UsageError
from interlock.base.ids import SeededIds, SystemIds, uuid7, uuid7_ns
from interlock.base.verdict import Verdict, worst


def test_canonical_json_sorts_by_utf16_and_writes_numbers_like_ecmascript() -> None:
    # RFC 8785 section 3.2.3: the sorting example, and 3.2.2.3 for the numbers.
    text = canonical({"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7})
    assert [int(digit) for digit in re.findall(rb":(\d)", text)] == [2, 4, 6, 7, 1, 5, 3]
    assert canonical([1e30, 4.50, 2e-3, 1e-27, -0.0]) == b"[1e+30,4.5,0.002,1e-27,0]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53 + 1, {1: 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="canonical"):
        canonical(value)


def test_a_digest_says_how_it_was_made() -> None:
    digest = digest_of(b"abc")
    assert digest == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4
    assert digest_hex(digest) == digest.removeprefix("sha256:")


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "md5:" + "a" * 64, "a" * 64, "sha256:" + "a" * 63]
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a sha256 digest"):
        digest_hex(text)


@given(st.integers(0, 2**47), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_version_7_uuid_and_sorts_by_time(milliseconds: int, entropy: bytes) -> None:
    found = uuid.UUID(uuid7(milliseconds * 1_000_000, entropy))
    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert found.int >> 80 == milliseconds
    assert str(found) < uuid7((milliseconds + 1) * 1_000_000, b"\0" * 10)


def test_seeded_ids_can_be_replayed_and_system_ids_cannot() -> None:
    assert SeededIds(1).random(16) == SeededIds(1).random(16) != SeededIds(2).random(16)
    assert SystemIds().random(16) != SystemIds().random(16)


def test_the_worst_verdict_wins_and_no_verdict_is_an_error() -> None:
    assert worst([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.ERROR, Verdict.FAIL, Verdict.PASS]) is Verdict.FAIL
    assert Verdict.INCONCLUSIVE.word == "inconclusive"
    with pytest.raises(ValueError, match="empty list"):
        worst([])


def test_an_edge_clock_runs_at_its_speed_from_its_origin() -> None:
    clock = ManualClock(mono_ns=5 * NS_PER_S)
    edge = ClockOptions(origin_ns=1_000 * NS_PER_S, started_ns=5 * NS_PER_S, speed=650.0).edge(clock)
    assert edge.now_ns() == 1_000 * NS_PER_S
    clock.advance(2)
    assert edge.now_ns() == 2_300 * NS_PER_S
    assert EdgeClock(clock).now_ns() == clock.now_ns()


def test_a_manual_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_790_000_000_123_456_789, "2026-09-21T14:13:20.123456Z"),
        (1_790_000_000_999_999_999, "2026-09-21T14:13:20.999999Z"),
    ],
)
def test_instants_are_written_in_utc_with_microseconds(ns: int, text: str) -> None:
    assert rfc3339(ns) == text


@given(st.integers(0, 2**48 * 10**6 - 1), st.binary(min_size=10, max_size=10))
def test_a_uuid7_tells_its_millisecond(now_ns: int, entropy: bytes) -> None:
    assert uuid7_ns(uuid7(now_ns, entropy)) == now_ns // 10**6 * 10**6


@pytest.mark.parametrize("text", ["", "t-1", str(uuid.UUID(int=5, version=4))])
def test_what_is_no_uuid7_tells_no_time(text: str) -> None:
    assert uuid7_ns(text) is None
