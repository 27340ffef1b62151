from __future__ import annotations

import pytest

from interlock.base.strict_yaml import Mapping, YamlError, load


def test_plain_data_comes_back_with_its_lines() -> None:
    found = load("# a comment\nname: fraud\nspec:\n  weight: 10\n  steps: [{shadow: 3s}, 2.5, true, null]\n", "a.yaml")
    assert found == {"name": "fraud", "spec": {"weight": 10, "steps": [{"shadow": "3s"}, 2.5, True, None]}}
    assert isinstance(found, Mapping)
    assert found.lines == {"name": 2, "spec": 3}
    assert found["spec"].lines == {"weight": 4, "steps": 5}


@pytest.mark.parametrize("text", ["yes", "on", "2026-01-01", "0x10", "010", "1_000", ".inf", "1e3", "'12'", '"true"'])
def test_surprising_scalars_stay_strings(text: str) -> None:
    assert load(f"key: {text}", "a.yaml") == {"key": text.strip("'\"")}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: 2\na: 3", 3, "duplicate key a"),
        ("a: &x 1\nb: *x", 1, "anchors"),
        ("a: 1\nb: !!python/none x", 2, "tags"),
        ("a: 1\n---\nb: 2", 1, "2 documents"),
        ("", 1, "documents"),
        ("a: [1", 1, ""),
        ("a: 1\nb: 2 : 3", 2, ""),
        ("a: 1\n\u0430dmin: 2", 2, "unusual"),
        ("a: 1\nb: 'x\u202ey'", 2, "invisible"),
        ("? [1, 2]\n: 3", 1, "unusual"),
        ("a: 1\nb: " + "[" * 100_000, 2, "more than 32 levels"),
        ("a: \ufffe", 1, "characters"),
    ],
)
def test_what_surprises_reviewers_is_refused_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(text, "release.yaml")
    assert problem in caught.value.message
    assert caught.value.message.startswith("release.yaml:")
    assert caught.value.line in (line, line + 1) if not problem else caught.value.line == line
    assert caught.value.remedy
