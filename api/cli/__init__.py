"""The command `modelshelf`, one module per group of commands.

Heavy imports stay inside the commands that need them: `--help` and `list` must be quick.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from api.cli import (
    database,
    examining,
    generating,
    installing,
    models,
    probing,
    residency,
    serving,
    shelving,
    tokens,
)
from api.cli.common import FAILED, INTERRUPTED, USAGE
from api.cli.opening import SERVER
from api.cli.output import is_plain, say
from registry.errors import LocalOnly, ModelshelfError

HELP = """Model manager and registry service for diffusion models.

First steps: `modelshelf starter install`, `modelshelf list`, `modelshelf generate starter-base "a red circle"`, `modelshelf serve`.
"""
EPILOG = """Exit status: 0 done; 1 failed, with one line that says why and ends in a stable [code]; 2 wrong usage; 130 stopped by Ctrl-C.
`probe` has two more of its own. Settings are environment variables: see the README. With NO_COLOR nothing but text is printed.
"""

app = typer.Typer(
    name="modelshelf",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",  # a paragraph is one, however its lines are broken here
)
for group in (
    installing,
    models,
    generating,
    probing,
    shelving,
    serving,
    residency,
    tokens,
    database,
    examining,
):
    app.add_typer(group.app)


def _address(text: str) -> str:
    """What is no address is wrong usage."""
    from registry.settings import service_address

    return service_address(text)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"modelshelf {version('modelshelf')}")
        raise typer.Exit


@app.callback()
def _options(
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            parser=_address,
            help="Work against the service at this address (HOST:PORT will do), not on this machine's own shelf. The setting "
            "MODELSHELF_SERVER does the same; MODELSHELF_TOKEN is the token that it may ask for.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    SERVER.set(server)


def main() -> None:
    """Entry point: every error that a user can do something about is one line and a non-zero exit."""
    from pydantic import ValidationError

    _replace_what_cannot_be_shown()
    if is_plain():
        from typer import rich_utils

        rich_utils.COLOR_SYSTEM = None  # of help and of wrong usage; typer names no other way
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit:
        _flush()
        raise
    except ModelshelfError as error:
        _complain(f"{error.message} [{error.code}]", USAGE if isinstance(error, LocalOnly) else FAILED)
    except ValidationError as error:  # of the settings: the only model that the command line validates by itself
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        _complain(f"A setting in the environment cannot be used: {wrong}. [invalid_setting]")
    except OSError as error:
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}. [os_error]")
    except Exception as error:
        _complain(
            f"An error of modelshelf itself: {type(error).__name__}: {error}. Details: {_kept_traceback()} [error]"
        )


def _replace_what_cannot_be_shown() -> None:
    """A name that the terminal has no characters for is no error; JSON, which programs read, is ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flush() -> None:
    """Whoever read this has gone (`| head`): nothing is left to say (https://docs.python.org/3/library/signal.html#note-on-sigpipe)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _kept_traceback() -> str:
    """The file that it was written to, for whoever reports it."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="modelshelf-error-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    return file.name


def _complain(message: str, code: int = FAILED) -> NoReturn:
    say(f"modelshelf: {message}", sys.stderr)
    sys.exit(code)
