"""Engine, migrations and the unit of work. SQLite by default, PostgreSQL by URL, the same migrations."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

# In a clone and an editable install the folder stands beside the packages; a wheel carries it inside registry.
_HERE = Path(__file__).resolve().parent
MIGRATIONS = next(p for p in (_HERE / "_alembic", _HERE.parent / "alembic") if p.is_dir())

_MIGRATING = Lock()
_REVISION = {key: re.compile(rf'^{key} = "(.+)"$', re.MULTILINE) for key in ("revision", "down_revision")}
_MIGRATION_KEY = int.from_bytes(
    b"mdlshelf"
)  # of PostgreSQL's advisory lock, 64 bits: no other application's, one hopes

_ONE_DIALECT = ("model_text_fts", "model_text_trigrams")
"""How the names start of what the migrations make on one kind of database only, for text search (registry/queries.py)."""


def in_tables(_object: object, name: str | None, *_: object) -> bool:
    """For alembic's comparison: whether registry/tables.py is where this table or index would be described."""
    return not (name or "").startswith(_ONE_DIALECT)


def make_engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # WAL: readers go on while an install writes. NORMAL is durable against a killed process under WAL.
        # https://www.sqlite.org/wal.html
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=10000")  # milliseconds; the CLI and the service may write at once
        cursor.close()

    return engine


def migrate(engine: Engine, target: str = "heads") -> None:
    """Bring the schema up to revision `target`; does nothing when the newest is there. Imports alembic only then."""
    if _is_current(engine):
        return
    # Two processes may start on an empty root at once, and alembic itself is not made for two threads.
    with _MIGRATING, _lock_of(engine):
        if _is_current(engine):
            return
        from alembic.config import Config

        from alembic import command

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with _whole_schema_change(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target)


@contextmanager
def _whole_schema_change(engine: Engine) -> Iterator[Connection]:
    """A transaction around every migration; a kill between two tables must not leave half a schema."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            # Two services may start at once: the second waits, and finds the schema current.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
            yield connection
        return
    with engine.connect() as connection:
        # SQLite changes a column by copying its table and dropping the old one, and that must not take along the rows which refer to
        # it (https://www.sqlite.org/lang_altertable.html, 7). The switch does nothing inside a transaction.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # pysqlite opens no transaction for DDL by itself
        yield connection
        if lost := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            raise RuntimeError(f"the migration left rows that refer to nothing: {lost[:3]}")
        connection.commit()
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _lock_of(engine: Engine) -> AbstractContextManager[Any]:
    """Beside an SQLite file; PostgreSQL has a lock of its own."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:":
        return nullcontext()
    return FileLock(f"{database}.lock")


def _is_current(engine: Engine) -> bool:
    """Whether the stamped revisions are the newest files': those that no other file follows. Importing alembic would cost 0.2 s."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        stamped = set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    files = [path.read_text(encoding="utf-8") for path in (MIGRATIONS / "versions").glob("*.py")]
    named = {key: {m[1] for file in files for m in [_REVISION[key].search(file)] if m} for key in _REVISION}
    return stamped == named["revision"] - named["down_revision"]


FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a quota on it, has no room: for a file or for SQLite's."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return (isinstance(error, OSError) and error.errno in FULL) or code == sqlite3.SQLITE_FULL


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """One transaction: commits when the block ends, rolls back when it raises. A full disk is OSError(ENOSPC), as for any file."""
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except OperationalError as error:
        if not is_full(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), engine.url.database) from error
