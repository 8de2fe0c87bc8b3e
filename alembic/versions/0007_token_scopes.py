"""what a token opens; those that are there open everything, as they did"""

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    every = '["generate", "manage", "read"]'
    op.add_column("api_token", sa.Column("scopes", sa.JSON, nullable=False, server_default=sa.text(f"'{every}'")))
    with op.batch_alter_table("api_token") as table:
        table.alter_column("scopes", server_default=None, existing_type=sa.JSON, existing_nullable=False)


def downgrade() -> None:
    op.drop_column("api_token", "scopes")
