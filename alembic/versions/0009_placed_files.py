"""the files that modelshelf has written: `gc` removes no others"""

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"

CODE_POINTS = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table("placed", sa.Column("path", CODE_POINTS, primary_key=True))
    op.execute(
        "INSERT INTO placed SELECT CASE file.path WHEN '' THEN model.path ELSE model.path || '/' || file.path END "
        "FROM file JOIN model ON model.id = file.model_id WHERE model.managed"
    )


def downgrade() -> None:
    op.drop_table("placed")
