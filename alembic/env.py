"""Runs the migrations on the connection that registry/db.py hands over, or on the settings' database."""

from sqlmodel import SQLModel

import registry.tables  # noqa: F401  (fills SQLModel.metadata)
from alembic import context
from registry.db import in_tables, make_engine, whole_schema_change
from registry.settings import Settings


def run(connection):
    # SQLite cannot alter most columns in place; batch mode copies the table: https://alembic.sqlalchemy.org/en/latest/batch.html
    context.configure(
        connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True, include_object=in_tables
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with whole_schema_change(make_engine(Settings().database)) as connection:
        run(connection)
