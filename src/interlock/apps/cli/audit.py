"""`interlock audit verify | show`: the transparency log, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit, rows

_Folder = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A copied log; this home's own if not given.")]
_Key = Annotated[Path | None, typer.Option("--vkey", help="The log's public key file; this home's own if not given.")]


def register(app: typer.Typer) -> None:
    """Add the noun."""
    noun = typer.Typer(help="The audit log: verify it offline, read it.", no_args_is_help=True, rich_markup_mode=None)
    noun.command("verify")(verify)
    noun.command("show")(show)
    app.add_typer(noun, name="audit")


def verify(folder: _Folder = None, vkey: _Key = None, output: Output = "table") -> None:
    """Check signature, entries, tiles and root with the public key alone. Exit code 1: it does not hold."""
    from interlock.apps.views import audit as views
    from interlock.trust.fsck import verify_folder

    place, key = _places(folder, vkey)
    found = views.verified(verify_folder(place, key))
    emit(output, found)
    if not found["verified"]:
        raise SystemExit(EXIT_FAILED)


def show(
    folder: _Folder = None,
    vkey: _Key = None,
    last: Annotated[int, typer.Option(min=1, help="How many entries from the end.")] = 30,
    kind: Annotated[list[str] | None, typer.Option("--type", help="Only entries of this type; may repeat.")] = None,
    output: Output = "table",
) -> None:
    """The newest entries, oldest first."""
    from interlock.apps.views import audit as views

    place, key = _places(folder, vkey)
    found = list(views.entries(place, key, last, frozenset(kind or ())))
    columns = ("index", "time", "type", "actor", "object", "outcome")
    emit(output, {"entries": found}, lambda: rows(columns, [[each[name] for name in columns] for each in found]))


def _places(folder: Path | None, vkey: Path | None) -> tuple[Path, str]:
    from interlock import settings
    from interlock.base.errors import UsageError

    current = settings.load()
    key = vkey or current.places.trust / "log.vkey"
    try:
        return folder or current.places.log, key.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the log's public key cannot be read", "give it with --vkey FILE") from error
