"""how a source is to be installed"""

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("install") as table:
        table.add_column(sa.Column("options", sa.JSON, nullable=False, server_default="{}"))
    with op.batch_alter_table("install") as table:  # the default was for the rows that were there
        table.alter_column("options", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("install") as table:
        table.drop_column("options")
