"""The house law that no linter knows: sizes, names, cycles, contracts at the top of modules.

A reason on the line (`# long: the table`) exempts a function from its length or its number of
parameters, and a module when it stands in its first twenty lines. `# late: reason` exempts an
import inside a function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.process  # part of make lint

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "interlock"
MODULES = sorted(SOURCE.rglob("*.py"))
BENCH = [path for path in sorted((ROOT / "bench").rglob("*.py")) if ".venv" not in path.parts]
CHECKED = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *BENCH]

MODULE_LINES = 400
FUNCTION_LINES = 50
PARAMETERS = 6
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
REASON = re.compile(r"# long: \S+")
LATE = re.compile(r"# late: \S+")
FREE_IMPORTS = ("adapters/", "wiring/", "apps/cli/")
"""Where an import may stand inside a function (house style 12); KFP steps come with their issue."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length_without_docstring(function: Function) -> int:
    body = function.body
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    skipped = (first.end_lineno or 0) - first.lineno + 1 if documented and isinstance(first.value.value, str) else 0  # type: ignore[attr-defined]
    return (function.end_lineno or 0) - function.lineno + 1 - skipped


def parameters(function: Function) -> int:
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def is_command(function: Function) -> bool:
    """A CLI command's parameters are its options: a table by another name."""
    return any(
        "command" in ast.dump(decorator) or "callback" in ast.dump(decorator) for decorator in function.decorator_list
    )


def exempt(lines: list[str], function: Function) -> bool:
    start = function.lineno - 1
    stop = function.body[0].lineno - 1
    return any(REASON.search(line) for line in lines[start : max(stop, start + 1)])


def broken_rules(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    tree = ast.parse(text)
    found = []
    if len(lines) > MODULE_LINES and not any(REASON.search(line) for line in lines[:20]):
        found.append(f"{name}: {len(lines)} lines")
    for function in functions(tree):
        if exempt(lines, function):
            continue
        if (length := length_without_docstring(function)) > FUNCTION_LINES:
            found.append(f"{name}:{function.lineno}: {function.name} has {length} lines")
        if (count := parameters(function)) > PARAMETERS and not is_command(function):
            found.append(f"{name}:{function.lineno}: {function.name} has {count} parameters")
    return found


def test_modules_and_functions_keep_their_size() -> None:
    found = [each for path in CHECKED for each in broken_rules(path.read_text("utf-8"), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 50, "51 lines"),
        ("def f(a, b, c, d, e, f, *, g): ...\n", "7 parameters"),
    ],
)
def test_the_check_of_sizes_finds_what_it_looks_for(text: str, wanted: str) -> None:
    assert [each for each in broken_rules(text, "m") if wanted in each]


def test_a_reason_on_the_line_exempts() -> None:
    assert broken_rules("def f(a, b, c, d, e, f, g): ...  # long: one row per protocol field\n", "m") == []
    assert broken_rules("def f(a, b, c, d, e, f, g): ...  # long:\n", "m") != []


def test_no_module_has_a_name_that_says_nothing() -> None:
    named = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}
    assert not named & FORBIDDEN_NAMES


def test_package_markers_are_empty() -> None:
    filled = [
        str(path.relative_to(ROOT)) for path in MODULES if path.name == "__init__.py" and path.read_text().strip()
    ]
    assert not filled


def test_every_module_opens_with_its_contract() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not bare


def imports_inside_functions(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for function in functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and not LATE.search(lines[node.lineno - 1])
    ]


def test_imports_stand_inside_functions_only_where_the_house_allows() -> None:
    found = [
        each
        for path in MODULES
        if not str(path.relative_to(SOURCE)).startswith(FREE_IMPORTS)
        for each in imports_inside_functions(path)
    ]
    assert not found, "\n".join(found)


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that `path` imports when it is imported (not inside functions, not for types only)."""
    found: set[str] = set()
    todo: list[ast.stmt] = list(ast.parse(path.read_text("utf-8")).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            todo += [*node.body, *node.orelse]
        elif isinstance(node, ast.Try | ast.ClassDef | ast.With):
            todo += node.body
    return found & known


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of the graph as a list of its nodes, or nothing."""
    remaining = {node: set(targets) for node, targets in graph.items()}
    while leaves := [node for node, targets in remaining.items() if not targets & remaining.keys()]:
        for leaf in leaves:
            del remaining[leaf]
    return sorted(remaining)


def test_no_import_cycle() -> None:
    names = {module_name(path) for path in MODULES if path.name != "__init__.py"}
    graph = {module_name(path): imported(path, names) - {module_name(path)} for path in MODULES}
    assert find_cycle(graph) == []


def test_a_cycle_would_be_found() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_nothing_is_left_to_do_later() -> None:
    words = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + r"Error\(\)")))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in CHECKED
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert not found


def test_mock_patching_stays_in_the_adapters_tests() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if "adapters" not in path.parts
        and re.search(r"mock\.patch|mocker\b|from unittest.mock", path.read_text("utf-8"))
        and path != Path(__file__)
    ]
    assert not found
