"""Engine, migrations and the unit of work. SQLite by default, PostgreSQL by URL, the same migrations."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, OperationalError
from sqlmodel import Session

from registry.errors import DatabaseUnavailable, InvalidRequest

# In a clone and an editable install the folder stands beside the packages; a wheel carries it inside registry.
_HERE = Path(__file__).resolve().parent
MIGRATIONS = next(p for p in (_HERE / "_alembic", _HERE.parent / "alembic") if p.is_dir())

_MIGRATING = Lock()
_REVISION = {key: re.compile(rf'^{key} = "(.+)"$', re.MULTILINE) for key in ("revision", "down_revision")}
_MIGRATION_KEY = int.from_bytes(
    b"mdlshelf"
)  # of PostgreSQL's advisory lock, 64 bits: no other application's, one hopes

MAPPED = 1 << 30  # bytes of an SQLite file at most; 100,000 models take a quarter of it

_ONE_DIALECT = ("model_text_fts", "model_text_grams")
"""How the names start of what the migrations make on one kind of database only, for text search (registry/queries.py)."""


def in_tables(_object: object, name: str | None, *_: object) -> bool:
    """For alembic's comparison: whether registry/tables.py is where this table or index would be described."""
    return not (name or "").startswith(_ONE_DIALECT)


def make_engine(url: str) -> Engine:
    """What SQLAlchemy then raises of a database that does not answer is DatabaseUnavailable, of a full disk OSError(ENOSPC).

    Raises InvalidRequest for an address that is none.
    """
    try:
        parsed = make_url(url)
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite and parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_pre_ping=not is_sqlite)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidRequest(f"MODELSHELF_DATABASE_URL cannot be used: {error}.", field="database_url") from error
    event.listen(engine, "handle_error", _tell)
    if not is_sqlite:
        return engine

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        # WAL: readers go on while an install writes. NORMAL is durable against a killed process under WAL.
        # https://www.sqlite.org/wal.html
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        # The rows of a page lie all over a large file: read where the system caches it, they cost no call and no copy each. Writes stay as
        # they are. https://www.sqlite.org/mmap.html
        cursor.execute(f"PRAGMA mmap_size={MAPPED}")
        cursor.execute("PRAGMA busy_timeout=10000")  # milliseconds; the CLI and the service may write at once
        cursor.close()

    return engine


def _tell(context: ExceptionContext) -> None:
    """Raises what users are told, in place of what the driver said; errors of a statement itself stay what they are."""
    original, engine = context.original_exception, context.engine
    where = engine.url.render_as_string(hide_password=True) if engine else "the database"
    if getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), engine and engine.url.database) from original
    kind = type(context.sqlalchemy_exception)  # exactly: of DatabaseError there are kinds that are about the statement
    if kind not in (OperationalError, InterfaceError, DatabaseError) or context.is_pre_ping:
        return
    said = str(original).strip().partition("\n")[0]
    hint = _HINTS.get((getattr(original, "sqlite_errorcode", None) or 0) & 0xFF, "`modelshelf doctor` looks closer.")
    raise DatabaseUnavailable(f"The database {where} cannot be used: {said}. {hint}") from original


_HINTS = {
    sqlite3.SQLITE_BUSY: "Another process holds it: wait for it, or end it.",
    sqlite3.SQLITE_CANTOPEN: "Its folder must exist and be writable.",
    sqlite3.SQLITE_READONLY: "Its file and folder must be writable.",
    sqlite3.SQLITE_NOTADB: "The file is something else; move it away, and a new one is made.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: put a copy of it back (`modelshelf db backup` makes them).",
}
"""By SQLite's primary result code, the low byte (https://www.sqlite.org/rescode.html)."""


def migrate(engine: Engine, target: str = "heads") -> None:
    """Bring the schema up to revision `target`; does nothing when the newest is there. Imports alembic only then.

    Raises DatabaseUnavailable: the database is of a newer release.
    """
    state = schema_state(engine)
    if state.name == "current":
        return
    if state.name == "newer":
        raise DatabaseUnavailable(
            f"The database {engine.url.render_as_string(hide_password=True)} is of a newer modelshelf (schema {', '.join(state.stamped)}; "
            f"this one's is {', '.join(state.newest)}). Upgrade modelshelf, or put an older copy of the database back."
        )
    # Two processes may start on an empty root at once, and alembic itself is not made for two threads.
    with _MIGRATING, _lock_of(engine):
        if schema_state(engine).name == "current":
            return
        from alembic.config import Config

        from alembic import command

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with whole_schema_change(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, target)


@contextmanager
def whole_schema_change(engine: Engine) -> Iterator[Connection]:
    """A transaction around every migration; a kill between two tables must not leave half a schema."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            # Two services may start at once: the second waits, and finds the schema current.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_KEY})
            yield connection
        return
    with engine.connect() as connection, _restoring_foreign_keys(connection):
        # SQLite changes a column by copying its table and dropping the old one, and that must not take along the rows which refer to
        # it (https://www.sqlite.org/lang_altertable.html, 7). The switch does nothing inside a transaction.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # pysqlite opens no transaction for DDL by itself
        yield connection
        if lost := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            raise RuntimeError(f"the migration left rows that refer to nothing: {lost[:3]}")
        connection.commit()


@contextmanager
def _restoring_foreign_keys(connection: Connection) -> Iterator[None]:
    """The connection goes back to the pool, whatever became of the migration."""
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")


def _lock_of(engine: Engine) -> AbstractContextManager[Any]:
    """Beside an SQLite file; PostgreSQL has a lock of its own."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:":
        return nullcontext()
    return FileLock(f"{database}.lock")


class Schema(NamedTuple):
    """The revisions that a database is stamped with, the newest that there are, and all that there are."""

    stamped: tuple[str, ...]
    newest: tuple[str, ...]
    known: frozenset[str]

    @property
    def name(self) -> str:
        """`none`: an empty database; `current`; `outdated`: older than this release; `newer`: of a newer one."""
        if not self.stamped:
            return "none"
        if not self.known.issuperset(self.stamped):
            return "newer"
        return "current" if self.stamped == self.newest else "outdated"


def schema_state(engine: Engine) -> Schema:
    """Read from the stamps and from the migrations' files: importing alembic would cost 0.2 s. Changes nothing."""
    stamped: Iterable[str] = ()
    if stored_bytes(engine) != 0:  # connecting would make the file
        with engine.connect() as connection:
            if inspect(connection).has_table("alembic_version"):
                stamped = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    files = [path.read_text(encoding="utf-8") for path in (MIGRATIONS / "versions").glob("*.py")]
    named = {key: {m[1] for file in files for m in [_REVISION[key].search(file)] if m} for key in _REVISION}
    newest = named["revision"] - named["down_revision"]
    return Schema(tuple(sorted(stamped)), tuple(sorted(newest)), frozenset(named["revision"]))


def stored_bytes(engine: Engine) -> int | None:
    """Of an SQLite file with its write-ahead log, 0 where there is none; of PostgreSQL's database. None: it is in memory."""
    if engine.dialect.name != "sqlite":
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    if not (name := engine.url.database) or name == ":memory:":
        return None
    return sum(path.stat().st_size for path in (Path(name), Path(f"{name}-wal")) if path.exists())


def copy_sqlite(engine: Engine, to: Path) -> None:
    """A whole copy of an SQLite database, as it is at one moment, while others write (https://www.sqlite.org/backup.html)."""
    with engine.connect() as connection, closing(sqlite3.connect(to)) as copy:
        source: Any = connection.connection.driver_connection
        source.backup(copy)


FULL = (errno.ENOSPC, errno.EDQUOT)


def is_full(error: BaseException) -> bool:
    """Whether a disk, or a quota on it, has no room: for a file or for SQLite's (see `_tell`)."""
    return isinstance(error, OSError) and error.errno in FULL


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """One transaction: commits when the block ends, rolls back when it raises. A full disk is OSError(ENOSPC), as for any file."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
