"""Engine, migrations and the unit of work. SQLite by default, PostgreSQL by URL, the same migrations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlmodel import Session

# In a clone and an editable install the folder stands beside the packages; a wheel carries it inside registry.
_HERE = Path(__file__).resolve().parent
MIGRATIONS = next(p for p in (_HERE / "_alembic", _HERE.parent / "alembic") if p.is_dir())

_MIGRATING = Lock()
_REVISION = {key: re.compile(rf'^{key} = "(.+)"$', re.MULTILINE) for key in ("revision", "down_revision")}


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


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision; does nothing when it is there. Imports alembic only then."""
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
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                # pysqlite opens no transaction for DDL by itself: a kill between two tables would leave half a schema.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, "heads")


def _lock_of(engine: Engine) -> AbstractContextManager[Any]:
    """Beside an SQLite file. PostgreSQL's DDL is transactional: of two who migrate at once, one fails whole and tells."""
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


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """One transaction: commits when the block ends, rolls back when it raises."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
