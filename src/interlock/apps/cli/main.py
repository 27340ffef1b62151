"""The command `interlock`: one file per noun, named in one table.

`--help` stays under half a second because a noun's module imports what it needs inside its
commands: here only typer and the options are loaded (tests/test_cli.py measures the imports).
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from interlock.apps.cli.output import fail
from interlock.base.errors import InterlockError
from interlock.privacy.redact import print_exception_redacted

NOUNS: tuple[str, ...] = (
    "interlock.apps.cli.demo",
    "interlock.apps.cli.platform",
    "interlock.apps.cli.data",
    "interlock.apps.cli.train",
    "interlock.apps.cli.score",
    "interlock.apps.cli.sample",
    "interlock.apps.cli.model",
    "interlock.apps.cli.release",
    "interlock.apps.cli.approval",
    "interlock.apps.cli.rollout",
    "interlock.apps.cli.simulate",
    "interlock.apps.cli.serve",
    "interlock.apps.cli.conformance",
    "interlock.apps.cli.control",
    "interlock.apps.cli.decision",
    "interlock.apps.cli.audit",
    "interlock.apps.cli.access",
)
"""Modules with `register(app)`, in the order that `interlock --help` lists them."""


def build(nouns: tuple[str, ...] = NOUNS) -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="interlock",
        help="Release machine-learning models that decide about money: under live traffic, provably.",
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help: rich doubles the time to show it
        # A traceback with local variables could print a card number.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def interlock() -> None:
        """Release machine-learning models that decide about money: under live traffic, provably."""

    for noun in nouns:
        import_module(noun).register(app)
    return app


def run() -> None:
    """Entry point of the console script: every failure ends with its remedy and its exit code."""
    sys.excepthook = print_exception_redacted
    app = build()
    try:
        app()
    except InterlockError as error:
        fail(error)
    except BrokenPipeError:
        # The reader of our output left (`interlock … | head`): nothing is wrong, nobody listens.
        sys.stderr.close()
        raise SystemExit(0) from None


if __name__ == "__main__":
    run()
