"""why a scan passes files over"""

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"

ADDED = {
    "seen": sa.Column("code", sa.String, server_default=""),
    "scan": sa.Column("skips", sa.JSON, server_default="[]"),
}


def upgrade() -> None:
    for table, column in ADDED.items():
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column(column.name, column.type, nullable=False, server_default=column.server_default))
        with op.batch_alter_table(table) as batch:  # the default was for the rows that were there
            batch.alter_column(column.name, server_default=None)
    # Of these the reason is on record, and not what kind of reason it is: the next scan reads their headers once more.
    op.execute("DELETE FROM seen WHERE model_id IS NULL")


def downgrade() -> None:
    for table, column in ADDED.items():
        with op.batch_alter_table(table) as batch:
            batch.drop_column(column.name)
