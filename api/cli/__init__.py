"""The command `modelshelf`, one module per group of commands.

Heavy imports stay inside the commands that need them: `--help` and `list` must be quick.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from api.cli import generating, installing, models, probing, residency, serving, shelving, tokens
from api.cli.common import FAILED
from registry.errors import ModelshelfError

app = typer.Typer(
    name="modelshelf",
    help="Model manager and registry service for diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",  # a paragraph is one, however its lines are broken here
)
for group in (serving, installing, models, shelving, probing, generating, residency, tokens):
    app.add_typer(group.app)


def main() -> None:
    """Entry point: every error that a user can do something about is one line and a non-zero exit."""
    from pydantic import ValidationError

    try:
        app()
    except ModelshelfError as error:
        _complain(f"{error.message} [{error.code}]")
    except ValidationError as error:  # of the settings: the only model that the command line validates by itself
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        _complain(f"A setting in the environment cannot be used: {wrong}. [invalid_setting]")
    except OSError as error:
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}. [os_error]")


def _complain(message: str) -> NoReturn:
    print(f"modelshelf: {message}", file=sys.stderr)
    sys.exit(FAILED)
