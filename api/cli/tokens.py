"""`modelshelf token`."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.output import print_table
from api.cli.shelf import opened_manager

app = typer.Typer()
token = typer.Typer(
    help="Tokens that let others use the service when it listens beyond this machine.", no_args_is_help=True
)
app.add_typer(token, name="token")


@token.command()
def create(name: Annotated[str, typer.Argument(help="Whom it is for; for your own memory.")] = "") -> None:
    """Make a token and print it, this once: only its digest is kept."""
    with opened_manager() as manager:
        print(manager.tokens.create(name))


@token.command("list")
def list_tokens() -> None:
    """The tokens that are in force."""
    with opened_manager() as manager:
        print_table(("id", "name", "made"), [(t.id, t.name, f"{t.created_at:%Y-%m-%d}") for t in manager.tokens.list()])


@token.command()
def revoke(token_id: Annotated[str, typer.Argument(help="Its id, as the list shows it.", show_default=False)]) -> None:
    """Let a token open nothing any more."""
    with opened_manager() as manager:
        manager.tokens.revoke(token_id)
