"""installs: attempts, rate, notes"""

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("install") as table:
        table.add_column(sa.Column("attempt", sa.Integer, nullable=False, server_default="1"))
        table.add_column(sa.Column("bytes_per_second", sa.Float))
        table.add_column(sa.Column("filename", sa.String))
        table.add_column(sa.Column("staging", sa.String))
        table.add_column(sa.Column("notes", sa.JSON, nullable=False, server_default="[]"))
    with op.batch_alter_table("install") as table:  # the defaults were for the rows that were there
        table.alter_column("attempt", server_default=None)
        table.alter_column("notes", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("install") as table:
        for column in ("notes", "staging", "filename", "bytes_per_second", "attempt"):
            table.drop_column(column)
