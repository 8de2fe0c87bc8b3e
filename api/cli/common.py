"""What commands share beside their output: arguments, exit codes, the manager."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from registry.manager import Manager

FAILED = 1  # exit code of every command whose error is one line; `probe` has two more of its own

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Reference = Annotated[str, typer.Argument(help="Id or name of a model.", show_default=False)]
Source = Annotated[
    list[str],
    typer.Argument(
        help="Hugging Face URL, hf://OWNER/REPO, OWNER/REPO, https URL of a file, or a path.", show_default=False
    ),
]


@contextmanager
def opened_manager() -> Iterator[Manager]:
    from registry.manager import build_manager

    manager = build_manager()
    try:
        yield manager
    finally:
        manager.close()
