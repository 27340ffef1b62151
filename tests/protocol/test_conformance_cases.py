"""The table of cases itself: complete, unique, and able to fail, judged on replies without any server."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from interlock.apps.conformance import judging
from interlock.apps.conformance.case import GROUPS, Answer, Calls, Case, Reply, Subject, judged
from interlock.apps.conformance.suite import CASES, chosen
from interlock.apps.conformance.tensors import (
    FORMATS,
    Sample,
    Unreadable,
    ends,
    flatten,
    nest,
    pack,
    sample_of,
    unpack,
)
from interlock.base.errors import UsageError
from interlock.base.verdict import Verdict

METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [{"name": "sum", "datatype": "FP32", "shape": [-1]}],
}
SUBJECT = Subject(
    model="m",
    version="1",
    server={"name": "s", "version": "1", "extensions": ["model_repository", "binary_tensor_data"]},
    metadata=METADATA,
    inputs=sample_of(METADATA),
    outputs=("sum",),
    instances=([1.0, 1.0],),
    binary=True,
    with_repository=True,
)
ONE_INPUT = replace(SUBJECT, inputs=SUBJECT.inputs[:1])
"""For the one case that needs a single input."""


def dumb(case: Case[Any, Any], reply: Reply, answer: Answer) -> Verdict:
    """The verdict when everything is answered the same."""
    subject = ONE_INPUT if case.id == "BIN-015" else SUBJECT
    asked = case.ask(subject)
    if isinstance(asked, Calls):
        return judged(case, subject, [answer] * len(asked.calls)).verdict
    return judged(case, subject, [reply] * len(asked.requests)).verdict


def test_each_case_has_an_id_of_its_own_a_known_group_and_its_words() -> None:
    assert len({case.id for case in CASES}) == len(CASES) > 180
    for case in CASES:
        assert re.fullmatch(r"[A-Z0-9]+(-[A-Z]+)?-[0-9]{3}", case.id)
        assert case.group in GROUPS
        assert case.clause
        assert case.sends
        assert case.holds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_can_fail(case: Case[Any, Any]) -> None:
    broken = dumb(case, Reply(500, {}, b"Internal Server Error"), Answer("UNKNOWN"))
    yes = dumb(case, Reply(200, {}, b"{}"), Answer("OK"))
    assert Verdict.FAIL in (broken, yes), "neither a server that is broken nor one that says yes to everything fails"
    assert Verdict.ERROR not in (broken, yes)


def test_groups_are_chosen_by_name_and_unknown_ones_are_refused() -> None:
    assert {case.group for case in chosen(["binary", "v1"])} == {"binary", "v1"}
    assert len(chosen([""])) == len(CASES)
    with pytest.raises(UsageError, match="1 unknown"):
        chosen(["v1", "v9"])


def test_without_a_valid_input_nothing_is_guessed() -> None:
    bare = Subject(model="m")
    for case in chosen(["binary"]):
        with pytest.raises(Exception, match="no valid input"):
            case.ask(bare)


@pytest.mark.parametrize("datatype", FORMATS)
def test_every_datatype_goes_through_its_bytes_and_back(datatype: str) -> None:
    values = ends(datatype)
    assert unpack(datatype, pack(datatype, values)) == pytest.approx(values)
    assert len(pack(datatype, values)) % 2 == 0


def test_text_is_framed_by_its_length() -> None:
    assert pack("BYTES", ["a", "", "ü"]) == b"\x01\0\0\0a\0\0\0\0\x02\0\0\0\xc3\xbc"
    assert unpack("BYTES", pack("BYTES", ["a", "", "ü"])) == ("a", "", "ü")
    for bad in (b"\x01", b"\x05\0\0\0a", b"\xff\xff\xff\x7fabc"):
        with pytest.raises(Unreadable):
            unpack("BYTES", bad)


def test_nested_data_are_flat_data_of_the_same_order() -> None:
    flat = tuple(range(12))
    assert flatten(nest(flat, (2, 3, 2)), (2, 3, 2)) == flat
    assert flatten(list(flat), (2, 3, 2)) == flat
    for bad in ([1, 2], [[1], [2, 3]], [[1, 2]], {}, "no"):
        with pytest.raises((Unreadable, TypeError)):
            flatten(bad, (2, 2))


def test_a_sample_is_made_of_the_metadata() -> None:
    assert sample_of(METADATA) == (Sample("a", "FP32", (1, 2), (1.0, 1.0)), Sample("b", "BYTES", (1, 1), ("1",)))
    assert sample_of({"inputs": [{"name": "x", "datatype": "FP99", "shape": [1]}]}) == ()
    assert sample_of({}) == ()


RESPONSES = {
    "no outputs": b'{"model_name": "m"}',
    "no name": b'{"outputs": [{"shape": [1], "datatype": "FP32", "data": [1.0]}]}',
    "no such datatype": b'{"outputs": [{"name": "x", "shape": [1], "datatype": "F", "data": [1.0]}]}',
    "a negative shape": b'{"outputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": [1.0]}]}',
    "too few data": b'{"outputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0]}]}',
    "data of another type": b'{"outputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ["1"]}]}',
    "a fraction in integers": b'{"outputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [1.5]}]}',
    "an integer out of range": b'{"outputs": [{"name": "x", "shape": [1], "datatype": "INT8", "data": [200]}]}',
    "not JSON": b"<html>",
    "a size beyond the body":
        b'{"outputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": 4}}]}',
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_that_does_not_hold_together_is_unreadable(name: str) -> None:
    with pytest.raises(Unreadable):
        judging.read(Reply(200, {}, RESPONSES[name]))


def test_a_report_repeats_no_value_of_a_reply() -> None:
    case = chosen(["v1"])[3]
    found = judged(case, SUBJECT, [Reply(404, {}, b'{"error": {"pan": "4111111111111111"}}')])
    assert found.verdict is Verdict.FAIL
    assert "4111" not in found.why
