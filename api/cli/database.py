"""`modelshelf db`: the registry's database, looked at, brought up to date, copied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.common import FAILED, Json
from api.cli.output import print_json, print_table, size_text
from registry.errors import InvalidRequest

app = typer.Typer()
db = typer.Typer(help="The registry's database: its state, its migrations, a copy of it.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
def status(as_json: Json = False) -> None:
    """Where the database is, and whether its schema is the newest. Changes nothing. Exit 1 when it is not, or there is none yet."""
    from registry.db import make_engine, schema_state, stored_bytes
    from registry.settings import Settings

    engine = make_engine(Settings().database)
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
    """Bring the schema up to the newest revision. Every command that opens the shelf does so by itself."""
    from registry.db import make_engine, migrate, schema_state
    from registry.settings import Settings

    engine = make_engine(Settings().database)
    before = schema_state(engine)
    migrate(engine)
    print("The schema is the newest." if before.name == "current" else f"Upgraded to {', '.join(before.newest)}.")


@db.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist yet.", show_default=False)],
) -> None:
    """Copy an SQLite database while it is in use. Put back by copying it over `modelshelf.db` while nothing runs.

    Models' files are not in it. PostgreSQL brings a command of its own, `pg_dump`.
    """
    from registry.db import copy_sqlite, make_engine
    from registry.settings import Settings

    engine = make_engine(Settings().database)
    if engine.dialect.name != "sqlite":
        raise InvalidRequest(f"The database is {engine.dialect.name}: use pg_dump.")
    if file.exists():
        raise InvalidRequest(f"{file} exists already; nothing is overwritten.")
    copy_sqlite(engine, file)
    print(f"{file}  {size_text(file.stat().st_size)}")
