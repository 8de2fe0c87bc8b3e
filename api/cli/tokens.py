"""`modelshelf token`."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.opening import opened_shelf
from api.cli.output import print_table
from registry.scopes import EVERY_SCOPE, Scope

app = typer.Typer()
token = typer.Typer(
    help="Tokens that let others use the service when it listens beyond this machine.\n\nExample: `modelshelf token create ada`",
    no_args_is_help=True,
)
app.add_typer(token, name="token")

Scopes = Annotated[
    list[Scope] | None,
    typer.Option(
        "--scope",
        help="What it opens: looking at everything; generating, with the models and its own pictures; or changing the shelf, with "
        "what is there. Once for each; left out: all three.",
    ),
]


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Whom it is for; for your own memory.")] = "", scope: Scopes = None
) -> None:
    """Make a token and print it, this once: only its digest is kept.

    With --server, it opens no more than the token in MODELSHELF_TOKEN, which itself must be for `manage`.

    Example: `modelshelf token create ada --scope read --scope generate`
    """
    with opened_shelf() as shelf:
        print(shelf.create_token(name, scope or EVERY_SCOPE).token)


@token.command("list")
def list_tokens() -> None:
    """The tokens that are in force.

    Example: `modelshelf token list`
    """
    with opened_shelf() as shelf:
        rows = [(t.id, t.name, ", ".join(t.scopes), f"{t.created_at:%Y-%m-%d}") for t in shelf.tokens()]
        print_table(("id", "name", "opens", "made"), rows)


@token.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID|NAME", help="As the list shows it.", show_default=False)],
) -> None:
    """Let a token open nothing any more.

    Example: `modelshelf token revoke ada`
    """
    with opened_shelf() as shelf:
        shelf.revoke_token(token)
