"""`modelshelf db`: the registry's database, looked at, brought up to date, copied."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.common import FAILED, Json
from api.cli.opening import chosen_server
from api.cli.output import print_json, print_table, size_text
from registry.errors import InvalidRequest, LocalOnly

if TYPE_CHECKING:
    from sqlalchemy import Engine

app = typer.Typer()
db = typer.Typer(
    help="The registry's database: its state, its migrations, a copy of it. Of this machine only, never of a --server.\n\n"
    "Example: `modelshelf db status`",
    no_args_is_help=True,
)
app.add_typer(db, name="db")


def _engine() -> Engine:
    """Raises LocalOnly: a service was chosen, whose database nobody should reach but itself."""
    from registry.db import make_engine
    from registry.settings import Settings

    settings = Settings()
    if server := chosen_server(settings):
        raise LocalOnly(
            f"`modelshelf db` is about the database on this machine; for that of {server}, run it there, without --server and "
            "MODELSHELF_SERVER."
        )
    return make_engine(settings.database)


@db.command()
def status(as_json: Json = False) -> None:
    """Where the database is, and whether its schema is the newest. Changes nothing. Exit 1 when it is not, or there is none yet.

    Example: `modelshelf db status --json`
    """
    from registry.db import schema_state, stored_bytes

    engine = _engine()
    state = schema_state(engine)
    size = stored_bytes(engine)
    facts: dict[str, Any] = {
        "database": engine.url.render_as_string(hide_password=True),
        "schema": state.name,
        "revisions": list(state.stamped),
        "newest": list(state.newest),
        "size": size,
    }
    if as_json:
        print_json(facts)
    else:
        shown = facts | {"size": "" if size is None else size_text(size)}
        print_table((), [(k, ", ".join(v) if isinstance(v, list) else str(v)) for k, v in shown.items() if v])
    raise typer.Exit(0 if state.name == "current" else FAILED)


@db.command()
def upgrade() -> None:
    """Bring the schema up to the newest revision. Every command that opens the shelf does so by itself.

    Example: `modelshelf db upgrade`
    """
    from registry.db import migrate, schema_state

    engine = _engine()
    before = schema_state(engine)
    migrate(engine)
    print("The schema is the newest." if before.name == "current" else f"Upgraded to {', '.join(before.newest)}.")


@db.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist yet.", show_default=False)],
) -> None:
    """Copy an SQLite database while it is in use. Put back by copying it over `modelshelf.db` while nothing runs.

    Models' files are not in it. PostgreSQL brings a command of its own, `pg_dump`.

    Example: `modelshelf db backup modelshelf-copy.db`
    """
    from registry.db import copy_sqlite

    engine = _engine()
    if engine.dialect.name != "sqlite":
        raise InvalidRequest(f"The database is {engine.dialect.name}: use pg_dump.")
    if file.exists():
        raise InvalidRequest(f"{file} exists already; nothing is overwritten.")
    copy_sqlite(engine, file)
    print(f"{file}  {size_text(file.stat().st_size)}")
