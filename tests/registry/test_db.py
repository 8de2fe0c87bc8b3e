"""The migrations make the schema that the tables describe, once, and a unit of work is all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect
from sqlmodel import Session, SQLModel, select

from registry.db import make_engine, migrate, unit_of_work
from registry.tables import Install


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = make_engine(f"sqlite:///{tmp_path / 'deep' / 'er' / 'registry.db'}")
    migrate(made)
    return made


def test_migrations_and_tables_agree(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), SQLModel.metadata) == []


def test_migrating_again_does_nothing(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        session.add(Install(source="hf://a/b"))
    migrate(engine)
    with Session(engine) as session:
        assert len(session.exec(select(Install)).all()) == 1


def test_sqlite_lets_readers_go_on_while_somebody_writes(engine: Engine) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


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
