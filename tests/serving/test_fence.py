from __future__ import annotations

import os

import pytest

from interlock.base.errors import UsageError
from interlock.serving.fence import SLOTS, Fence, create


@pytest.fixture
def handle() -> int:
    return create()


def test_a_new_fence_lets_everything_pass_and_says_not_ready(handle: int) -> None:
    reader = Fence(handle, writable=False)
    assert not reader.ready
    assert not any(reader.retreated(slot, 2**62) for slot in range(SLOTS))


def test_a_latch_is_seen_by_every_reader_at_once_and_in_its_slot_alone(handle: int) -> None:
    writer, reader = Fence(handle, writable=True), Fence(os.dup(handle), writable=False)
    writer.set_latch(3, True)
    assert [slot for slot in range(SLOTS) if reader.retreated(slot, 0)] == [3]
    writer.set_latch(3, False)
    assert not reader.retreated(3, 0)


def test_a_lease_lapses_at_its_deadline_and_not_before(handle: int) -> None:
    writer, reader = Fence(handle, writable=True), Fence(handle, writable=False)
    writer.set_deadline(SLOTS - 1, 2**63 + 5)
    assert reader.deadline(SLOTS - 1) == 2**63 + 5
    assert [reader.retreated(SLOTS - 1, 2**63 + step) for step in (4, 5, 6)] == [False, True, True]
    writer.set_deadline(SLOTS - 1, 0)
    assert not reader.retreated(SLOTS - 1, 2**63 + 6)


def test_ready_is_what_the_supervisor_last_said(handle: int) -> None:
    writer, reader = Fence(handle, writable=True), Fence(handle, writable=False)
    for wanted in (True, False, True):
        writer.set_ready(wanted)
        assert reader.ready is wanted


def test_a_reader_cannot_write(handle: int) -> None:
    with pytest.raises(TypeError):
        Fence(handle, writable=False).set_latch(0, True)


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_a_slot_that_does_not_exist_is_refused(handle: int, slot: int) -> None:
    writer = Fence(handle, writable=True)
    with pytest.raises(UsageError, match="services"):
        writer.set_latch(slot, True)
    with pytest.raises(UsageError, match="services"):
        writer.set_deadline(slot, 1)
