"""How every command speaks: data on stdout, messages on stderr, one exit code per kind of end.

With `--output json` a command prints exactly one JSON object on stdout, also when it fails; a
table otherwise. NO_COLOR is honoured (rich). Exit codes: 0 ok, 1 failed, 2 usage,
3 inconclusive or unreachable, 4 rolled back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from interlock.base.errors import InterlockError, UnreachableError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

_PIPE_COLUMNS = 200

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_UNREACHABLE = 3
EXIT_ROLLED_BACK = 4

Output = Annotated[
    Literal["table", "json"],
    typer.Option("--output", help="A table for people, or one JSON object on stdout.", show_default=True),
]


def emit(output: str, data: Mapping[str, Any], table: Callable[[], RenderableType] | None = None) -> None:
    """Print a command's result.

    Args:
        output: the value of `--output`.
        data: what the command found; plain JSON values.
        table: draws `data` for people; without it, one line per key.
    """
    if output == "json":
        sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()  # a command that stays (`up`) is read while it runs
        return
    from rich.console import Console

    # A pipe has no width of its own: rich would fold at 80 columns what a person greps.
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)
    console.print(table() if table else lines(data))


def lines(data: Mapping[str, Any]) -> RenderableType:
    """`data` as one aligned line per key."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for key, value in data.items():
        grid.add_row(key.replace("_", " "), _cell(value))
    return grid


def rows(columns: Sequence[str], body: Sequence[Sequence[Any]]) -> RenderableType:
    """A plain table: `columns` as header, every value as text."""
    from rich import box
    from rich.table import Table

    found = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in body:
        found.add_row(*(_cell(value) for value in row))
    return found


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return escape(json.dumps(value, ensure_ascii=False))
    return escape(str(value))


def note(message: str) -> None:
    """A message for the person at the terminal, on stderr."""
    sys.stderr.write(message + "\n")


def hint(command: str) -> None:
    """Name the command that usually comes next, on stderr."""
    sys.stderr.write(f"next: {command}\n")


def exit_code(error: InterlockError) -> int:
    """The exit code that tells a script what kind of failure this is."""
    if isinstance(error, UsageError):
        return EXIT_USAGE
    if isinstance(error, UnreachableError):
        return EXIT_UNREACHABLE
    return EXIT_FAILED


def fail(error: InterlockError, output: str | None = None) -> NoReturn:
    """Print the error with its remedy and leave with its exit code.

    Commands may simply raise: `main.run` calls this. `output` None means: look at the command
    line, since a failure can come before any option was parsed.
    """
    kind = type(error).__name__.removesuffix("Error").lower()
    if (output or _asked_output(sys.argv)) == "json":
        body = {"error": {"kind": kind, "message": error.message, "remedy": error.remedy}}
        sys.stdout.write(json.dumps(body, ensure_ascii=False) + "\n")
    sys.stderr.write(f"{kind}: {error.message}\nremedy: {error.remedy}\n")
    raise SystemExit(exit_code(error))


def _asked_output(arguments: Sequence[str]) -> str:
    for this, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if this == "--output=json" or (this == "--output" and following == "json"):
            return "json"
    return "table"
