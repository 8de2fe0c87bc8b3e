"""The migrations make the schema that the tables describe, once, and a unit of work is all or nothing; on every kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from sqlmodel import Session, SQLModel, select

from registry.db import MIGRATIONS, in_tables, make_engine, migrate, unit_of_work, whole_schema_change
from registry.tables import CODE_POINTS, Install
from tests.databases import engine_of


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Engine]:
    with engine_of(f"sqlite:///{tmp_path / 'registry.db'}") as made:
        migrate(made)
        yield made


def test_migrations_and_tables_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        options = {"include_object": in_tables, "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_migrating_again_does_nothing(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        session.add(Install(source="hf://a/b"))
    migrate(engine)
    with Session(engine) as session:
        assert len(session.exec(select(Install)).all()) == 1


def test_several_services_may_start_on_an_empty_database_at_once(database_url: str) -> None:
    def start(_: int) -> set[str]:
        with engine_of(database_url) as engine:
            migrate(engine)
            return set(inspect(engine).get_table_names())

    with ThreadPoolExecutor(4) as threads:
        assert all({"model", "install"} <= names for names in threads.map(start, range(4)))


def test_sqlite_lets_readers_go_on_while_somebody_writes(sqlite: Engine) -> None:
    with sqlite.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_sqlite_keeps_foreign_keys_after_a_migration_on_the_same_connection(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    for target in ("0001", "heads"):
        migrate(engine, target)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_sqlite_keeps_foreign_keys_after_a_migration_that_failed(tmp_path: Path) -> None:
    def failing(engine: Engine) -> None:
        with whole_schema_change(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
            raise RuntimeError("in the middle")

    with engine_of(f"sqlite:///{tmp_path / 'registry.db'}") as engine:
        with pytest.raises(RuntimeError, match="in the middle"):
            failing(engine)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert inspect(connection).get_table_names() == []


def test_a_unit_of_work_that_raises_leaves_nothing(engine: Engine) -> None:
    def half_done() -> None:
        with unit_of_work(engine) as session:
            session.add(Install(source="hf://a/b"))
            session.flush()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        half_done()
    with Session(engine) as session:
        assert session.exec(select(Install)).all() == []


def test_times_come_back_in_utc(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        session.add(Install(id="x", source="hf://a/b"))
    with Session(engine) as session:
        install = session.get_one(Install, "x")
        assert install.created_at.utcoffset() is not None


def test_every_table_is_migrated(engine: Engine) -> None:
    assert {t.name for t in SQLModel.metadata.sorted_tables} <= set(inspect(engine).get_table_names())


def test_postgresql_compares_by_code_point_what_pages_and_prefixes_rest_on(engine: Engine) -> None:
    """SQLite does so by itself; a PostgreSQL server's own language would order names otherwise."""
    described = [(t.name, c.name) for t in SQLModel.metadata.sorted_tables for c in t.columns if c.type is CODE_POINTS]
    assert described == [
        ("model", "name_key"),
        ("placed", "path"),
        ("digest", "value"),
        ("seen", "path"),
    ]
    if engine.dialect.name == "postgresql":
        for table, column in described:
            found = next(c for c in inspect(engine).get_columns(table) if c["name"] == column)
            assert found["type"].collation == "C"  # type: ignore[attr-defined]


def test_revisions_are_numbered_in_their_order() -> None:
    """registry/db.py tells the newest by its file's name."""
    files = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
    numbers = [file.name.split("_")[0] for file in files]
    assert numbers == [f"{n:04}" for n in range(1, len(files) + 1)]
    for before, file in zip([None, *numbers], files, strict=False):
        assert f'revision = "{file.name.split("_")[0]}"' in file.read_text()
        assert f"down_revision = {before and chr(34) + before + chr(34)}" in file.read_text()
