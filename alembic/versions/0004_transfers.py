"""partial files: which version each is the beginning of"""

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "transfer",
        sa.Column("staging", sa.String, primary_key=True),
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("revision", sa.String),
        sa.Column("etag", sa.String),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("transfer")
